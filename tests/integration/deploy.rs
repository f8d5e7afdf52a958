//! What is shipped beside the binary fits the binary.

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use crate::harness::run_to_end;

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

/// The run book names no reply, metric, log line or command that does not exist, and has every reply that
/// an operator is called for.
#[test]
fn run_book_names_only_what_exists() {
    let book = read("docs/operations.md");
    let known = registered();
    let process = read("src/observe/process.rs");
    let source = source();
    let mut symptoms = 0;
    for row in book.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [symptom, _, metric, log, _] = cells[..] else {
            continue;
        };
        if symptom == "The client" || symptom == "What" || symptom.starts_with("---") {
            continue;
        }
        symptoms += 1;
        for reply in code_spans(symptom) {
            let Some((code, text)) = reply.split_once(' ') else {
                continue;
            };
            assert!(code.parse::<u16>().is_ok(), "{reply}");
            assert!(source.contains(text), "no reply says {text:?}");
        }
        for line in code_spans(log).filter(|span| span.contains(' ')) {
            assert!(source.contains(line), "no log line says {line:?}");
        }
        for name in metrics(metric) {
            let family = name.strip_suffix("_total").unwrap_or(name);
            assert!(
                known.contains(family),
                "there is no metric {name}: {known:?}"
            );
        }
        let of_process = |word: &&str| word.starts_with("process_");
        for name in code_spans(metric).filter(of_process) {
            let bare = name.trim_end_matches("_bytes");
            assert!(process.contains(bare), "there is no metric {name}");
        }
    }
    assert!(symptoms > 40, "{symptoms}");
    for code in [
        421, 425, 426, 450, 451, 452, 521, 522, 530, 550, 552, 553, 554,
    ] {
        assert!(
            book.contains(&format!("| `{code}")) || book.contains(&format!("`{code} ")),
            "{code}"
        );
    }
    let mut commands = BTreeSet::new();
    let lines = book.lines().filter(|line| line.starts_with("causeway "));
    for text in code_spans(&book).chain(lines) {
        if let Some(words) = text.strip_prefix("causeway ") {
            commands.insert(
                words
                    .split(['#', '>', ';'])
                    .next()
                    .unwrap()
                    .trim()
                    .to_owned(),
            );
        }
    }
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        assert_command_exists(&command);
    }
}

/// Asks the binary for the help of a command, and looks for its switches there.
#[track_caller]
fn assert_command_exists(command: &str) {
    let is_name = |word: &&str| {
        word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
    };
    let words: Vec<&str> = command.split_whitespace().collect();
    // What a command takes is written in capitals, or is a switch.
    let names: Vec<&str> = words.iter().copied().take_while(is_name).collect();
    let names: Vec<&str> = match names[..] {
        // `causeway schema users`: a value, not a command.
        ["schema", ..] => vec!["schema"],
        _ => names,
    };
    let mut process = Command::new(env!("CARGO_BIN_EXE_causeway"));
    process.args(&names).arg("--help");
    let (status, help, errors) = run_to_end(process, Duration::from_secs(30));
    assert!(status.success(), "causeway {command}: {errors}");
    for switch in words.iter().filter(|word| word.starts_with('-')) {
        assert!(
            help.contains(switch),
            "causeway {command}: no {switch} in {help}"
        );
    }
}

/// What stands between backquotes.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Every source file, with texts that go over lines joined.
fn source() -> String {
    fn add(directory: &Path, text: &mut String) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(&path, text);
            } else if path.extension().is_some_and(|end| end == "rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut text = String::new();
    add(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut text,
    );
    text
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
