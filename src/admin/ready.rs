//! Readiness: whether new clients are welcome, and why not.

use std::{fmt::Write as _, time::SystemTime};

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Admin, Shared, guard};
use crate::validity::Validity;

/// All checks together.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// Whether new clients are welcome.
    pub ready: bool,
    /// One line each.
    pub checks: Vec<Check>,
}

/// One thing that is looked at.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Check {
    /// `drain`, `listener NAME`, `certificate NAME FILE`, `backend NAME`.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// Whether readiness hangs on it.
    pub required: bool,
    /// What was seen.
    pub detail: String,
}

impl Readiness {
    /// Looks at everything. Cheap: nothing is asked that is not in memory.
    pub(super) fn of(admin: &Admin, now: SystemTime) -> Self {
        let serving = admin.serving();
        let mut checks = Vec::new();
        let draining = serving.shared.drain.has_begun();
        checks.push(Check {
            name: "drain".to_owned(),
            ok: !draining,
            required: true,
            detail: if draining {
                "the server is stopping".to_owned()
            } else {
                "not stopping".to_owned()
            },
        });
        for door in &serving.doors {
            let name = &door.config.name;
            checks.push(Check {
                name: format!("listener {name}"),
                ok: !draining,
                required: true,
                detail: if serving.shared.drain.has_closed() {
                    "closed".to_owned()
                } else if draining {
                    "closes soon".to_owned()
                } else {
                    format!("accepts on {}", admin.address_of(&door.config))
                },
            });
            for certificate in door.tls.certificates() {
                let validity = certificate.validity(now);
                checks.push(Check {
                    name: format!("certificate {name} {}", certificate.file.display()),
                    ok: validity != Validity::Expired,
                    // Taking the server out of its balancer would help nobody: the others have the
                    // same certificate, and clients that do not verify still work.
                    required: false,
                    detail: match validity {
                        Validity::Expired => "has expired".to_owned(),
                        Validity::Ending(days) => format!("expires in {days} days"),
                        Validity::Good => format!("valid until {}", day(certificate.not_after)),
                    },
                });
            }
        }
        for (name, store) in serving.shared.surroundings.stores.iter() {
            let last = store.health();
            let ago = |then: SystemTime| now.duration_since(then).unwrap_or_default().as_secs();
            checks.push(Check {
                name: format!("backend {name}"),
                ok: last.is_good(),
                // All replicas see the same store: without it none would be left to say so.
                required: false,
                detail: match (
                    last.bad
                        .filter(|(bad, _)| last.good.is_none_or(|good| good < *bad)),
                    last.good,
                ) {
                    (Some((at, why)), _) => format!("failed {} s ago: {why}", ago(at)),
                    (None, Some(at)) => format!("answered {} s ago", ago(at)),
                    (None, None) => "not asked yet".to_owned(),
                },
            });
        }
        Self {
            ready: checks.iter().all(|check| check.ok || !check.required),
            checks,
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for Check {
            name, ok, detail, ..
        } in &self.checks
        {
            let sign = if *ok { '+' } else { '-' };
            // Writing to a string does not fail.
            let _ = writeln!(text, "[{sign}] {name}: {detail}");
        }
        text + if self.ready { "ready\n" } else { "not ready\n" }
    }
}

/// The day of a moment in unix time.
fn day(seconds: i64) -> String {
    let moment = time::OffsetDateTime::from_unix_timestamp(seconds);
    moment.map_or_else(
        |_| "a far day".to_owned(),
        |moment| moment.date().to_string(),
    )
}

/// `ok` or `draining` for the balancer; `?verbose` for people, who need the token where there is one.
pub(super) async fn readyz(State(admin): State<Shared>, request: Request) -> Response {
    let readiness = Readiness::of(&admin, SystemTime::now());
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let verbose = request.uri().query().is_some_and(|query| {
        query
            .split('&')
            .any(|word| word.split('=').next() == Some("verbose"))
    });
    if verbose {
        if let Err(refusal) = guard::allow(&admin, &request) {
            return refusal;
        }
        return (status, readiness.text()).into_response();
    }
    let text = if readiness.ready {
        "ok\n"
    } else {
        "draining\n"
    };
    (status, text).into_response()
}
