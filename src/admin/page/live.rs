//! The part of the page that changes.

use std::time::{Duration, SystemTime};

use maud::{Markup, html};

use super::{
    super::{
        Shared,
        api::{self, BanView, FailureView, SessionView, TransferView},
        history::{KEPT, PERIOD, Sample},
        ready::{Check, Readiness},
    },
    plot::{Line, plot},
};
use crate::text::{bytes, rate};

/// Rows of a table: whoever has more uses the API.
const ROWS: usize = 200;
/// Failures shown.
const FAILURES: usize = 25;

/// Everything, as it is now.
pub(super) fn render(admin: &Shared) -> Markup {
    let serving = admin.serving();
    let now = SystemTime::now();
    let sessions = api::sessions(admin);
    let transfers: Vec<&TransferView> = sessions
        .iter()
        .filter_map(|session| session.transfer.as_ref())
        .collect();
    let samples = admin.history.samples();
    let readiness = Readiness::of(admin, now);
    let draining = serving.shared.drain.has_begun();
    html! {
        header {
            h1 { "causeway" }
            span class=(if draining { "pill warn" } else { "pill good" }) {
                (if draining { "draining" } else { "serving" })
            }
            span class="version" { (env!("CARGO_PKG_VERSION")) }
            span class="uptime" { "up " (ago(admin.started, now)) }
            @if admin.settings.token.is_some() {
                button id="logout" { "Log out" }
            }
        }
        (numbers(admin, sessions.len(), transfers.len(), &samples))
        div class="plots" {
            (throughput(&samples))
            (replies(&samples))
        }
        (transfer_table(&transfers))
        (session_table(&sessions))
        (checks(&readiness))
        (bans(&api::bans(admin)))
        (failures(&api::recent_failures(admin, FAILURES)))
    }
}

fn numbers(admin: &Shared, sessions: usize, transfers: usize, samples: &[Sample]) -> Markup {
    let serving = admin.serving();
    let last = samples.last().copied().unwrap_or_default();
    let budget = serving.config.limits.upload_memory_bytes;
    let used = serving.shared.budget.used_bytes();
    html! {
        section class="numbers" {
            (number("Sessions", &sessions.to_string(), &format!("of {}", serving.config.limits.connections)))
            (number("Transfers", &transfers.to_string(), "running"))
            (number("In", &format!("{}/s", rate(last.upload_rate)), "from clients"))
            (number("Out", &format!("{}/s", rate(last.download_rate)), "to clients"))
            div class="number" {
                span class="what" { "Upload memory" }
                b { (bytes(used as u64)) }
                meter min="0" max=(budget) high=(budget / 10 * 9) value=(used) {}
                span class="more" { "of " (bytes(budget as u64)) }
            }
        }
    }
}

fn number(what: &str, value: &str, more: &str) -> Markup {
    html! {
        div class="number" {
            span class="what" { (what) }
            b { (value) }
            span class="more" { (more) }
        }
    }
}

fn throughput(samples: &[Sample]) -> Markup {
    let last = samples.last().copied().unwrap_or_default();
    let line = |class, name, now: f64, values: Vec<f64>| Line {
        class,
        name,
        now: format!("{}/s", rate(now)),
        values: values.into_iter().map(Some).collect(),
    };
    let up = samples.iter().map(|sample| sample.upload_rate).collect();
    let down = samples.iter().map(|sample| sample.download_rate).collect();
    let lines = [
        line("first", "in", last.upload_rate, up),
        line("second", "out", last.download_rate, down),
    ];
    plot("Throughput", &lines, KEPT, &span(), |top| {
        format!("{}/s", rate(top))
    })
}

fn replies(samples: &[Sample]) -> Markup {
    let milliseconds = |value: f64| value * 1000.0;
    let last = samples.last().and_then(|sample| sample.reply);
    let line = |class, name, now: Option<f64>, values: Vec<Option<f64>>| Line {
        class,
        name,
        now: now.map_or_else(
            || "–".to_owned(),
            |now| short_milliseconds(milliseconds(now)),
        ),
        values: values
            .into_iter()
            .map(|value| value.map(milliseconds))
            .collect(),
    };
    let median = samples
        .iter()
        .map(|sample| sample.reply.map(|reply| reply.median));
    let p95 = samples
        .iter()
        .map(|sample| sample.reply.map(|reply| reply.p95));
    let lines = [
        line("second", "95 %", last.map(|reply| reply.p95), p95.collect()),
        line(
            "first",
            "median",
            last.map(|reply| reply.median),
            median.collect(),
        ),
    ];
    plot("Time to reply", &lines, KEPT, &span(), short_milliseconds)
}

fn span() -> String {
    let minutes = PERIOD.as_secs() * (KEPT as u64) / 60;
    format!("{minutes} min")
}

fn short_milliseconds(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.1} ms")
    } else if value < 1000.0 {
        format!("{value:.0} ms")
    } else {
        format!("{:.1} s", value / 1000.0)
    }
}

fn transfer_table(transfers: &[&TransferView]) -> Markup {
    html! {
        section {
            h2 { "Transfers" span class="count" { (transfers.len()) } }
            @if transfers.is_empty() {
                p class="empty" { "No transfer is running." }
            } @else {
                table class="rows" {
                    thead { tr {
                        th { "User" } th { "File" } th class="wide" { "Progress" } th class="right" { "Rate" } th class="right" { "Since" } th {}
                    } }
                    tbody {
                        @for transfer in transfers.iter().take(ROWS) {
                            tr {
                                td data-label="User" { (who(transfer.user.as_deref())) }
                                td data-label="File" class="path" {
                                    span class=(format!("way {}", transfer.direction)) { (transfer.verb) } " "
                                    bdi { (transfer.path) }
                                }
                                td data-label="Progress" class="wide" { (progress(transfer)) }
                                td data-label="Rate" class="right" { (rate(transfer.bytes_per_second)) "/s" }
                                td data-label="Since" class="right" { (seconds(transfer.seconds)) }
                                td class="act" { (end(&transfer.session, transfer.user.as_deref(), &transfer.peer)) }
                            }
                        }
                    }
                }
                (more(transfers.len()))
            }
        }
    }
}

fn progress(transfer: &TransferView) -> Markup {
    html! {
        @match transfer.expected_bytes {
            Some(expected) if expected > 0 => {
                progress max=(expected) value=(transfer.bytes) {}
                span class="moved" { (bytes(transfer.bytes)) " of " (bytes(expected)) }
            }
            _ => {
                // The client says how long an upload is only when it ends.
                span class="flow" aria-hidden="true" {}
                span class="moved" { (bytes(transfer.bytes)) }
            }
        }
    }
}

fn session_table(sessions: &[SessionView]) -> Markup {
    html! {
        section {
            h2 { "Sessions" span class="count" { (sessions.len()) } }
            @if sessions.is_empty() {
                p class="empty" { "Nobody is connected." }
            } @else {
                table class="rows" {
                    thead { tr {
                        th { "User" } th { "Client" } th { "Listener" } th { "TLS" } th { "Last command" } th { "Session" } th {}
                    } }
                    tbody {
                        @for session in sessions.iter().take(ROWS) {
                            tr {
                                td data-label="User" { (who(session.user.as_deref())) }
                                td data-label="Client" class="mono" { (session.peer) }
                                td data-label="Listener" { (session.listener) }
                                td data-label="TLS" {
                                    @match &session.tls {
                                        Some(version) => (version),
                                        None => span class="pill warn" { "clear" },
                                    }
                                }
                                td data-label="Last command" {
                                    (session.last_command.as_deref().unwrap_or("–"))
                                    @if session.transfer.is_none() {
                                        span class="more" { " " (session.idle_seconds) " s ago" }
                                    }
                                }
                                td data-label="Session" class="mono" { (session.id) }
                                td class="act" { (end(&session.id, session.user.as_deref(), &session.peer)) }
                            }
                        }
                    }
                }
                (more(sessions.len()))
            }
        }
    }
}

fn end(session: &str, user: Option<&str>, peer: &str) -> Markup {
    html! {
        button class="kick" data-kick=(session) data-who=(format!("{} at {peer}", user.unwrap_or("nobody"))) { "End" }
    }
}

fn checks(readiness: &Readiness) -> Markup {
    html! {
        section {
            h2 {
                "Health"
                span class=(if readiness.ready { "pill good" } else { "pill bad" }) {
                    (if readiness.ready { "ready" } else { "not ready" })
                }
            }
            ul class="checks" {
                @for Check { name, ok, required, detail } in &readiness.checks {
                    li class=(if *ok { "good" } else if *required { "bad" } else { "warn" }) {
                        b { bdi { (name) } } " " span { (detail) }
                    }
                }
            }
        }
    }
}

fn bans(bans: &[BanView]) -> Markup {
    html! {
        section {
            h2 { "Bans" span class="count" { (bans.len()) } }
            @if bans.is_empty() {
                p class="empty" { "Nobody is banned." }
            } @else {
                table class="rows" {
                    thead { tr {
                        th { "Who" } th { "By" } th class="right" { "Ban" } th class="right" { "Left" } th {}
                    } }
                    tbody {
                        @for ban in bans.iter().take(ROWS) {
                            @let who = ban.name.as_deref().unwrap_or(&ban.subject);
                            tr {
                                td data-label="Who" class="path" { bdi { (who) } }
                                td data-label="By" { (ban.by) }
                                td data-label="Ban" class="right" { "no. " (ban.count) }
                                td data-label="Left" class="right" { (whole_seconds(ban.seconds_left)) }
                                td class="act" {
                                    button data-lift=(ban.subject) data-who=(who) { "Lift" }
                                }
                            }
                        }
                    }
                }
                (more(bans.len()))
            }
        }
    }
}

fn failures(failures: &[FailureView]) -> Markup {
    html! {
        section {
            h2 { "Recent failures" span class="count" { (failures.len()) } }
            @if failures.is_empty() {
                p class="empty" { "Nothing failed since the server started." }
            } @else {
                table class="rows" {
                    thead { tr {
                        th { "Reference" } th { "At" } th { "User" } th { "Command" } th { "Reason" }
                    } }
                    tbody {
                        @for failure in failures {
                            tr {
                                td data-label="Reference" class="mono" { (failure.reference) }
                                td data-label="At" class="mono" { (failure.at) }
                                td data-label="User" { (who(failure.user.as_deref())) }
                                td data-label="Command" class="path" {
                                    (failure.code) " " (failure.verb) " " bdi { (failure.path) }
                                }
                                td data-label="Reason" class="path" { bdi { (failure.reason) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn who(user: Option<&str>) -> Markup {
    html! {
        @match user {
            Some(user) => bdi { (user) },
            None => span class="more" { "not logged in" },
        }
    }
}

fn more(count: usize) -> Markup {
    html! {
        @if count > ROWS {
            p class="empty" { (count - ROWS) " more: use the API or " code { "causeway ctl" } "." }
        }
    }
}

fn ago(then: SystemTime, now: SystemTime) -> String {
    seconds(now.duration_since(then).unwrap_or_default().as_secs_f64())
}

fn whole_seconds(value: u64) -> String {
    seconds(Duration::from_secs(value).as_secs_f64())
}

fn seconds(value: f64) -> String {
    const DAY: f64 = 86_400.0;
    match value {
        ..60.0 => format!("{value:.0} s"),
        ..3600.0 => format!("{:.0} min", (value / 60.0).floor()),
        ..DAY => format!("{:.1} h", value / 3600.0),
        _ => format!("{:.1} d", value / DAY),
    }
}
