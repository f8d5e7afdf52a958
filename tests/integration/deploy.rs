//! What is shipped beside the binary fits the binary.

use std::{collections::BTreeSet, fs, path::Path};

use crate::harness::{Server, Store, http_get};

/// Alerts and dashboard name no metric that does not exist: Prometheus would never tell.
#[test]
fn alerts_and_dashboard_name_metrics_that_exist() {
    let store = Store::local();
    let server = Server::start(&store);
    let (status, page) = http_get(server.admin, "/metrics");
    assert_eq!(status, 200);
    // Counters carry `_total` and histograms `_bucket` only behind the name of their family.
    let known: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split_once(' '))
        .map(|(name, _)| name)
        .collect();
    for file in ["alerts.yaml", "dashboard.json"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("helm/causeway/files")
            .join(file);
        let text = fs::read_to_string(&path).unwrap();
        let named = metrics(&text);
        assert!(named.len() > 8, "{file} names {named:?}");
        for name in named {
            let family = ["_total", "_bucket", "_count", "_sum"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name);
            assert!(known.contains(family), "{file} names {name}: {known:?}");
        }
    }
}

/// Words that begin with the prefix of our metrics.
fn metrics(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_part(c))
        .filter(|word| word.starts_with("causeway_"))
        .collect()
}
