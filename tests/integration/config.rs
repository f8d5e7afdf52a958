//! `causeway schema` and `causeway config print`: what files may say, and what they come to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use causeway::config::Config;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::run_to_end;

const PATIENCE: Duration = Duration::from_mins(2);

fn causeway(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args(arguments);
    let (status, output, errors) = run_to_end(command, PATIENCE);
    assert!(status.success(), "{arguments:?}: {errors}");
    output
}

/// `load`, which takes `on` and `off` for words as YAML 1.2 does; `PyYAML` is of 1.1.
const YAML_1_2: &str = r#"
import re, yaml
class Loader(yaml.SafeLoader): pass
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), list("tf"))
def load(text): return yaml.load(text, Loader)
"#;

/// Runs a script of Python with these arguments.
fn python(script: &str, arguments: &[PathBuf]) -> String {
    let script = format!("{YAML_1_2}\n{script}");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut command = Command::new(tests.join(".venv/bin/python"));
    command.args(["-c", &script]).args(arguments);
    let (status, output, errors) = run_to_end(command, PATIENCE);
    assert!(status.success(), "{errors}");
    output
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The schema of a file, in a file.
fn schema(directory: &TempDir, of: &str) -> PathBuf {
    let file = directory.path().join(format!("{of}.schema.json"));
    fs::write(&file, causeway(&["schema", of])).unwrap();
    file
}

/// The example with the `#` in front of keys taken away, as JSON.
fn full_example() -> Value {
    let text = fs::read_to_string(repository("config.example.yaml")).unwrap();
    let uncomment = |line: &str| {
        let bare = line.trim_start();
        match bare.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => {
                format!("{}{rest}\n", &line[..line.len() - bare.len()])
            }
            _ => format!("{line}\n"),
        }
    };
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("full.yaml");
    fs::write(&file, text.lines().map(uncomment).collect::<String>()).unwrap();
    let script = "import json, sys; print(json.dumps(load(open(sys.argv[1]))))";
    serde_json::from_str(&python(script, &[file])).unwrap()
}

/// A real validator finds the schemas good, and every configuration and users file that is shipped.
#[test]
fn shipped_files_follow_the_schema() {
    let directory = TempDir::new().unwrap();
    let script = r#"
import json, pathlib, re, sys, jsonschema
root, *schemas = map(pathlib.Path, sys.argv[1:])
config, users = (json.loads(file.read_text()) for file in schemas)
for schema in config, users:
    jsonschema.Draft202012Validator.check_schema(schema)
config, users = map(jsonschema.Draft202012Validator, (config, users))
files = [root / "config.example.yaml"]
for file in sorted((root / "deploy").rglob("*.y*ml")) + sorted((root / "tests").rglob("*causeway*.yaml")):
    try:
        document = load(file.read_text())
    except yaml.YAMLError:
        continue
    if isinstance(document, dict) and "listeners" in document and "backends" in document:
        files.append(file)
for file in files:
    config.validate(load(file.read_text()))
# What the chart makes of its values is a key of a ConfigMap or Secret.
charts = 0
for file in sorted((root / "tests/chart/golden").glob("*.yaml")):
    for document in yaml.load_all(file.read_text(), Loader):
        data = (document or {}).get("data") or (document or {}).get("stringData") or {}
        for name, text in data.items():
            if name == "causeway.yaml" or ("listeners:" in str(text) and "backends:" in str(text)):
                config.validate(text if isinstance(text, dict) else load(text))
                charts += 1
# The examples of the documentation.
blocks = 0
for text in re.findall(r"```yaml\n(.*?)```", (root / "docs/users.md").read_text(), re.S):
    document = load(text.replace("…", "x"))
    if isinstance(document, dict) and document.keys() <= {"users", "groups"}:
        users.validate(document)
        blocks += 1
for wrong in {"listeners": 1}, {"nothing": 1}, []:
    assert not config.is_valid(wrong), wrong
    assert not users.is_valid(wrong), wrong
print(len(files), charts, blocks)
"#;
    let arguments = [
        repository(""),
        schema(&directory, "config"),
        schema(&directory, "users"),
    ];
    let counts = python(script, &arguments);
    let counts: Vec<usize> = counts
        .split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect();
    assert!(
        counts.iter().all(|count| *count > 0),
        "validated: {counts:?}"
    );
}

/// Every value of a document, by its JSON pointer.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(entries) => {
            for (key, below) in entries {
                let key = key.replace('~', "~0").replace('/', "~1");
                pointers(below, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, below) in items.iter().enumerate() {
                pointers(below, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// Whether the reader found something that is not of the right kind, as opposed to a wrong meaning.
fn is_of_the_wrong_kind(message: &str) -> bool {
    // Rates of 0 or at least a KiB, and ports from 1024 on, or 0: more than a schema says of a number.
    let meaning = message.contains("or at least") || message.contains("ports such as");
    let kind = [
        "unknown key",
        "found the string",
        "found the number",
        "found `",
        "found a ",
        "found nothing",
    ];
    !meaning && kind.iter().any(|word| message.contains(word))
}

/// What the reader takes the schema takes, and what the schema takes has no value of the wrong kind, for
/// hundreds of files that are wrong in one place.
#[test]
fn schema_and_reader_agree() {
    let directory = TempDir::new().unwrap();
    let full = full_example();
    let mut places = Vec::new();
    pointers(&full, "", &mut places);
    let wrong = [
        json!(null),
        json!(true),
        json!(7),
        json!(-1),
        json!("x"),
        json!([]),
        json!({}),
        json!({"zzz": 1}),
        json!(1.5),
        json!([{}]),
        json!(""),
        json!({"env": "CAUSEWAY_X"}),
    ];
    let environment = |name: &str| match name {
        "CAUSEWAY_REDIS_URL" => Some("rediss://127.0.0.1:6379/0".to_owned()),
        _ => Some(format!("value of {name}")),
    };
    let judged = |document: &Value| {
        let file = Path::new("/etc/causeway/causeway.yaml");
        let parsed = Config::parse(&document.to_string(), file, &environment);
        let errors = parsed.err().map_or_else(Vec::new, |errors| errors.errors);
        let kind = errors
            .iter()
            .filter(|error| is_of_the_wrong_kind(&error.message));
        let kind: Vec<String> = kind.map(ToString::to_string).collect();
        json!({"document": document, "accepted": errors.is_empty(), "wrong_kind": kind}).to_string()
    };
    let mut lines = vec![judged(&full)];
    if let Err(errors) = Config::parse(&full.to_string(), Path::new("/c.yaml"), &environment) {
        panic!("{errors}");
    }
    for (number, place) in places.iter().enumerate() {
        for turn in 0..2 {
            let mut document = full.clone();
            let value = wrong[(number * 5 + turn * 7) % wrong.len()].clone();
            *document.pointer_mut(place).unwrap() = value;
            lines.push(judged(&document));
        }
        // And without it.
        if let Some((parent, key)) = place.rsplit_once('/') {
            let mut document = full.clone();
            if let Some(Value::Object(entries)) = document.pointer_mut(parent) {
                entries.remove(key);
                lines.push(judged(&document));
            }
        }
    }
    assert!(lines.len() > 800, "{}", lines.len());
    let file = directory.path().join("judged.jsonl");
    fs::write(&file, lines.join("\n")).unwrap();
    let script = r#"
import json, sys, jsonschema
validator = jsonschema.Draft202012Validator(json.load(open(sys.argv[1])))
refused = 0
for line in open(sys.argv[2]):
    judged = json.loads(line)
    error = next(validator.iter_errors(judged["document"]), None)
    refused += error is not None
    if judged["accepted"] and error:
        print("the reader takes it, the schema does not:", error.json_path, error.message[:300])
    if judged["wrong_kind"] and not error:
        print("the schema takes it, the reader does not:", *judged["wrong_kind"])
assert refused > 300, refused
"#;
    let said = python(script, &[schema(&directory, "config"), file]);
    assert_eq!(said, "");
}

const CONFIG: &str = "\
listeners: [{name: a, address: \"127.0.0.1:2121\", mode: explicit}]
tls: {certificate_file: c.pem, key_file: k.pem}
users: {file: users.yaml}
backends:
  bucket: {type: s3, bucket: b, endpoint: \"http://127.0.0.1:9000\", access_key_id: id,
           secret_access_key: very-secret-indeed}
  other: {type: azblob, container: c, account: a, account_key: {env: CAUSEWAY_TEST_KEY}}
mounts: [{path: /, backend: bucket}]
admin: {address: \"127.0.0.1:0\", token: {file: token}}
";

#[test]
fn print_shows_defaults_and_no_secret() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("causeway.yaml");
    fs::write(&file, CONFIG).unwrap();
    fs::write(directory.path().join("token"), "0123456789abcdef\n").unwrap();
    let print = |format: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        command.env("CAUSEWAY_TEST_KEY", "a2V5LWZyb20tdGhlLWVudmlyb25tZW50");
        command
            .args(["config", "print", "--format", format, "-c"])
            .arg(&file);
        let (status, output, errors) = run_to_end(command, PATIENCE);
        assert!(status.success(), "{errors}");
        for secret in ["very-secret", "0123456789abcdef", "a2V5"] {
            assert!(!output.contains(secret), "{output}");
        }
        output
    };
    let json: Value = serde_json::from_str(&print("json")).unwrap();
    for (pointer, value) in [
        ("/timeouts/idle_seconds", json!(900)),
        ("/limits/connections_per_network", json!(500)),
        ("/listeners/0/passive/ports", json!("50000-50100")),
        ("/listeners/0/passive/ports_per_user", json!(25)),
        (
            "/tls/certificate_file",
            json!(directory.path().join("c.pem")),
        ),
        ("/auth/sources", json!(["users"])),
        ("/backends/bucket/region", json!("us-east-1")),
        ("/backends/bucket/provider", json!("generic")),
        ("/backends/bucket/secret_access_key", json!("***")),
        (
            "/backends/other/account_key",
            json!({"env": "CAUSEWAY_TEST_KEY"}),
        ),
        (
            "/admin/token",
            json!({"file": directory.path().join("token")}),
        ),
        ("/mounts/0/prefix", json!("{home}")),
    ] {
        assert_eq!(json.pointer(pointer), Some(&value), "{pointer}: {json:#}");
    }
    // What is off is not there.
    for key in ["audit", "events", "shared_counters", "profiles"] {
        assert_eq!(json.get(key), None, "{key}");
    }
    // Read again elsewhere, with the one masked secret put back, it is the same.
    let yaml = print("yaml");
    let environment = |_: &str| Some("a2V5LWZyb20tdGhlLWVudmlyb25tZW50".to_owned());
    let first = Config::parse(CONFIG, &file, &environment).unwrap();
    assert!(yaml.contains("'***'") || yaml.contains("\"***\""), "{yaml}");
    let whole = yaml.replace("***", "very-secret-indeed");
    let second = Config::parse(&whole, Path::new("/elsewhere.yaml"), &environment).unwrap();
    assert_eq!(first, second);
}
