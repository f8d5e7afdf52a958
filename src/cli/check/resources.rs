//! Memory and descriptors of this machine against the bounds of the configuration.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::report::Report;
use crate::{config::Config, observe::process::most_descriptors};

/// What a process takes before its first client.
const BASE_BYTES: u64 = 64 << 20;
/// Of an idle TLS session, measured.
const SESSION_BYTES: u64 = 50 << 10;
/// Descriptors besides those of sessions: listeners, logs, stores' connections.
const BASE_DESCRIPTORS: u64 = 128;
/// Of a session: the client's connection, and both ends of the pair to libunftp.
const SESSION_DESCRIPTORS: u64 = 3;

pub(super) fn look(config: &Config, report: &mut Report) {
    if let Some((limit, whose)) = memory_limit(Path::new("/")) {
        memory(config, limit, &whose, report);
    }
    if let Some(limit) = most_descriptors() {
        descriptors(config, limit, report);
    }
}

fn memory(config: &Config, limit: u64, whose: &str, report: &mut Report) {
    let uploads = config.limits.upload_memory_bytes as u64;
    let sessions = config.limits.connections as u64 * SESSION_BYTES;
    let mib = |bytes: u64| bytes >> 20;
    if uploads >= limit {
        report.problem(
            "memory",
            format!(
                "limits.upload_memory_bytes is {} MiB, and {whose} is {} MiB: the system would end the server in the middle of uploads",
                mib(uploads),
                mib(limit)
            ),
        );
        return;
    }
    let all = uploads + sessions + BASE_BYTES;
    if all > limit / 10 * 9 {
        report.warn(
            "memory",
            format!(
                "up to {} MiB may be in use (limits.upload_memory_bytes {}, limits.connections {}, the server itself {}), and {whose} is {} MiB",
                mib(all),
                mib(uploads),
                mib(sessions),
                mib(BASE_BYTES),
                mib(limit)
            ),
        );
    }
}

fn descriptors(config: &Config, limit: u64, report: &mut Report) {
    let connections = config.limits.connections as u64;
    let ports: u64 = config
        .listeners
        .iter()
        .map(|listener| match *listener.passive.ports.end() {
            // As many as there are sessions.
            0 => connections,
            _ => listener.passive.ports.len() as u64,
        })
        .sum();
    let wanted = connections * SESSION_DESCRIPTORS + ports.min(connections) * 2 + BASE_DESCRIPTORS;
    if wanted > limit {
        report.warn(
            "descriptors",
            format!(
                "limits.connections {connections} and the passive ports may need {wanted} open files, and this process may have {limit}: raise it (systemd: LimitNOFILE=, shell: ulimit -n)"
            ),
        );
    }
}

/// The smallest bound on memory that holds here, and whose it is; `root` is `/` but in tests.
fn memory_limit(root: &Path) -> Option<(u64, String)> {
    let mut found = Vec::new();
    let total = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let total = total
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    if let Some(kib) = total {
        found.push((kib << 10, "the memory of this machine".to_owned()));
    }
    for (file, limit) in cgroup_limits(root) {
        found.push((
            limit,
            format!("the limit of the control group ({})", file.display()),
        ));
    }
    found.into_iter().min()
}

/// Bounds of the control group of this process and of those above it, version 2 and 1.
fn cgroup_limits(root: &Path) -> Vec<(PathBuf, u64)> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut limits = Vec::new();
    for line in groups.lines() {
        // `0::/path` is version 2, `7:memory:/path` version 1.
        let mut parts = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (base, file) = match (id, controllers) {
            ("0", "") => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let base = root.join(base);
        let own = base.join(path.trim_start_matches('/'));
        let above = own.ancestors().take_while(|one| one.starts_with(&base));
        // In a container the path of the host is not there, and the root is the container's own.
        for directory in above {
            let file = directory.join(file);
            let text = fs::read_to_string(&file).unwrap_or_default();
            // `max`, and version 1's huge number, are no bounds.
            if let Ok(limit) = text.trim().parse::<u64>()
                && limit < 1 << 60
            {
                limits.push((file, limit));
            }
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_of_memory_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        assert_eq!(memory_limit(root.path()), None);
        put(
            "proc/meminfo",
            "MemTotal:        8000000 kB\nMemFree: 1 kB\n",
        );
        assert_eq!(memory_limit(root.path()).unwrap().0, 8_000_000 << 10);
        put("proc/self/cgroup", "0::/system.slice/causeway.service\n");
        put(
            "sys/fs/cgroup/system.slice/causeway.service/memory.max",
            "max\n",
        );
        assert_eq!(memory_limit(root.path()).unwrap().0, 8_000_000 << 10);
        // A group above has a bound.
        put("sys/fs/cgroup/system.slice/memory.max", "536870912\n");
        let (limit, whose) = memory_limit(root.path()).unwrap();
        assert_eq!(limit, 512 << 20);
        assert!(whose.contains("system.slice/memory.max"), "{whose}");
        put(
            "proc/self/cgroup",
            "9:name=systemd:/a\n7:cpu,memory:/docker/abc\n",
        );
        put("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n");
        assert_eq!(memory_limit(root.path()).unwrap().0, 256 << 20);
        put(
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        assert_eq!(memory_limit(root.path()).unwrap().0, 8_000_000 << 10);
    }
}
