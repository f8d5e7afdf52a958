//! The status page, in a real Chromium (`tests/page/status_page.cjs`).

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::json;

use crate::harness::{Raw, Server, Store, bytes, http};

const TOKEN: &str = "a-token-for-the-status-page";
/// No `/`: that is no name.
const HOSTILE_USER: &str = "<script>window.pwned=1<b>";
const HOSTILE_FILE: &str = "<img src=x onerror=\"window.pwned=1\">";

#[test]
fn page_shows_a_running_upload_ends_it_and_names_stay_text() {
    let store = Store::local();
    store.make_home(HOSTILE_USER);
    let hash = crate::harness::password_hash();
    let server = Server::with(&store)
        .set("/admin/token", TOKEN)
        .set("/timeouts/data_connect_seconds", 1)
        // The harness's own address is safe elsewhere.
        .set("/bans", json!({"safe_networks": []}))
        .user(&format!(
            "{{name: '{HOSTILE_USER}', password_hash: '{hash}'}}"
        ))
        .start();
    let mut hostile = Raw::explicit_as(&server, HOSTILE_USER);
    // A failure with a hostile name in it.
    hostile.expect("EPSV", 229);
    hostile.expect(&format!("STOR {HOSTILE_FILE}.failed"), 150);
    let failed = hostile.reply().expect(425).text();
    let reference = failed.split("(ref ").nth(1).unwrap().trim_end_matches(')');
    let admin = |method: &str, path: &str, body: &str| {
        let bearer = format!("Bearer {TOKEN}");
        let headers = [("Authorization", bearer.as_str())];
        http(
            server.admin,
            method,
            &format!("/api/v1{path}"),
            &headers,
            body,
        )
    };
    for subject in [
        "address:192.0.2.66".to_owned(),
        format!("user:{HOSTILE_USER}"),
    ] {
        let ban = json!({"subject": subject, "seconds": 3600}).to_string();
        assert_eq!(admin("POST", "/bans", &ban).0, 201);
    }
    let mut download = Raw::explicit_as(&server, "alice");
    store.put("alice/large.bin", &bytes(5, 64 << 20));
    let mut coming = download.open_data();
    download.expect("RETR large.bin", 150);
    coming.handshake().unwrap();
    coming.read_some();
    let mut raw = Raw::explicit(&server);
    let mut data = raw.begin_transfer(&format!("STOR {HOSTILE_FILE}"));
    let content = bytes(4, 3 << 20);
    data.write(&content[..1 << 20]).unwrap();

    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    // Kept after the test where somebody wants to look at the pictures.
    let pictures = std::env::var_os("CAUSEWAY_PICTURES")
        .map_or_else(|| server.scratch(), std::path::PathBuf::from);
    fs::create_dir_all(&pictures).unwrap();
    let mut child = Command::new("node")
        .arg(tests.join("page/status_page.cjs"))
        .arg(format!("http://{}/", server.admin))
        .arg(TOKEN)
        .arg(&pictures)
        .arg(reference)
        .env("NODE_PATH", tests.join(".clients/page/node_modules"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node, which tests/lab/prepare.sh installs");
    let mut errors = child.stderr.take().unwrap();
    let errors = thread::spawn(move || {
        let mut text = String::new();
        errors.read_to_string(&mut text).map(|_| text)
    });
    let mut go = child.stdin.take().unwrap();
    let mut said = Vec::new();
    // Ends with the browser, which has a deadline for each of its steps.
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.as_str() {
            "more" => data.write(&content[1 << 20..]).unwrap(),
            // Something for the plots.
            "shots" => {
                for index in 0..20 {
                    hostile.expect("PWD", 257);
                    hostile.expect(&format!("SIZE nothing{index}"), 550);
                }
            }
            "lifted" => assert_eq!(admin("GET", "/bans", "").1, "[]"),
            "kicked" => {
                let replies = raw.until_closed(Duration::from_secs(20));
                let codes: Vec<_> = replies.iter().map(|reply| reply.code).collect();
                assert_eq!(codes, [426, 421], "{replies:?}");
            }
            _ => {}
        }
        if ["more", "shots", "kicked", "lifted"].contains(&line.as_str()) {
            writeln!(go, "go").unwrap();
        }
        said.push(line);
    }
    let status = child.wait().unwrap();
    let errors = errors.join().unwrap().unwrap();
    assert!(status.success(), "{said:?}\n{errors}");
    assert_eq!(said.last().map(String::as_str), Some("done"));
    assert!(
        said.contains(&"moved 1.0 MiB 3.0 MiB".to_owned()),
        "{said:?}"
    );
    store.assert_holds(&[("alice/large.bin", &bytes(5, 64 << 20))]);
}

#[test]
fn page_without_a_token_is_for_this_machine_and_its_actions_for_the_page() {
    let store = Store::local();
    let server = Server::start(&store);
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        http(server.admin, method, path, headers, "")
    };
    let (status, page) = ask("GET", "/", &[]);
    assert_eq!(status, 200);
    let csrf = page
        .split("name=\"csrf\" content=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap();
    assert_eq!(csrf.len(), 64);
    assert_eq!(ask("GET", "/", &[("Host", "evil.example")]).0, 403);
    assert_eq!(ask("GET", "/page/live", &[("Host", "evil.example")]).0, 403);
    let mut raw = Raw::explicit(&server);
    let session = crate::admin::session_of(&server, "alice");
    let path = format!("/page/sessions/{}/kick", session["id"].as_str().unwrap());
    // What another site's form or script could send.
    for headers in [
        &[][..],
        &[("x-causeway-request", "1")],
        &[("x-causeway-csrf", "")],
        &[("x-causeway-csrf", &csrf[1..])],
        &[("x-causeway-csrf", csrf), ("Host", "evil.example")],
    ] {
        assert_eq!(ask("POST", &path, headers).0, 403, "{headers:?}");
    }
    raw.expect("NOOP", 200);
    assert_eq!(ask("POST", &path, &[("x-causeway-csrf", csrf)]).0, 202);
    let replies = raw.until_closed(Duration::from_secs(20));
    assert_eq!(replies[0].code, 421);
}
