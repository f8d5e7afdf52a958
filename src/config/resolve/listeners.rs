//! Listeners: addresses and TLS.

use std::collections::HashSet;

use super::{
    super::{
        ClearCommandChannel, ClearText, Listener, Mode, Resumption, Tls, UploadEnd,
        typed::{Table, Text},
    },
    CONNECTIONS, Located,
    guard::rates,
    passive::passive_and_proxy,
    profiles::{Profiles, profile_of},
    socket_address,
    tls::{RESUMPTIONS, TLS, tls},
};

pub(super) const LISTENER: [&str; 15] = [
    "name",
    "address",
    "mode",
    "clear_text",
    "tls",
    "resumption",
    "passive",
    "proxy_protocol",
    "upload_end",
    "profile",
    "learn",
    "ccc",
    "connections",
    "upload_bytes_per_second",
    "download_bytes_per_second",
];

const MODES: [(&str, Mode); 2] = [("explicit", Mode::Explicit), ("implicit", Mode::Implicit)];
const CLEAR_TEXTS: [(&str, ClearText); 2] =
    [("refuse", ClearText::Refuse), ("allow", ClearText::Allow)];
pub(super) const UPLOAD_ENDS: [(&str, UploadEnd); 2] = [
    ("close_notify", UploadEnd::CloseNotify),
    ("fin", UploadEnd::Fin),
];

const CCC: [(&str, ClearCommandChannel); 2] = [
    ("refuse", ClearCommandChannel::Refuse),
    ("allow", ClearCommandChannel::Allow),
];

pub(super) fn listeners(
    root: &Table<'_>,
    tls: Option<&Option<Tls>>,
    connections: usize,
    profiles: Option<&Profiles>,
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
        if let Some(listener) = listener(&table, name, tls, connections, profiles) {
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
    profiles: Option<&Profiles>,
) -> Option<Listener> {
    let address = socket_address(table, "address", "0.0.0.0:2121 or [::]:2121");
    let mode = table.required_choice("mode", &MODES);
    let clear_text = table.choice_or("clear_text", &CLEAR_TEXTS, ClearText::Refuse);
    if mode == Some(Mode::Implicit) && clear_text == Some(ClearText::Allow) {
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
    let resumption = table.choice_or("resumption", &RESUMPTIONS, Resumption::Enabled);
    let network = passive_and_proxy(table);
    let upload_end = table.choice_or("upload_end", &UPLOAD_ENDS, UploadEnd::CloseNotify);
    let profile = profile_of(table, profiles);
    let learn = table.boolean("learn", false);
    let ccc = table.choice_or("ccc", &CCC, ClearCommandChannel::Refuse);
    let connections = table.integer("connections", connections, CONNECTIONS);
    let rates = rates(
        table,
        "upload_bytes_per_second",
        "download_bytes_per_second",
    );
    let (passive, proxy_protocol) = network?;
    Some(Listener {
        name: name?.value.into(),
        address: address?,
        mode: mode?,
        clear_text: clear_text?,
        tls: tls?,
        resumption: resumption?,
        passive,
        proxy_protocol,
        upload_end: upload_end?,
        profile: profile?,
        learn: learn?,
        ccc: ccc?,
        connections: connections?,
        rates: rates?,
    })
}
