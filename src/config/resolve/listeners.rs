//! Listeners: addresses, TLS and passive ports.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
};

use super::{
    super::{
        ClearCommandChannel, ClearText, Listener, Mode, Passive, SiteChmod, Tls, UploadEnd,
        typed::{Table, Text},
    },
    CONNECTIONS, Located, socket_address,
};

/// Ports for data connections when a listener names none.
const PASSIVE_PORTS: RangeInclusive<u16> = 50000..=50100;

pub(super) const LISTENER: [&str; 10] = [
    "name",
    "address",
    "mode",
    "clear_text",
    "tls",
    "passive",
    "upload_end",
    "ccc",
    "site_chmod",
    "connections",
];
pub(super) const TLS: [&str; 2] = ["certificate_file", "key_file"];
pub(super) const PASSIVE: [&str; 2] = ["address", "ports"];

const MODES: [(&str, Mode); 2] = [("explicit", Mode::Explicit), ("implicit", Mode::Implicit)];
const CLEAR_TEXTS: [(&str, ClearText); 2] =
    [("refuse", ClearText::Refuse), ("allow", ClearText::Allow)];
const UPLOAD_ENDS: [(&str, UploadEnd); 2] = [
    ("close_notify", UploadEnd::CloseNotify),
    ("fin", UploadEnd::Fin),
];

const CCC: [(&str, ClearCommandChannel); 2] = [
    ("refuse", ClearCommandChannel::Refuse),
    ("allow", ClearCommandChannel::Allow),
];
const SITE_CHMOD: [(&str, SiteChmod); 2] =
    [("refuse", SiteChmod::Refuse), ("ignore", SiteChmod::Ignore)];

pub(super) fn listeners(
    root: &Table<'_>,
    tls: Option<&Option<Tls>>,
    connections: usize,
) -> Option<Located<Listener>> {
    let items = root.list("listeners", "a list of at least one listener")?;
    if items.is_empty() {
        root.error("listeners", "empty: the server needs at least one listener");
    }
    let mut names = HashSet::new();
    let mut listeners = Vec::new();
    for item in items {
        let Some(table) = item.table(&LISTENER) else {
            continue;
        };
        let name = table.text("name", "a unique name");
        if let Some(name) = &name {
            if name.value.chars().any(char::is_control) {
                table.error("name", "holds a control character");
            }
            if !names.insert(name.value.clone()) {
                table.error(
                    "name",
                    format!("another listener has the name {}", name.shown()),
                );
            }
        }
        if let Some(listener) = listener(&table, name, tls, connections) {
            listeners.push((item.path().to_owned(), listener));
        }
    }
    Some(listeners)
}

fn listener(
    table: &Table<'_>,
    name: Option<Text>,
    default_tls: Option<&Option<Tls>>,
    connections: usize,
) -> Option<Listener> {
    let address = socket_address(table, "address", "0.0.0.0:2121 or [::]:2121");
    let mode = table.required_choice("mode", &MODES);
    let clear_text = table.choice("clear_text", &CLEAR_TEXTS);
    if mode == Some(Mode::Implicit) && clear_text == Some(Some(ClearText::Allow)) {
        table.error(
            "clear_text",
            "an implicit listener is encrypted from the first byte; use `mode: explicit` to allow clear text",
        );
    }
    let tls = match (table.table("tls", &TLS), default_tls) {
        (Some(table), _) => tls(&table),
        (None, Some(default)) if !table.has("tls") => default.clone(),
        (None, _) => {
            if !table.has("tls") {
                table.error(
                    "tls",
                    "missing: give certificate_file and key_file here or in the top-level `tls`",
                );
            }
            None
        }
    };
    let passive = match table.table("passive", &PASSIVE) {
        Some(table) => passive(&table),
        None => Some(Passive {
            address: None,
            ports: PASSIVE_PORTS,
        }),
    };
    let upload_end = table.choice("upload_end", &UPLOAD_ENDS);
    let ccc = table.choice("ccc", &CCC);
    let site_chmod = table.choice("site_chmod", &SITE_CHMOD);
    let connections = table.integer("connections", connections, CONNECTIONS);
    Some(Listener {
        name: name?.value.into(),
        address: address?,
        mode: mode?,
        clear_text: clear_text?.unwrap_or(ClearText::Refuse),
        tls: tls?,
        passive: passive?,
        upload_end: upload_end?.unwrap_or(UploadEnd::CloseNotify),
        ccc: ccc?.unwrap_or(ClearCommandChannel::Refuse),
        site_chmod: site_chmod?.unwrap_or(SiteChmod::Refuse),
        connections: connections?,
    })
}

pub(super) fn tls(table: &Table<'_>) -> Option<Tls> {
    let certificate_file = table.file("certificate_file", "the path of a PEM file");
    let key_file = table.file("key_file", "the path of a PEM file");
    Some(Tls {
        certificate_file: certificate_file?,
        key_file: key_file?,
    })
}

fn passive(table: &Table<'_>) -> Option<Passive> {
    let address = match table.optional_text("address", "an IPv4 address") {
        Some(None) => Some(None),
        Some(Some(text)) => {
            let address = text.parse::<IpAddr>();
            match address {
                Some(IpAddr::V4(ip)) if ip != Ipv4Addr::UNSPECIFIED => {}
                Some(IpAddr::V4(_)) => table.error(
                    "address",
                    "0.0.0.0 is no address that a client can reach; leave the key out for the address the client reached",
                ),
                Some(IpAddr::V6(_)) => table.error(
                    "address",
                    "the 227 reply holds an IPv4 address only; IPv6 clients use EPSV, which needs none",
                ),
                None => table.error(
                    "address",
                    format!("expected an IPv4 address, found {}", text.shown()),
                ),
            }
            address.map(Some)
        }
        None => None,
    };
    let ports = ports(table);
    Some(Passive {
        address: address?,
        ports: ports?,
    })
}

fn ports(table: &Table<'_>) -> Option<RangeInclusive<u16>> {
    const EXPECTED: &str = "ports such as \"50000-50100\", one port, or 0 for any free one";
    if !table.has("ports") {
        return Some(PASSIVE_PORTS);
    }
    let (text, shown) = if let Some(port) = table.bare_integer("ports") {
        (port.to_string(), format!("the number {port}"))
    } else {
        let text = table.optional_text("ports", EXPECTED)??;
        (text.value.clone(), text.shown().to_owned())
    };
    let (start, end) = text.split_once('-').unwrap_or((&text, &text));
    let port = |text: &str| text.trim().parse::<u16>().ok();
    let (Some(start), Some(end)) = (port(start), port(end)) else {
        table.error("ports", format!("expected {EXPECTED}, found {shown}"));
        return None;
    };
    let problem = match (start, end) {
        (0, 0) => None,
        _ if start > end => Some("the range ends before it starts"),
        _ if start < 1024 => Some("ports below 1024 are not for data connections"),
        _ => None,
    };
    if let Some(problem) = problem {
        table.error(
            "ports",
            format!("{problem}: expected {EXPECTED}, found {shown}"),
        );
        return None;
    }
    Some(start..=end)
}
