//! Configuration, users and certificates that change while the server runs.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use crate::harness::{
    End, Raw, Server, Store, Version, begin_downloads, begin_uploads, bytes, on_each_store, until,
};

/// Bytes of the file that is downloaded.
const DOWN: usize = 24 << 20;

on_each_store!(reload_while_20_transfers_run_disturbs_none);

/// What a reload answers.
#[track_caller]
fn reload(server: &Server) -> (Value, Value) {
    let answer = server.api("POST", "/reload", "", 200);
    (answer["changed"].clone(), answer["needs_restart"].clone())
}

fn reload_while_20_transfers_run_disturbs_none(store: &Store) {
    // More than the sockets take in: the downloads wait for their clients.
    store.put("alice/down", &bytes(7, DOWN));
    let server = Server::start(store);
    let content = bytes(8, 300_000);
    let mut uploads = begin_uploads(&server, 15, &content[..100_000]);
    let downloads = begin_downloads(&server, 5);
    assert_eq!(
        server
            .api("GET", "/transfers", "", 200)
            .as_array()
            .unwrap()
            .len(),
        20
    );

    server.configure(|config| {
        config["timeouts"]["data_stall_seconds"] = json!(5);
        config["mounts"][0]["read_only"] = json!(true);
        config["profiles"] = json!({"new": {"greeting": "A new greeting"}});
        config["listeners"][0]["profile"] = json!("new");
        config["listeners"][0]["passive"]["ports"] = json!("0");
        config["listeners"][1]["upload_end"] = json!("fin");
    });
    let (changed, needs_restart) = reload(&server);
    assert_eq!(
        changed,
        json!([
            "listeners.explicit",
            "listeners.implicit",
            "profiles",
            "mounts",
            "timeouts"
        ])
    );
    assert_eq!(needs_restart, json!([]));

    let mut raw = Raw::silent(server.explicit);
    assert_eq!(raw.reply().expect(220).text(), "220 A new greeting");
    // Old sessions go on as they began, even with further transfers.
    for (raw, data) in &mut uploads {
        data.write(&content[100_000..]).unwrap();
        raw.send(b"NOOP\r\n").unwrap();
        raw.reply().expect(200);
    }
    for (mut raw, mut data) in downloads {
        let (down, end) = data.read_all();
        assert_eq!((down.len(), end), (DOWN, End::CloseNotify));
        raw.reply().expect(226);
    }
    let mut stored = vec![("alice/down".to_owned(), bytes(7, DOWN))];
    for (index, (mut raw, data)) in uploads.into_iter().enumerate() {
        assert_eq!(data.finish(), End::CloseNotify);
        raw.reply().expect(226);
        stored.push((format!("alice/up{index}"), content.clone()));
        if index == 0 {
            raw.store("STOR later", b"later");
            stored.push(("alice/later".to_owned(), b"later".to_vec()));
        }
    }
    let mut new = Raw::explicit(&server);
    new.expect("EPSV", 229);
    new.expect("STOR refused", 550);
    let stored: Vec<_> = stored
        .iter()
        .map(|(name, content)| (name.as_str(), content.as_slice()))
        .collect();
    store.assert_holds(&stored);
}

#[test]
fn broken_file_changes_nothing_and_says_why() {
    let store = Store::local();
    let server = Server::start(&store);
    server.configure(|config| {
        config["timeouts"]["idle_seconds"] = json!(0);
        config["mounts"][0]["read_only"] = json!(true);
        config["listeners"][0]["tsl"] = json!({});
    });
    let answer = server.api("POST", "/reload", "", 422);
    let mistakes = answer["mistakes"].to_string();
    for part in ["timeouts.idle_seconds", "listeners[0].tsl: unknown key"] {
        assert!(mistakes.contains(part), "{answer:#}");
    }
    let failed = server.metric("causeway_config_reloads_total", &["failed"]);
    assert!(failed >= 1.0, "{failed}");
    let mut raw = Raw::explicit(&server);
    raw.store("STOR file", b"still writable");

    // A good configuration with a user file that is none, a store and a certificate that are not there.
    let users = server.read("users.yaml");
    for (mistake, part) in [
        (json!({"users": {"file": "nowhere.yaml"}}), "nowhere.yaml"),
        (
            json!({"backends": {"main": {"type": "fs", "root": "/nonexistent/root"}}}),
            "backends.main",
        ),
        (
            json!({"tls": {"certificate_file": "cert.pem", "key_file": "nothing.pem"}}),
            "nothing.pem",
        ),
    ] {
        server.configure(|config| {
            config["timeouts"]["idle_seconds"] = json!(300);
            config["listeners"][0]
                .as_object_mut()
                .unwrap()
                .remove("tsl");
            for (key, value) in mistake.as_object().unwrap() {
                config[key] = value.clone();
            }
        });
        let answer = server.api("POST", "/reload", "", 422);
        assert!(answer["mistakes"].to_string().contains(part), "{answer:#}");
        raw.store("STOR file", b"still writable");
        // Back to what it was, for the next one.
        server.configure(|config| {
            config["users"] = json!({"file": server.directory().join("users.yaml")});
            config["backends"] = json!({"main": store.backend()});
            config["tls"] = json!({"certificate_file": "cert.pem", "key_file": "key.pem"});
        });
    }
    fs::write(server.directory().join("users.yaml"), "users: [{name: x}]").unwrap();
    let answer = server.api("POST", "/reload", "", 422);
    assert!(
        answer["mistakes"]
            .to_string()
            .contains("users[0].password_hash"),
        "{answer:#}"
    );
    Raw::explicit(&server).expect("PWD", 257);
    fs::write(server.directory().join("users.yaml"), users).unwrap();
    // All of it is good now: the change that waited all the time is taken up.
    reload(&server);
    let mut new = Raw::explicit(&server);
    new.expect("EPSV", 229);
    new.expect("STOR file", 550);
}

#[test]
fn changed_file_is_noticed_and_what_needs_a_restart_is_named() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/audit", json!({"file": "audit.jsonl"}))
        .start();
    server.configure(|config| {
        config["timeouts"]["idle_seconds"] = json!(123);
        config["log"]["level"] = json!("info");
        config["limits"]["upload_memory_bytes"] = json!(64 << 20);
        config["listeners"][3]["name"] = json!("renamed");
    });
    until(Duration::from_secs(30), "the change is noticed", || {
        let log = server.log().join("\n");
        let lines = [
            "configuration reloaded",
            "changed in the file, but needs a restart",
        ];
        let all = lines.iter().all(|line| log.contains(line));
        if all { Ok(()) } else { Err(log) }
    });
    // The trail says so, too, and of a file that cannot be taken up why not.
    let config = server.read("causeway.yaml");
    fs::write(server.directory().join("causeway.yaml"), "listeners: 1").unwrap();
    server.hang_up();
    until(Duration::from_secs(30), "both are in the trail", || {
        let trail = server.read("audit.jsonl");
        let reloads: Vec<Value> = trail
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|line: &Value| line["kind"] == "reload")
            .collect();
        let [done, failed, ..] = &reloads[..] else {
            return Err(trail);
        };
        assert_eq!(
            (&done["outcome"], &done["target"]),
            (&json!("success"), &json!("file"))
        );
        let detail = done["detail"].as_str().unwrap();
        for word in [
            "changed: timeouts, log;",
            "needs a restart: limits.upload_memory_bytes, ",
        ] {
            assert!(detail.contains(word), "{word}: {detail}");
        }
        assert_eq!(
            (&failed["outcome"], &failed["reason"]),
            (&json!("failed"), &json!("mistakes"))
        );
        assert!(
            failed["detail"]
                .as_str()
                .unwrap()
                .contains("listeners: expected"),
            "{failed}"
        );
        Ok(())
    });
    fs::write(server.directory().join("causeway.yaml"), config).unwrap();
    let shown = server.api("GET", "/config", "", 200);
    assert_eq!(shown["timeouts"]["idle_seconds"], 123);
    assert_ne!(
        shown["limits"]["upload_memory_bytes"],
        64 << 20,
        "needs a restart"
    );
    let (changed, needs_restart) = reload(&server);
    assert_eq!(changed, json!([]), "taken up already");
    let needs_restart = needs_restart.to_string();
    for key in [
        "limits.upload_memory_bytes",
        "listeners.renamed.address",
        "listeners.implicit6",
    ] {
        assert!(needs_restart.contains(key), "{needs_restart}");
    }
    // The listener that is gone from the file still serves.
    let mut raw = Raw::silent(server.implicit6);
    raw.start_tls(&server.tls(Version::Tls13)).unwrap();
    raw.reply().expect(220);
}

#[test]
fn hangup_takes_up_new_users() {
    let store = Store::local();
    let server = Server::start(&store);
    store.make_home("newcomer");
    let users = server.read("users.yaml");
    let hash = crate::harness::password_hash();
    let users = format!("{users}  - {{name: newcomer, password_hash: '{hash}'}}\n");
    fs::write(server.directory().join("users.yaml"), users).unwrap();
    server.hang_up();
    until(Duration::from_secs(20), "the newcomer gets in", || {
        let mut raw = Raw::secured(&server, &server.tls(Version::Tls13));
        raw.expect("USER newcomer", 331);
        let reply = raw.command(&format!("PASS {}", crate::harness::PASSWORD));
        if reply.code == 230 {
            Ok(())
        } else {
            Err(reply.text())
        }
    });
}

/// Users and certificates that were good when something else was not are taken up all the same, each by
/// itself; and the configuration as soon as the mistake elsewhere is mended.
#[test]
fn what_was_good_in_a_failed_reload_is_not_forgotten() {
    let store = Store::local();
    let server = Server::start(&store);
    let at = |name: &str| server.directory().join(name);
    let (users, key) = (server.read("users.yaml"), server.read("key.pem"));
    fs::write(at("users.yaml"), users.replace("alice", "other")).unwrap();
    fs::write(at("key.pem"), "no key").unwrap();
    let answer = server.api("POST", "/reload", "", 422);
    assert!(
        answer["mistakes"].to_string().contains("key.pem"),
        "{answer:#}"
    );
    fs::write(at("key.pem"), key).unwrap();
    let code = || {
        let mut raw = Raw::secured(&server, &server.tls(Version::Tls13));
        raw.expect("USER alice", 331);
        let code = raw
            .command(&format!("PASS {}", crate::harness::PASSWORD))
            .code;
        if code == 230 {
            return (code, raw.command("MKD new").code);
        }
        (code, 0)
    };
    until(Duration::from_secs(20), "alice is gone", || {
        match code().0 {
            530 => Ok(()),
            code => Err(code.to_string()),
        }
    });
    // The other way round: a configuration that waits for the users file.
    fs::write(at("users.yaml"), "users: [{name: x}]").unwrap();
    server.configure(|config| config["mounts"][0]["read_only"] = json!(true));
    let answer = server.api("POST", "/reload", "", 422);
    assert!(
        answer["mistakes"].to_string().contains("password_hash"),
        "{answer:#}"
    );
    fs::write(at("users.yaml"), users).unwrap();
    until(
        Duration::from_secs(30),
        "both are taken up",
        || match code() {
            (230, 550) => Ok(()),
            codes => Err(format!("{codes:?}")),
        },
    );
}

#[test]
fn what_is_logged_otherwise_is_in_the_trail_with_both_values() {
    let store = Store::local();
    let server = Server::with(&store)
        .set("/audit", json!({"file": "audit.jsonl"}))
        .start();
    let change = |level: &str, filter: &str| {
        server.configure(|config| {
            config["log"]["level"] = json!(level);
            config["log"]["filter"] = json!(filter);
        });
    };
    change("warn", "causeway::store=trace");
    let answer = server.api("POST", "/reload", "", 200);
    let expected = json!([
        "log.level: \"debug\" to \"warn\"",
        "log.filter: \"\" to \"causeway::store=trace\""
    ]);
    assert_eq!(answer["log"], expected);
    change("info", "");
    server.hang_up();
    until(Duration::from_secs(20), "both are in the trail", || {
        let trail = server.read("audit.jsonl");
        let all = [
            "changed: log; needs a restart: nothing; log.level: \\\"debug\\\" to \\\"warn\\\"",
            "log.level: \\\"warn\\\" to \\\"info\\\"; log.filter: \\\"causeway::store=trace\\\" to",
        ];
        let found = all.iter().all(|words| trail.contains(words));
        found.then_some(()).ok_or(trail)
    });
}
