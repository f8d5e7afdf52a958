//! The operator's side: an address that everybody can reach needs a token.

use super::{
    super::{Admin, MetricsAccess, typed::Table},
    socket_address,
    tls::{TLS, tls},
};

pub(super) const ADMIN: [&str; 4] = ["address", "token", "tls", "metrics"];

const METRICS: [(&str, MetricsAccess); 2] = [
    ("token", MetricsAccess::Token),
    ("open", MetricsAccess::Open),
];

/// Shortest token: 16 characters are out of reach of guessing over a network.
const TOKEN_CHARACTERS: usize = 16;

pub(super) fn admin(table: &Table<'_>) -> Option<Admin> {
    let address = socket_address(table, "address", "127.0.0.1:9090");
    let token = table.secret("token");
    if let Some(Some(token)) = &token {
        let text = token.expose();
        let fits = |c: char| c.is_ascii_graphic() || c == ' ';
        if text.len() < TOKEN_CHARACTERS || !text.chars().all(fits) || text.trim() != text {
            let message = format!(
                "expected at least {TOKEN_CHARACTERS} printable ASCII characters without a blank at the ends, such as those of `openssl rand -hex 32`"
            );
            table.error("token", message);
        }
    }
    if let (Some(address), Some(None)) = (address, &token)
        && !address.ip().is_loopback()
    {
        let message = format!(
            "missing: \"{address}\" is no loopback address, so whoever reaches it needs a token to be kept out"
        );
        table.error("token", message);
    }
    let metrics = table.choice_or("metrics", &METRICS, MetricsAccess::Token);
    let tls = match table.table("tls", &TLS) {
        Some(table) => tls(&table).map(Some),
        None => (!table.has("tls")).then_some(None),
    };
    Some(Admin {
        address: address?,
        token: token?,
        tls: tls?,
        metrics: metrics?,
    })
}
