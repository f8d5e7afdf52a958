//! The directions of the design, read off the source text: who may import what.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<(String, String)> {
    fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&root().join("src"), &mut found);
    found
        .into_iter()
        .map(|path| {
            let name = path
                .strip_prefix(root())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// Files whose code, comments aside, names a path that starts with `name`.
fn files_naming(name: &str) -> Vec<String> {
    let names = |line: &str| {
        let code = line.split("//").next().unwrap();
        code.match_indices(name).any(|(at, _)| {
            let before = code[..at].chars().next_back();
            !before.is_some_and(|before| before.is_alphanumeric() || before == '_')
        })
    };
    sources()
        .into_iter()
        .filter(|(_, text)| text.lines().any(names))
        .map(|(file, _)| file)
        .collect()
}

#[track_caller]
fn assert_only_in(word: &str, places: &[&str]) {
    let strays: Vec<String> = files_naming(word)
        .into_iter()
        .filter(|name| !places.iter().any(|place| name.starts_with(place)))
        .collect();
    assert!(
        strays.is_empty(),
        "`{word}` belongs to {places:?}, found in {strays:?}"
    );
}

#[test]
fn only_the_store_speaks_to_object_stores() {
    assert_only_in("opendal::", &["src/store/"]);
    assert_only_in("aws_sdk_s3::", &["src/store/object/s3/"]);
}

#[test]
fn only_the_engine_drives_libunftp() {
    assert_only_in("libunftp::", &["src/engine"]);
}

#[test]
fn server_tls_is_configured_in_one_folder() {
    let files = files_naming("ServerConfig::builder");
    assert_eq!(files.len(), 1, "rustls::ServerConfig is built in {files:?}");
    assert_only_in("ServerConfig", &["src/edge/tls/"]);
    assert_only_in("x509_parser::", &["src/edge/tls/", "src/validity.rs"]);
}

#[test]
fn only_one_module_knows_the_yaml_crate() {
    assert_only_in("serde_yaml::", &["src/config/yaml.rs"]);
    assert_only_in("serde_norway::", &[]);
}

#[test]
fn paths_and_grants_do_no_input_or_output() {
    for (name, text) in sources() {
        if name.starts_with("src/access") {
            for word in ["tokio", "std::fs", "std::net", "async fn"] {
                assert!(!text.contains(word), "{name} names {word}");
            }
        }
    }
}

/// Modules in the order of the flow; none names one above it.
#[test]
fn no_module_knows_one_above_it() {
    for (module, above) in [
        (
            "access",
            &[
                "auth", "store", "engine", "edge", "listen", "app", "cli", "admin",
            ][..],
        ),
        (
            "config",
            &["store", "engine", "edge", "listen", "app", "cli", "admin"],
        ),
        (
            "store",
            &["auth", "engine", "edge", "listen", "app", "cli", "admin"],
        ),
        (
            "auth",
            &["store", "engine", "edge", "listen", "app", "cli", "admin"],
        ),
        ("engine", &["listen", "app", "cli", "admin"]),
        ("edge", &["listen", "app", "cli", "admin"]),
        ("listen", &["app", "cli", "admin"]),
        ("app", &["cli"]),
    ] {
        for (name, text) in sources() {
            let own = format!("src/{module}");
            if name != format!("{own}.rs") && !name.starts_with(&format!("{own}/")) {
                continue;
            }
            for line in text.lines() {
                let code = line.split("//").next().unwrap();
                for other in above {
                    assert!(
                        !code.contains(&format!("crate::{other}::")),
                        "{name} knows `{other}`, which is above it: {line}"
                    );
                }
            }
        }
    }
}

/// The tree stands alone: nothing in it names the machine it was written on.
#[test]
fn no_file_names_a_private_place() {
    // In pieces, so that this file does not name them.
    let words = [["/wo", "rk/"], ["py", "env"], ["/tmp", "/wt"]].map(|parts| parts.concat());
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "git ls-files");
    for name in String::from_utf8(output.stdout)
        .unwrap()
        .split_terminator('\0')
    {
        let Ok(text) = fs::read_to_string(root().join(name)) else {
            continue;
        };
        for word in &words {
            assert!(!text.contains(word.as_str()), "{name} names {word}");
        }
    }
}

/// What holds secrets or speaks TLS is there once.
#[test]
fn tls_and_crypto_are_locked_once() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for name in ["rustls", "tokio-rustls", "aws-lc-rs", "rustls-webpki"] {
        let count = lock.matches(&format!("\nname = \"{name}\"\n")).count();
        assert_eq!(count, 1, "versions of {name}");
    }
}

/// One TLS stack and one crypto provider.
#[test]
fn dependency_tree_has_neither_ring_nor_openssl() {
    for name in ["ring", "openssl", "native-tls"] {
        let output = Command::new(env!("CARGO"))
            .args([
                "tree",
                "--locked",
                "--offline",
                "--edges",
                "normal",
                "--invert",
                name,
            ])
            .current_dir(root())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let absent = !output.status.success() || text.trim().is_empty();
        assert!(absent, "{name} is in the tree:\n{text}");
    }
}
