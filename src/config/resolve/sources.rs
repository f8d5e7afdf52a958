//! Sources of users outside the users file, and shared counters.

use std::{net::IpAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use super::super::{
    Anonymous, CertificateFiles, HttpHook, Ldap, LdapGroups, LdapService, RedisServer, Secret,
    SharedCounters, WhenUnavailable,
    typed::{Table, Text},
    yaml::Node,
};
use crate::access;

pub(super) const HTTP: [&str; 11] = [
    "url",
    "signing_secret",
    "bearer_token",
    "client_certificate_file",
    "client_key_file",
    "ca_file",
    "connect_seconds",
    "total_seconds",
    "retries",
    "cache_seconds",
    "requests",
];
pub(super) const LDAP: [&str; 15] = [
    "urls",
    "tls",
    "ca_file",
    "bind_dn",
    "bind_password",
    "user_dn",
    "user_base",
    "user_filter",
    "user_attribute",
    "groups",
    "attributes",
    "home_attribute",
    "connections",
    "connect_seconds",
    "total_seconds",
];
pub(super) const LDAP_GROUPS: [&str; 6] = [
    "attribute",
    "base",
    "filter",
    "name_attribute",
    "map",
    "required",
];
pub(super) const ANONYMOUS: [&str; 4] = ["names", "home", "read_only", "groups"];
pub(super) const SHARED_COUNTERS: [&str; 6] = [
    "url",
    "ca_file",
    "client_certificate_file",
    "client_key_file",
    "prefix",
    "deadline_milliseconds",
];

pub(super) const WHEN_UNAVAILABLE: [(&str, WhenUnavailable); 2] = [
    ("try_later", WhenUnavailable::TryLater),
    ("refuse", WhenUnavailable::Refuse),
];
const LDAP_TLS: [(&str, bool); 2] = [("start_tls", true), ("off", false)];

/// In front of every shared key.
const PREFIX: &str = "causeway:";
/// Longer than a client waits is a slip.
const SECONDS: RangeInclusive<u64> = 1..=60;
/// A secret that can be guessed signs nothing.
const SECRET_BYTES: usize = 16;
const PEM_FILE: &str = "the path of a PEM file";

pub(super) fn http(table: &Table<'_>) -> Option<HttpHook> {
    let url = url(table);
    let signing_secret = table.secret("signing_secret");
    match &signing_secret {
        Some(None) => {
            let expected = "the secret that signs requests, {env: NAME} or {file: PATH}";
            table.required("signing_secret", expected);
        }
        Some(Some(secret)) if secret.expose().len() < SECRET_BYTES => {
            let message = format!("too short: expected at least {SECRET_BYTES} bytes");
            table.error("signing_secret", message);
        }
        _ => {}
    }
    let bearer_token = table.secret("bearer_token");
    let client_certificate = client_certificate(table);
    let ca_file = optional_file(table, "ca_file");
    let connect = seconds(table, "connect_seconds", 3);
    let total = seconds(table, "total_seconds", 10);
    let retries = table.integer("retries", 2, 0..=10);
    let cache = table.integer("cache_seconds", 30, 0..=600);
    let requests = table.integer("requests", 32, 1..=10_000);
    Some(HttpHook {
        url: url?,
        signing_secret: signing_secret??,
        bearer_token: bearer_token?,
        client_certificate: client_certificate?,
        ca_file: ca_file?,
        connect: connect?,
        total: total?,
        retries: retries?,
        cache: Duration::from_secs(cache?),
        requests: requests?,
    })
}

/// Passwords cross this connection: in the clear only where nobody can listen. The text is not repeated:
/// it may hold a password.
fn url(table: &Table<'_>) -> Option<Secret> {
    const EXPECTED: &str = "the URL of the hook, https://…, or http://… of a loopback address";
    let text = table.secret_text("url", EXPECTED)?;
    let parsed = reqwest::Url::parse(&text.value).ok();
    let host = parsed.as_ref().and_then(|url| url.host_str());
    let is_loopback = host.is_some_and(|host| {
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    });
    let usable = match parsed.as_ref().map(reqwest::Url::scheme) {
        Some("https") => host.is_some(),
        Some("http") => is_loopback,
        _ => false,
    };
    if !usable {
        table.error("url", format!("expected {EXPECTED}"));
        return None;
    }
    Some(Secret::new(text.value))
}

#[allow(
    clippy::option_option,
    reason = "a mistake and an absence are different things"
)]
fn client_certificate(table: &Table<'_>) -> Option<Option<CertificateFiles>> {
    let certificate_file = optional_file(table, "client_certificate_file");
    let key_file = optional_file(table, "client_key_file");
    match (certificate_file?, key_file?) {
        (Some(certificate_file), Some(key_file)) => Some(Some(CertificateFiles {
            certificate_file,
            key_file,
        })),
        (None, None) => Some(None),
        (Some(_), None) => {
            table.error("client_key_file", "missing beside client_certificate_file");
            None
        }
        (None, Some(_)) => {
            table.error("client_certificate_file", "missing beside client_key_file");
            None
        }
    }
}

pub(super) fn ldap(table: &Table<'_>) -> Option<Ldap> {
    let urls = ldap_urls(table);
    let start_tls = table.choice_or("tls", &LDAP_TLS, true);
    let ca_file = optional_file(table, "ca_file");
    let service = service(table);
    let user_dn = template(
        table,
        "user_dn",
        "a DN such as uid={user},ou=people,dc=example,dc=com",
    );
    let user_base = optional_text(
        table,
        "user_base",
        "a DN such as ou=people,dc=example,dc=com",
    );
    let user_filter = filter(table, "user_filter", "(uid={user})", &["{user}"]);
    let user_attribute = word(table, "user_attribute", "uid");
    let groups = table.section("groups", &LDAP_GROUPS);
    let groups = groups.and_then(|table| ldap_groups(&table));
    let attributes = names(
        table,
        "attributes",
        "the name of an attribute in the directory",
    );
    let home_attribute = optional_text(table, "home_attribute", "the name of an attribute");
    let connections = table.integer("connections", 4, 1..=1000);
    let connect = seconds(table, "connect_seconds", 3);
    let total = seconds(table, "total_seconds", 10);
    match (&service, &user_dn, &user_base) {
        (Some(None), Some(None), _) => table.error(
            "bind_dn",
            "missing: expected the service account that finds users, or `user_dn`, as whom they bind",
        ),
        (_, Some(None), Some(None)) => table.error(
            "user_base",
            "missing: expected where to search for users, or `user_dn`, as whom they bind",
        ),
        _ => {}
    }
    Some(Ldap {
        urls: urls?,
        start_tls: start_tls?,
        ca_file: ca_file?,
        service: service?,
        user_dn: user_dn?,
        user_base: user_base?,
        user_filter: user_filter?,
        user_attribute: user_attribute?,
        groups: groups?,
        attributes: attributes?,
        home_attribute: home_attribute?,
        connections: connections?,
        connect: connect?,
        total: total?,
    })
}

fn ldap_urls(table: &Table<'_>) -> Option<Vec<String>> {
    const EXPECTED: &str = "an URL such as ldaps://ldap.example.com or ldap://10.0.0.5:389";
    let items = table.list("urls", "a list of URLs, tried in their order")?;
    if items.is_empty() {
        table.error("urls", format!("empty: expected {EXPECTED}"));
    }
    let mut urls = Vec::new();
    for item in items {
        let text = item.text(EXPECTED)?;
        let parsed = reqwest::Url::parse(&text.value).ok();
        let usable = parsed.is_some_and(|url| {
            let has_host = url.host_str().is_some_and(|host| !host.is_empty());
            // The base stands in `user_base`, and who searches in `bind_dn`.
            let is_bare = matches!(url.path(), "" | "/")
                && url.query().is_none()
                && url.username().is_empty()
                && url.password().is_none();
            matches!(url.scheme(), "ldap" | "ldaps") && has_host && is_bare
        });
        if usable {
            urls.push(text.value);
        } else {
            // Not repeated: somebody may have put a password into it.
            item.error(format!("expected {EXPECTED}, and nothing else in it"));
        }
    }
    Some(urls)
}

#[allow(clippy::option_option, reason = "as above")]
fn service(table: &Table<'_>) -> Option<Option<LdapService>> {
    let dn = optional_text(table, "bind_dn", "the DN of the service account");
    let password = table.secret("bind_password");
    match (dn?, password?) {
        (Some(dn), Some(password)) => Some(Some(LdapService { dn, password })),
        (None, None) => Some(None),
        (Some(_), None) => {
            // Without it the bind would be an unauthenticated one, and its searches an anonymous's.
            table.error("bind_password", "missing beside bind_dn");
            None
        }
        (None, Some(_)) => {
            table.error("bind_dn", "missing beside bind_password");
            None
        }
    }
}

fn ldap_groups(table: &Table<'_>) -> Option<LdapGroups> {
    let attribute = optional_text(table, "attribute", "an attribute such as memberOf");
    let base = optional_text(table, "base", "a DN such as ou=groups,dc=example,dc=com");
    let filter = filter(table, "filter", "(member={dn})", &["{dn}", "{user}"]);
    let name_attribute = word(table, "name_attribute", "cn");
    let map = names(table, "map", "the name of a group of the users file");
    let required = table.boolean("required", false);
    Some(LdapGroups {
        attribute: attribute?,
        base: base?,
        filter: filter?,
        name_attribute: name_attribute?,
        map: map?,
        required: required?,
    })
}

pub(super) fn anonymous(table: &Table<'_>) -> Option<Anonymous> {
    let default = Anonymous::default();
    let names = texts(table, "names", "a login name", default.names);
    table.default("home", Node::String(default.home.clone()));
    let home = optional_text(table, "home", "a relative path");
    if let Some(Some(home)) = &home
        && let Err(problem) = access::check_home(home)
    {
        table.error("home", problem);
    }
    let read_only = table.boolean("read_only", default.read_only);
    let expected = "the name of a group of the users file";
    let groups = texts(table, "groups", expected, default.groups);
    Some(Anonymous {
        names: names?,
        home: home?.unwrap_or(default.home),
        read_only: read_only?,
        groups: groups?,
    })
}

pub(super) fn shared_counters(table: &Table<'_>) -> Option<SharedCounters> {
    const EXPECTED: &str =
        "rediss://user:password@host:6379/0, redis://… or unix:///path of a socket";
    let url = table.secret("url");
    let server = match &url {
        Some(None) => {
            table.error("url", format!("missing: expected {EXPECTED}"));
            None
        }
        Some(Some(url)) => {
            let server = RedisServer::parse(url.expose());
            if server.is_none() {
                // It may hold a password: not repeated.
                table.error("url", format!("not usable: expected {EXPECTED}"));
            }
            server
        }
        None => None,
    };
    for key in ["ca_file", "client_certificate_file", "client_key_file"] {
        if table.has(key) && server.as_ref().is_some_and(|server| !server.tls) {
            table.error(key, "not used: only a rediss:// URL means TLS");
        }
    }
    table.default("prefix", Node::String(PREFIX.to_owned()));
    let ca_file = optional_file(table, "ca_file");
    let client_certificate = client_certificate(table);
    let prefix = optional_text(table, "prefix", "what stands in front of every key");
    let deadline = table.integer("deadline_milliseconds", 500, 10..=10_000);
    Some(SharedCounters {
        url: url??,
        ca_file: ca_file?,
        client_certificate: client_certificate?,
        prefix: prefix?.unwrap_or_else(|| PREFIX.to_owned()),
        deadline: Duration::from_millis(deadline?),
    })
}

fn seconds(table: &Table<'_>, key: &str, default: u64) -> Option<Duration> {
    table
        .integer(key, default, SECONDS)
        .map(Duration::from_secs)
}

#[allow(clippy::option_option, reason = "as above")]
fn optional_file(table: &Table<'_>, key: &str) -> Option<Option<PathBuf>> {
    table.optional_file(key, PEM_FILE)
}

#[allow(clippy::option_option, reason = "as above")]
fn optional_text(table: &Table<'_>, key: &str, expected: &str) -> Option<Option<String>> {
    let text = table.optional_text(key, expected)?;
    Some(text.map(|text| text.value))
}

/// The name of an attribute.
fn word(table: &Table<'_>, key: &str, default: &str) -> Option<String> {
    table.default(key, Node::String(default.to_owned()));
    let text = optional_text(table, key, "the name of an attribute")?;
    Some(text.unwrap_or_else(|| default.to_owned()))
}

/// A text in which `{user}` stands for the login name.
#[allow(clippy::option_option, reason = "as above")]
fn template(table: &Table<'_>, key: &str, expected: &str) -> Option<Option<String>> {
    let text = table.optional_text(key, expected)?;
    if let Some(text) = &text
        && !text.value.contains("{user}")
    {
        lacks(table, key, "{user}", text);
        return None;
    }
    Some(text.map(|text| text.value))
}

/// A search filter that one of `places` stands in.
fn filter(table: &Table<'_>, key: &str, default: &str, places: &[&str]) -> Option<String> {
    let expected = format!("a search filter such as {default}");
    table.default(key, Node::String(default.to_owned()));
    let Some(text) = table.optional_text(key, &expected)? else {
        return Some(default.to_owned());
    };
    if !places.iter().any(|place| text.value.contains(place)) {
        lacks(table, key, &places.join(" or "), &text);
        return None;
    }
    let filled = places.iter().fold(text.value.clone(), |filter, place| {
        filter.replace(place, "x")
    });
    if ldap3::parse_filter(filled).is_err() {
        let message = format!(
            "no filter of RFC 4515: expected {expected}, found {}",
            text.shown()
        );
        table.error(key, message);
        return None;
    }
    Some(text.value)
}

fn lacks(table: &Table<'_>, key: &str, place: &str, text: &Text) {
    let message = format!(
        "lacks {place}: everybody would be the same user; found {}",
        text.shown()
    );
    table.error(key, message);
}

/// A table of names of the operator's choice and a text for each.
fn names(table: &Table<'_>, key: &str, expected: &str) -> Option<Vec<(String, String)>> {
    let Some(item) = table.item(key) else {
        return Some(Vec::new());
    };
    let entries = item.names()?;
    let pairs: Vec<_> = entries
        .iter()
        .map(|(name, item)| Some(((*name).to_owned(), item.text(expected)?.value)))
        .collect();
    pairs.into_iter().collect()
}

fn texts(
    table: &Table<'_>,
    key: &str,
    expected: &str,
    default: Vec<String>,
) -> Option<Vec<String>> {
    let names = default.iter().cloned().map(Node::String);
    table.default(key, Node::Sequence(names.collect()));
    let Some(items) = table.items(key, &format!("a list: each {expected}"))? else {
        return Some(default);
    };
    let texts: Vec<_> = items.iter().map(|item| item.text(expected)).collect();
    texts.into_iter().map(|text| Some(text?.value)).collect()
}
