//! The metrics page: what it names, whom it suits.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpListener,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::harness::{Raw, Server, Store, Version, http, http_get, run_with_input, until};

const PATIENCE: Duration = Duration::from_mins(1);

/// A server that has done a little of everything.
fn busy(store: &Store) -> Server {
    let server = Server::with(store)
        .set("/audit", serde_json::json!({"file": "audit.jsonl"}))
        .start();
    let mut raw = Raw::explicit(&server);
    raw.store("STOR file", b"content");
    assert_eq!(raw.retrieve("RETR file"), b"content");
    raw.names("NLST");
    raw.expect("DELE nothing", 550);
    let mut guest = Raw::secured(&server, &server.tls(Version::Tls12));
    guest.expect("USER alice", 331);
    guest.expect("PASS wrong", 530);
    // No ClientHello.
    let mut stranger = Raw::silent(server.implicit);
    stranger.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    until(PATIENCE, "the handshake has failed", || {
        let failed = server.metric(
            "causeway_tls_handshake_failures_total",
            &["channel=\"control\"", "reason=\"protocol\""],
        );
        (failed >= 1.0).then_some(()).ok_or(failed.to_string())
    });
    server
}

/// Name, type and labels of everything on a page in the older form.
fn named(page: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut named = BTreeMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            named.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((name, rest)) = line.split_once('{') {
            let parts = ["_bucket", "_sum", "_count"];
            let base = parts.iter().find_map(|part| name.strip_suffix(part));
            let name = base
                .filter(|base| named.contains_key(*base))
                .unwrap_or(name);
            let labels = rest.rsplit_once('}').unwrap().0;
            let labels = labels
                .split("\",")
                .map(|label| label.split('=').next().unwrap());
            let labels = labels.filter(|label| *label != "le" && !label.is_empty());
            let known = &mut named.get_mut(name).unwrap().1;
            known.extend(labels.map(str::to_owned));
        }
    }
    named
}

/// `docs/metrics.md` names everything that is on the page, with its type and labels, and nothing that
/// the code does not know.
#[test]
fn table_of_metrics_is_that_of_the_page() {
    let store = Store::local();
    let server = busy(&store);
    let (status, page) = http_get(server.admin, "/metrics");
    assert_eq!(status, 200);
    assert!(!page.contains("# EOF"), "the older form is the default");
    let root = env!("CARGO_MANIFEST_DIR");
    let text = fs::read_to_string(format!("{root}/docs/metrics.md")).unwrap();
    let mut documented = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let plain = |cell: &str| cell.replace('`', "");
        let labels = plain(cells[3]);
        let labels = labels.split(", ").filter(|label| !label.is_empty());
        let labels: BTreeSet<_> = labels.map(str::to_owned).collect();
        documented.insert(plain(cells[1]), (plain(cells[2]), labels));
    }
    let seen = named(&page);
    assert!(seen.len() > 25, "{seen:?}");
    for (name, (kind, labels)) in &seen {
        let Some((documented_kind, documented_labels)) = documented.get(name) else {
            panic!("docs/metrics.md lacks {name} ({kind}) {labels:?}");
        };
        assert_eq!(kind, documented_kind, "{name}");
        if !labels.is_empty() {
            assert_eq!(labels, documented_labels, "{name}");
        }
    }
    let source = ["metrics.rs", "process.rs"]
        .map(|name| fs::read_to_string(format!("{root}/src/observe/{name}")).unwrap())
        .concat();
    for name in documented.keys() {
        let mut base = name.strip_prefix("causeway_").unwrap_or(name);
        for suffix in ["_total", "_info", "_bytes", "_seconds"] {
            base = base.strip_suffix(suffix).unwrap_or(base);
        }
        let registered = format!("\"{base}\"");
        assert!(source.contains(&registered), "nothing is called {name}");
    }
}

#[test]
fn promtool_has_nothing_to_say() {
    let store = Store::local();
    let server = busy(&store);
    let (_, page) = http_get(server.admin, "/metrics");
    let file = server.scratch().join("page");
    fs::write(&file, &page).unwrap();
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]);
    let input = Stdio::from(fs::File::open(file).unwrap());
    let (status, output, errors) = run_with_input(command, input, PATIENCE);
    assert!(status.success(), "{output}{errors}");
}

#[test]
fn prometheus_scrapes_the_page() {
    let store = Store::local();
    let server = busy(&store);
    let accept = [("Accept", "application/openmetrics-text;version=1.0.0")];
    let (_, page) = http(server.admin, "GET", "/metrics", &accept, "");
    assert!(page.ends_with("# EOF\n"), "{page}");
    let scratch = server.scratch();
    let config = scratch.join("prometheus.yaml");
    let text = format!(
        "scrape_configs:\n- job_name: causeway\n  scrape_interval: 1s\n  static_configs:\n  - targets: ['{}']\n",
        server.admin
    );
    fs::write(&config, text).unwrap();
    // Prometheus takes no port 0.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let log = fs::File::create(scratch.join("prometheus.log")).unwrap();
    let mut prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            scratch.join("tsdb").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("prometheus, a Debian package");
    let ask = |query: &str| {
        if std::net::TcpStream::connect(address).is_err() {
            return Value::Null;
        }
        let (_, body) = http_get(address, &format!("/api/v1/query?query={query}"));
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        answer["data"]["result"][0].clone()
    };
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        until(PATIENCE, "Prometheus has the metrics", || {
            let up = ask("up");
            let stored = ask("causeway_transfers_total%7Bdirection=%22upload%22%7D");
            let ours = up["value"][1] == "1" && stored["value"][1] == "1";
            ours.then_some(()).ok_or(format!("{up} {stored}"))
        });
    }));
    prometheus.kill().unwrap();
    prometheus.wait().unwrap();
    if let Err(panic) = found {
        println!(
            "{}",
            fs::read_to_string(scratch.join("prometheus.log")).unwrap()
        );
        std::panic::resume_unwind(panic);
    }
}
