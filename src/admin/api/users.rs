//! Users: who there is, what one may do, and the rule behind it. Hashes are never shown, only their
//! kind.
//!
//! Users of the users files, and those of other sources while they are logged in: their documents are
//! nowhere else.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::SystemTime};

use axum::{
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::Response,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{super::Shared, Problem, json, problem, view::rfc3339};
use crate::{
    access::{Account, Known, Step, Tree, VirtualPath, explain},
    auth::Document,
    edge::Serving,
};

/// One user in a line.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// Login name.
    pub name: String,
    /// `users`: of the users files; `session`: of another source, and logged in now.
    pub source: String,
    /// Whether anybody may log in as this user.
    pub enabled: bool,
    /// `password`, `certificate`, `both`; absent where another source decides.
    pub login: Option<String>,
    /// Kind of the hash, never the hash: `argon2id`, `bcrypt` …
    pub password: Option<String>,
    /// Names of groups.
    pub groups: Vec<String>,
    /// When the account ends.
    pub expires: Option<String>,
    /// Sessions now.
    pub sessions: usize,
}

/// One user with everything that decides what it may do, its groups' settings included.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UserDetails {
    /// As in the list.
    #[serde(flatten)]
    pub user: UserView,
    /// What `{home}` stands for in prefixes.
    pub home: String,
    /// Every change is denied.
    pub read_only: bool,
    /// What the user sees, and where it lies.
    pub mounts: Vec<MountView>,
    /// Empty: everything is allowed.
    pub grants: Vec<GrantView>,
    /// `allow *.csv`, `deny *.exe`; empty: every name.
    pub file_names: Vec<String>,
    /// `quota.bytes`, `limits.sessions` …, those that are set.
    pub limits: BTreeMap<String, u64>,
    /// `hours`, `allowed_networks` … in words; empty: at any time, from anywhere.
    pub conditions: Vec<String>,
    /// For templates.
    pub attributes: BTreeMap<String, String>,
    /// Name of the profile.
    pub profile: Option<String>,
}

/// A mount of a user.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MountView {
    /// Where the user sees it.
    pub path: String,
    /// Name of the backend.
    pub backend: String,
    /// Prefix of the keys, templates filled in; absent where they have no value, and nothing is there.
    pub prefix: Option<String>,
    /// Every change is denied.
    pub read_only: bool,
}

/// A grant of a user.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GrantView {
    /// Pattern of paths.
    pub path: String,
    /// `all`, `nothing`, or actions.
    pub allow: String,
    /// `all`, `nothing`, or actions.
    pub deny: String,
    /// Where it was written.
    pub origin: String,
}

/// What a command of a user would be answered, and why.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Login name.
    pub user: String,
    /// In capitals.
    pub verb: String,
    /// Absolute.
    pub path: String,
    /// The decision.
    pub allowed: bool,
    /// Why the user could not even log in now; absent if it could.
    pub login_denied: Option<String>,
    /// What the command needs, in the order in which it is asked for.
    pub steps: Vec<StepView>,
}

/// One thing that a command needs.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    /// `write`, `enter` …
    pub needs: String,
    /// In which case it is needed; empty: always.
    pub when: String,
    /// The decision.
    pub allowed: bool,
    /// The grant, mount or condition behind it.
    pub reason: String,
}

/// Every user.
#[utoipa::path(get, path = "/api/v1/users", responses((status = 200, body = [UserView])))]
pub(super) async fn list(State(admin): State<Shared>) -> Response {
    let serving = admin.serving();
    let sessions = sessions(&serving);
    let users = serving.users.users();
    let count = |name: &str| sessions.get(name).map_or(0, |(count, _)| *count);
    let of_files = users.iter().map(|(document, account)| {
        let count = count(&document.name);
        UserView::of(Some(document), account, count)
    });
    let elsewhere = sessions.iter().filter(|(name, _)| !users.knows(name));
    let elsewhere = elsewhere.map(|(_, (count, account))| UserView::of(None, account, *count));
    json(
        StatusCode::OK,
        &of_files.chain(elsewhere).collect::<Vec<_>>(),
    )
}

/// One user, with everything that decides what it may do.
#[utoipa::path(
    get,
    path = "/api/v1/users/{name}",
    params(("name" = String, Path, description = "Login name, percent-encoded")),
    responses((status = 200, body = UserDetails), (status = 404, body = Problem))
)]
pub(super) async fn inspect(State(admin): State<Shared>, Path(name): Path<String>) -> Response {
    let serving = admin.serving();
    let users = serving.users.users();
    let sessions = sessions(&serving);
    let found = sessions.get(&name);
    let count = found.map_or(0, |(count, _)| *count);
    match (users.get(&name), found) {
        (Some((document, account)), _) => {
            let user = UserView::of(Some(document), account, count);
            json(StatusCode::OK, &UserDetails::of(user, account, &serving))
        }
        (None, Some((_, account))) => {
            let user = UserView::of(None, account, count);
            json(StatusCode::OK, &UserDetails::of(user, account, &serving))
        }
        (None, None) => absent(),
    }
}

/// What a command of a user would be answered, and the grant, mount or condition behind it.
#[utoipa::path(
    get,
    path = "/api/v1/users/{name}/explain",
    params(
        ("name" = String, Path, description = "Login name, percent-encoded"),
        ("verb" = String, Query, description = "A command such as STOR, RETR or CWD"),
        ("path" = String, Query, description = "As the user sees it"),
        ("from" = Option<String>, Query, description = "Address of the client; without it, allowed_networks are not looked at"),
        ("listener" = Option<String>, Query, description = "Without it, allowed_listeners are not looked at"),
        ("clear" = Option<bool>, Query, description = "A session without TLS"),
    ),
    responses((status = 200, body = Explanation), (status = 400, body = Problem), (status = 404, body = Problem))
)]
pub(super) async fn explained(
    State(admin): State<Shared>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let serving = admin.serving();
    let Some(account) = account(&serving, &name) else {
        return absent();
    };
    match Asked::parse(&query.unwrap_or_default()).and_then(|asked| asked.answer(account, &serving))
    {
        Ok(explanation) => json(StatusCode::OK, &explanation),
        Err(error) => problem(StatusCode::BAD_REQUEST, &error),
    }
}

/// What [`explained`] is asked.
struct Asked {
    verb: String,
    path: String,
    from: Option<IpAddr>,
    listener: Option<String>,
    clear: bool,
}

impl Asked {
    fn parse(query: &str) -> Result<Self, String> {
        // The part before the question mark is not looked at.
        let url = reqwest::Url::parse(&format!("http://localhost/?{query}"));
        let url = url.map_err(|error| error.to_string())?;
        let (mut verb, mut path, mut from, mut listener, mut clear) =
            (None, None, None, None, false);
        for (key, value) in url.query_pairs() {
            match &*key {
                "verb" => verb = Some(value.into_owned()),
                "path" => path = Some(value.into_owned()),
                "from" => {
                    let address = value.parse();
                    from = Some(
                        address
                            .map_err(|_| format!("from: expected an address, found {value:?}"))?,
                    );
                }
                "listener" => listener = Some(value.into_owned()),
                "clear" => clear = matches!(&*value, "" | "true"),
                other => {
                    return Err(format!(
                        "{other}: unknown; expected verb, path, from, listener, clear"
                    ));
                }
            }
        }
        Ok(Self {
            verb: verb.ok_or("verb: missing: expected a command such as STOR")?,
            path: path.ok_or("path: missing: expected a path as the user sees it")?,
            from,
            listener,
            clear,
        })
    }

    fn answer(&self, account: Arc<Account>, serving: &Serving) -> Result<Explanation, String> {
        let path = VirtualPath::parse(&VirtualPath::root(), &self.path);
        let path = path.map_err(|error| format!("path: {error}"))?;
        let known = Known {
            now: SystemTime::now(),
            address: self.from,
            listener: self.listener.as_deref(),
            encrypted: !self.clear,
        };
        let login = account.conditions.admit_as_known(&known);
        let user = account.name.clone();
        let tree = Tree::new(account, &serving.config.mounts);
        let steps = explain(&tree, &self.verb, &path);
        let steps =
            steps.ok_or_else(|| format!("verb: {:?} is no command with a path", self.verb))?;
        let allowed = login.is_ok() && steps.iter().all(Step::lets_go_on);
        Ok(Explanation {
            user,
            verb: self.verb.to_ascii_uppercase(),
            path: path.to_string(),
            allowed,
            login_denied: login.err().map(|reason| reason.to_string()),
            steps: steps
                .iter()
                .map(|step| StepView {
                    needs: step.question.word().to_owned(),
                    when: step.when.to_owned(),
                    allowed: step.decision.is_ok(),
                    reason: step.reason(),
                })
                .collect(),
        })
    }
}

/// Sessions of every user who is logged in, and the account of one of them.
fn sessions(serving: &Serving) -> BTreeMap<String, (usize, Arc<Account>)> {
    let mut found = BTreeMap::new();
    for session in serving.shared.registry.sessions() {
        if let Some(account) = session.account() {
            let entry = found.entry(account.name.clone());
            let (count, _) = entry.or_insert_with(|| (0, Arc::new(account.clone())));
            *count += 1;
        }
    }
    found
}

fn account(serving: &Serving, name: &str) -> Option<Arc<Account>> {
    let users = serving.users.users();
    match users.account(name) {
        Some(account) => Some(Arc::clone(account)),
        None => sessions(serving).remove(name).map(|(_, account)| account),
    }
}

fn absent() -> Response {
    problem(
        StatusCode::NOT_FOUND,
        "no user of the users files has this name, and nobody of this name is logged in",
    )
}

impl UserView {
    fn of(document: Option<&Document>, account: &Account, sessions: usize) -> Self {
        let hash = document.and_then(|document| document.hash.as_ref());
        Self {
            name: account.name.clone(),
            source: if document.is_some() {
                "users"
            } else {
                "session"
            }
            .to_owned(),
            enabled: !account.conditions.disabled,
            login: document.map(|document| document.login.word().to_owned()),
            password: hash.map(|hash| hash.kind().to_owned()),
            groups: document.map_or_else(Vec::new, |document| document.groups.clone()),
            expires: account.conditions.expires.map(rfc3339),
            sessions,
        }
    }
}

impl UserDetails {
    fn of(user: UserView, account: &Arc<Account>, serving: &Serving) -> Self {
        let tree = Tree::new(Arc::clone(account), &serving.config.mounts);
        let (quota, limits) = (account.quota, account.limits);
        let sessions = limits.sessions.map(|count| count as u64);
        let transfers = limits.transfers.map(|count| count as u64);
        let limits = [
            ("quota.bytes", quota.bytes),
            ("quota.files", quota.files),
            ("limits.sessions", sessions),
            ("limits.transfers", transfers),
            ("limits.file_bytes", limits.file_bytes),
            (
                "limits.upload_bytes_per_second",
                limits.upload_bytes_per_second,
            ),
            (
                "limits.download_bytes_per_second",
                limits.download_bytes_per_second,
            ),
        ];
        Self {
            user,
            home: account.home.clone(),
            read_only: account.read_only,
            mounts: tree
                .mounts()
                .map(|(path, backend, prefix, read_only)| MountView {
                    path: path.to_string(),
                    backend: backend.to_owned(),
                    prefix: prefix.map(str::to_owned),
                    read_only,
                })
                .collect(),
            grants: account
                .rules
                .iter()
                .map(|rule| GrantView {
                    path: rule.pattern.as_str().to_owned(),
                    allow: rule.allow.to_string(),
                    deny: rule.deny.to_string(),
                    origin: rule.origin.to_string(),
                })
                .collect(),
            file_names: account.file_names.words(),
            limits: limits
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?)))
                .collect(),
            conditions: account.conditions.words(),
            attributes: account.attributes.clone(),
            profile: account.profile.as_deref().map(str::to_owned),
        }
    }
}
