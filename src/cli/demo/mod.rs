//! `causeway demo`: a server to try within a minute, with nothing to prepare.
//!
//! It writes an ordinary configuration into DIR and serves it exactly as `serve` would, so what it
//! shows is the product. Everything secret stays in `DIR/config`, readable by its owner only; the
//! password survives restarts, so that pasted commands keep working.

mod certificate;
mod commands;
mod files;

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use anyhow::Context as _;

use self::{commands::Commands, files::Files};
use super::{Failure, serve};
use crate::config::Config;

/// How many ports above the wanted one are tried.
const PORTS_TRIED: u16 = 50;

/// Ports on 127.0.0.1; 0 lets the system choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ports {
    explicit: u16,
    implicit: u16,
    admin: u16,
}

pub(super) fn run(data: &Path, port: Option<u16>) -> Result<(), Failure> {
    let ports = choose_ports(port, is_free)?;
    let files = Files::prepare(data, ports, SystemTime::now())
        .with_context(|| format!("cannot prepare {}", data.display()))?;
    let config = Config::load(&files.configuration())?;
    serve::start(config, serve::Hangup::Ends, |addresses| {
        announce(&files, addresses)
    })
}

/// The wanted ports, or the next free ones where they are taken. The probe may race with another
/// program; then binding fails with a clear message and the next start finds another port.
fn choose_ports(explicit: Option<u16>, is_free: impl Fn(u16) -> bool) -> anyhow::Result<Ports> {
    let next_free = |wanted: u16, taken: &[u16]| {
        let last = wanted.saturating_add(PORTS_TRIED);
        (wanted..=last)
            .find(|port| !taken.contains(port) && is_free(*port))
            .with_context(|| format!("every port from {wanted} to {last} is taken; try --port 0"))
    };
    let (explicit, implicit) = match explicit {
        Some(0) => {
            return Ok(Ports {
                explicit: 0,
                implicit: 0,
                admin: 0,
            });
        }
        // Asked for by number: exactly this one, and an error where it is taken.
        Some(port) => (
            port,
            next_free(port.checked_add(1).unwrap_or(2990), &[port])?,
        ),
        None => {
            let explicit = next_free(2121, &[])?;
            (explicit, next_free(2990, &[explicit])?)
        }
    };
    let admin = next_free(9090, &[explicit, implicit])?;
    Ok(Ports {
        explicit,
        implicit,
        admin,
    })
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Prints what to paste. The password is shown on purpose: it opens this demo only.
fn announce(files: &Files, addresses: &[(Arc<str>, SocketAddr)]) -> io::Result<()> {
    let port = |wanted: &str| {
        let address = addresses.iter().find(|(name, _)| &**name == wanted);
        address.map_or(0, |(_, address)| address.port())
    };
    let commands = Commands {
        authority: &files.authority(),
        user: files::USER,
        password: files.password(),
    };
    let (explicit, implicit, admin) = (port("explicit"), port("implicit"), port("admin"));
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "causeway demo: upload README.md of the current folder with one of these commands"
    )?;
    writeln!(out, "{}", commands.curl("ftp", explicit))?;
    writeln!(out, "{}", commands.lftp("ftp", explicit))?;
    writeln!(out, "{}", commands.curl("ftps", implicit))?;
    writeln!(out, "{}", commands.lftp("ftps", implicit))?;
    writeln!(out, "admin: http://127.0.0.1:{admin}/")?;
    writeln!(out, "files: {}", files.uploads().display())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_ports_are_stepped_over() {
        let ports = |port, taken: &[u16]| {
            let ports = choose_ports(port, |port| !taken.contains(&port)).unwrap();
            (ports.explicit, ports.implicit, ports.admin)
        };
        assert_eq!(ports(None, &[]), (2121, 2990, 9090));
        assert_eq!(ports(None, &[2121, 2122, 2990, 9090]), (2123, 2991, 9091));
        assert_eq!(ports(Some(5000), &[5000, 5001]), (5000, 5002, 9090));
        assert_eq!(ports(Some(9089), &[]), (9089, 9090, 9091));
        assert_eq!(ports(Some(65535), &[]), (65535, 2990, 9090));
        assert_eq!(ports(Some(0), &[]), (0, 0, 0));
        let error = choose_ports(None, |_| false).unwrap_err().to_string();
        assert_eq!(error, "every port from 2121 to 2171 is taken; try --port 0");
    }
}
