//! Users of a running server, and why one may do something.

use std::fmt::Write as _;

use clap::Args;

use super::{
    Client, Failure,
    client::segment,
    print,
    show::{or_dash, safe, table},
};

use crate::{
    admin::{Explanation, UserDetails, UserView},
    cli::explain::Login,
};

#[derive(Debug, Args)]
pub(super) struct Question {
    #[command(flatten)]
    login: Login,
    /// A user of the users files, or one of another source who is logged in
    user: String,
    /// A command such as STOR, RETR or CWD
    verb: String,
    /// A path as the user sees it
    path: String,
}

/// Everybody, or one user.
pub(super) async fn show(client: &Client, name: Option<&str>, json: bool) -> Result<(), Failure> {
    let Some(name) = name else {
        let answer = client.get("/users").await?;
        return print(&answer, json, |all: Vec<UserView>| list(&all));
    };
    let answer = client.get(&format!("/users/{}", segment(name))).await?;
    print(&answer, json, |user: UserDetails| details(&user))
}

/// Ends like `causeway explain`.
pub(super) async fn explain(
    client: &Client,
    question: &Question,
    json: bool,
) -> Result<(), Failure> {
    let answer = client.get(&question.address()).await?;
    print(&answer, json, |found: Explanation| explanation(&found))?;
    if answer["allowed"] == true {
        Ok(())
    } else {
        Err(Failure::Denied)
    }
}

impl Question {
    fn address(&self) -> String {
        let (user, verb, path) = (&self.user, &self.verb, &self.path);
        let mut address = format!(
            "/users/{}/explain?clear={}",
            segment(user),
            self.login.clear
        );
        let from = self.login.from.map(|address| address.to_string());
        for (key, value) in [
            ("verb", Some(verb)),
            ("path", Some(path)),
            ("from", from.as_ref()),
            ("listener", self.login.listener.as_ref()),
        ] {
            if let Some(value) = value {
                // Writing to a string does not fail.
                let _ = write!(address, "&{key}={}", segment(value));
            }
        }
        address
    }
}

fn list(users: &[UserView]) -> String {
    let rows = users.iter().map(|user| {
        vec![
            user.name.clone(),
            user.source.clone(),
            if user.enabled { "yes" } else { "no" }.to_owned(),
            or_dash(user.login.as_deref()),
            or_dash(user.password.as_deref()),
            user.sessions.to_string(),
            or_dash(user.expires.as_deref()),
            user.groups.join(","),
        ]
    });
    table(
        &[
            "USER", "SOURCE", "ENABLED", "LOGIN", "PASSWORD", "SESSIONS", "EXPIRES", "GROUPS",
        ],
        rows,
        "there are no users",
    )
}

/// A key and its values, a line each.
fn details(details: &UserDetails) -> String {
    let mut text = list(std::slice::from_ref(&details.user));
    let mut line = |key: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{key:<11} {}", safe(value));
    };
    line("home", &details.home);
    if details.read_only {
        line("read_only", "true");
    }
    for mount in &details.mounts {
        let place = match &mount.prefix {
            Some(prefix) => format!("{}:{prefix:?}", mount.backend),
            None => "nowhere: its templates have no value".to_owned(),
        };
        let read_only = if mount.read_only { ", read-only" } else { "" };
        line("mount", &format!("{} is {place}{read_only}", mount.path));
    }
    for grant in &details.grants {
        let (path, allow, deny) = (&grant.path, &grant.allow, &grant.deny);
        let origin = &grant.origin;
        line(
            "grant",
            &format!("{path}: allow {allow}, deny {deny} ({origin})"),
        );
    }
    for name in &details.file_names {
        line("file names", name);
    }
    for (key, value) in &details.limits {
        line("limit", &format!("{key} {value}"));
    }
    for condition in &details.conditions {
        line("condition", condition);
    }
    for (name, value) in &details.attributes {
        line("attribute", &format!("{name}: {value}"));
    }
    if let Some(profile) = &details.profile {
        line("profile", profile);
    }
    text
}

/// As `causeway explain` prints it.
fn explanation(explanation: &Explanation) -> String {
    let Explanation {
        user, verb, path, ..
    } = explanation;
    let word = if explanation.allowed {
        "allowed"
    } else {
        "denied"
    };
    let mut text = format!("{} {} {}: {word}\n", safe(user), safe(verb), safe(path));
    if let Some(reason) = &explanation.login_denied {
        let _ = writeln!(text, "  login: denied: {}", safe(reason));
    }
    for step in &explanation.steps {
        let comma = if step.when.is_empty() { "" } else { ", " };
        let (needs, when, reason) = (safe(&step.needs), safe(&step.when), safe(&step.reason));
        let _ = writeln!(text, "  {needs}{comma}{when}: {reason}");
    }
    text
}
