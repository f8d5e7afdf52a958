//! A local disk that is full, and a server that is killed in mid-upload.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Raw, Server, Store, bytes, until};

/// A file system of its own in memory; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(directory: &Path, size: &str) -> Self {
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=0755"),
                "tmpfs",
            ])
            .arg(directory)
            .status()
            .unwrap();
        assert!(mounted.success(), "mounting a tmpfs needs root");
        Self(directory.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whatever still holds a file there is killed by then, or ends by itself.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn temporary_files(root: &Path) -> usize {
    std::fs::read_dir(root.join(".causeway-uploads"))
        .unwrap()
        .count()
}

/// The reply to an upload that may be refused, cut or taken.
fn upload(raw: &mut Raw, line: &str, content: &[u8]) -> u16 {
    let mut data = raw.open_data();
    let reply = raw.command(line);
    if reply.code != 150 {
        return reply.code;
    }
    data.handshake().unwrap();
    // The server may end the connection before all is sent.
    if data.write(content).is_ok() {
        data.send_close_notify();
        data.send_fin();
    }
    raw.reply().code
}

#[test]
fn a_full_disk_ends_an_upload_with_552_and_keeps_what_was_there() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    let _disk = Disk::mount(root, "16m");
    for free_space in [0, 4 << 20] {
        let server = Server::with(&Store::Memory)
            .set(
                "/backends/main",
                json!({"type": "fs", "root": root, "free_space_bytes": free_space}),
            )
            .start();
        let mut raw = Raw::explicit(&server);
        let old = bytes(1, 2 << 20);
        raw.store("STOR file", &old);
        for line in ["STOR file", "STOR new", "APPE file"] {
            assert_eq!(upload(&mut raw, line, &bytes(2, 32 << 20)), 552, "{line}");
            until(
                Duration::from_secs(10),
                "no temporary file",
                || match temporary_files(root) {
                    0 => Ok(()),
                    left => Err(format!("{left} left")),
                },
            );
            assert!(raw.retrieve("RETR file") == old);
            raw.expect("SIZE new", 550);
        }
        // What fits goes on.
        raw.store("STOR small", b"small");
        let free: u64 = raw.expect("AVBL", 213).text()[4..].trim().parse().unwrap();
        assert!(free < 16 << 20, "{free}");
        drop(raw);
        drop(server);
    }
}

/// No rename leads from the upload area to another disk, so what would fail at the end is refused at the start.
#[test]
fn another_disk_below_the_root_is_refused_before_a_byte_has_moved() {
    let store = Store::local();
    store.make_home("alice");
    let place = store.local_root().join("alice/disk");
    std::fs::create_dir(&place).unwrap();
    let _disk = Disk::mount(&place, "16m");
    let server = Server::start(&store);
    let mut raw = Raw::explicit(&server);
    let _data = raw.open_data();
    raw.expect("STOR disk/file", 553);
    raw.store("STOR file", b"as it was");
    raw.expect("RNFR file", 350);
    raw.expect("RNTO disk/file", 553);
    assert_eq!(
        store.bytes("alice/file").as_deref(),
        Some(&b"as it was"[..])
    );
    raw.names("NLST disk");
}

#[test]
fn what_a_killed_server_left_is_gone_after_the_next_start() {
    let store = Store::local();
    for durability in ["full", "fast"] {
        let mut backend = store.backend();
        backend["durability"] = durability.into();
        let start = || {
            Server::with(&store)
                .set("/backends/main", backend.clone())
                .start()
        };
        let server = start();
        let mut raw = Raw::explicit(&server);
        raw.store("STOR kept", durability.as_bytes());
        let mut data = raw.begin_transfer("STOR kept");
        data.write(&bytes(1, 3 << 20)).unwrap();
        until(
            Duration::from_secs(10),
            "a temporary file",
            || match temporary_files(store.local_root()) {
                1 => Ok(()),
                found => Err(format!("{found} found")),
            },
        );
        // With SIGKILL.
        drop(server);
        assert_eq!(temporary_files(store.local_root()), 1);
        let server = start();
        assert_eq!(temporary_files(store.local_root()), 0);
        let mut raw = Raw::explicit(&server);
        assert_eq!(raw.retrieve("RETR kept"), durability.as_bytes());
        assert_eq!(raw.names("NLST"), ["kept"]);
    }
}
