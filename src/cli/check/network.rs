//! Addresses: what can be bound here, and what clients are told.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs as _},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::report::Report;
use crate::config::{Admin, Config, Listener, MetricsAccess, PublicAddress};

/// The system's resolver has deadlines of its own, which may be long.
const LOOKUP: Duration = Duration::from_secs(10);

/// Whether everything can be bound here, and names resolve.
pub(super) fn try_all(config: &Config, report: &mut Report) {
    let mut ranges = Vec::new();
    for listener in &config.listeners {
        let what = format!("listener {}", listener.name);
        bind(&what, listener.address, report);
        let range = (listener.address.ip(), listener.passive.ports.clone());
        if !ranges.contains(&range) {
            passive_ports(listener, config, report);
            ranges.push(range);
        }
        if let PublicAddress::Dns(name) = &listener.passive.address {
            resolve(&what, name, report);
        }
    }
    if let Some(admin) = &config.admin {
        bind("admin", admin.address, report);
    }
}

/// What can be said without the network.
pub(super) fn look(config: &Config, report: &mut Report) {
    for listener in &config.listeners {
        let what = format!("listener {}", listener.name);
        let addresses: Vec<Ipv4Addr> = match &listener.passive.address {
            PublicAddress::Fixed(address) => vec![*address],
            PublicAddress::ByClient(rules) => rules
                .iter()
                // Clients of a private network may well be sent to a private address.
                .filter(|(clients, _)| clients.prefix_len() == 0)
                .map(|(_, address)| *address)
                .collect(),
            _ => Vec::new(),
        };
        for address in addresses {
            if let Some(problem) = unreachable_by(address, listener.address.ip()) {
                report.warn(
                    "network",
                    format!("{what}: passive.address {address} is {problem}"),
                );
            }
        }
        let ports = &listener.passive.ports;
        for other in &config.listeners {
            if other.address.port() != 0 && ports.contains(&other.address.port()) {
                report.warn(
                    "network",
                    format!(
                        "{what}: passive.ports {}-{} hold the port of listener {}, {}",
                        ports.start(),
                        ports.end(),
                        other.name,
                        other.address.port()
                    ),
                );
            }
        }
    }
    if let Some(admin) = &config.admin {
        exposure(admin, report);
    }
}

fn exposure(admin: &Admin, report: &mut Report) {
    if admin.address.ip().is_loopback() {
        return;
    }
    let address = admin.address;
    if admin.tls.is_none() {
        report.warn("admin", format!("admin.address {address} is reached from other machines and has no admin.tls: the token crosses the network in the clear"));
    }
    if admin.metrics == MetricsAccess::Open {
        report.warn("admin", format!("admin.metrics: open on {address}: whoever reaches it reads how much is transferred, and when"));
    }
}

fn bind(what: &str, address: SocketAddr, report: &mut Report) {
    let Err(error) = TcpListener::bind(address) else {
        return;
    };
    match error.kind() {
        ErrorKind::AddrInUse => report.warn(
            "network",
            format!("{what}: {address} is in use: by the running server, or by another program"),
        ),
        ErrorKind::PermissionDenied => report.problem(
            "network",
            format!("{what}: {address} cannot be bound: ports below 1024 need CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities), or root"),
        ),
        _ => report.problem("network", format!("{what}: {address} cannot be bound: {error}")),
    }
}

/// Ports that others hold are missing when clients want them.
fn passive_ports(listener: &Listener, config: &Config, report: &mut Report) {
    let ports = listener.passive.ports.clone();
    if *ports.end() == 0 {
        return;
    }
    let (total, ip) = (ports.len(), listener.address.ip());
    let ours = |port: u16| config.listeners.iter().any(|l| l.address.port() == port);
    let mut taken = Vec::new();
    for port in ports.clone().filter(|port| !ours(*port)) {
        match TcpListener::bind((ip, port)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::AddrInUse => taken.push(port.to_string()),
            // The address itself has been tried already.
            Err(_) => return,
        }
    }
    if taken.is_empty() {
        return;
    }
    let (name, count) = (&listener.name, taken.len());
    let (start, end) = (ports.start(), ports.end());
    taken.truncate(8);
    let which = taken.join(", ");
    let text = format!(
        "listener {name}: {count} of the {total} passive.ports {start}-{end} are in use, by the running server or by other programs: {which}{}",
        if count > taken.len() { " …" } else { "" }
    );
    if count == total {
        report.problem("network", text);
    } else {
        report.warn("network", text);
    }
}

fn resolve(what: &str, name: &str, report: &mut Report) {
    let (sender, receiver) = mpsc::sync_channel(1);
    let asked = name.to_owned();
    // Its thread may outlive the wait: the system's resolver cannot be told to stop, the process ends.
    thread::spawn(move || {
        let found = (asked.as_str(), 0).to_socket_addrs();
        // Nobody may be waiting any more.
        let _ = sender.send(found.map(|all| all.map(|one| one.ip()).collect::<Vec<_>>()));
    });
    let found = match receiver.recv_timeout(LOOKUP) {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            report.problem(
                "network",
                format!("{what}: passive.address {name} does not resolve ({error}): PASV is answered with 425"),
            );
            return;
        }
        Err(_) => {
            let seconds = LOOKUP.as_secs();
            report.problem(
                "network",
                format!("{what}: passive.address {name} does not resolve within {seconds} seconds"),
            );
            return;
        }
    };
    let first = found.iter().find_map(|ip| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    });
    match first {
        None => report.problem(
            "network",
            format!("{what}: passive.address {name} has no IPv4 address, and the 227 reply holds no other"),
        ),
        Some(ip) => {
            if let Some(problem) = unreachable_by(ip, ip.into()) {
                report.warn(
                    "network",
                    format!("{what}: passive.address {name} resolves to {ip}, which is {problem}"),
                );
            }
        }
    }
}

/// Why clients may not reach an address; one that the listener itself has is as good as the listener.
fn unreachable_by(address: Ipv4Addr, listener: IpAddr) -> Option<&'static str> {
    if listener == IpAddr::V4(address) && !address.is_documentation() {
        return None;
    }
    let [first, second, ..] = address.octets();
    match () {
        () if address.is_loopback() => {
            Some("a loopback address: only clients on this machine reach it")
        }
        () if address.is_documentation() => {
            Some("an address of documentation (RFC 5737): no client reaches it")
        }
        () if address.is_private() => {
            Some("a private address: clients on the internet do not reach it")
        }
        () if first == 100 && (64..128).contains(&second) => {
            Some("an address of a provider's NAT (RFC 6598): clients outside do not reach it")
        }
        () if address.is_link_local() || address.is_multicast() || address.is_broadcast() => {
            Some("no address that a client can connect to")
        }
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_clients_may_not_reach_are_named() {
        let elsewhere = IpAddr::from([0, 0, 0, 0]);
        for (address, word) in [
            ("8.8.8.8", None),
            ("127.0.0.1", Some("loopback")),
            ("10.1.2.3", Some("private")),
            ("192.168.0.9", Some("private")),
            ("100.64.0.1", Some("NAT")),
            ("203.0.113.10", Some("documentation")),
            ("169.254.1.1", Some("no address")),
            ("224.0.0.1", Some("no address")),
        ] {
            let said = unreachable_by(address.parse().unwrap(), elsewhere);
            assert_eq!(said.is_some(), word.is_some(), "{address}: {said:?}");
            if let (Some(said), Some(word)) = (said, word) {
                assert!(said.contains(word), "{address}: {said}");
            }
        }
        let own: Ipv4Addr = "10.1.2.3".parse().unwrap();
        assert_eq!(unreachable_by(own, own.into()), None);
    }
}
