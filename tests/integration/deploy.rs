//! What is shipped beside the binary fits the binary.

use std::{collections::BTreeSet, fs, path::Path};

/// Alerts and dashboard name no metric that does not exist: Prometheus would never tell.
///
/// Read off the source, since the page leaves out what nothing has been counted for yet.
#[test]
fn alerts_and_dashboard_name_metrics_that_exist() {
    let known = registered();
    assert!(known.contains("causeway_transfer_bytes"), "{known:?}");
    for file in ["alerts.yaml", "dashboard.json"] {
        let text = read(&format!("helm/causeway/files/{file}"));
        let named = metrics(&text);
        assert!(named.len() > 8, "{file} names {named:?}");
        for name in named {
            // Counters carry `_total` and histograms `_bucket` behind the name of their family.
            let family = ["_total", "_bucket", "_count", "_sum"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .unwrap_or(name);
            assert!(known.contains(family), "{file} names {name}: {known:?}");
        }
    }
}

/// Families by their name and unit, from every call that registers one.
fn registered() -> BTreeSet<String> {
    let text = read("src/observe/metrics.rs");
    let calls = text.split(".register").skip(1).filter_map(|call| {
        let call = &call[..call.find(");")?];
        let unit = call.split("Unit::").nth(1).map(|rest| {
            let unit: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
            format!("_{}", unit.to_ascii_lowercase())
        });
        let name = call.split('"').nth(1)?;
        Some(format!("causeway_{name}{}", unit.unwrap_or_default()))
    });
    calls.collect()
}

/// Words that begin with the prefix of our metrics.
fn metrics(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_part(c))
        .filter(|word| word.starts_with("causeway_"))
        .collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}
