//! Every metric, its name and its bounded labels, in one place.
//!
//! Owns the registry that `/metrics` prints. It is our own and not the process-global one that
//! libunftp can use: libunftp's counters see none of the bytes (they pass it by). No label ever
//! carries a user, a path or an address.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use super::{process::Process, text::plain};

/// Listener and how a connection was treated.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Admission {
    /// Configured listener name.
    pub listener: String,
    /// `admitted`, or why not: `full`, `listener_full`, `address_full`, `network_full`,
    /// `address_rate`, `network_rate`, `banned`.
    pub outcome: &'static str,
}

/// Channel, version and outcome of a TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandshakeLabels {
    /// `control`, `upload`, `download`, `listing`.
    pub channel: &'static str,
    /// `1.2`, `1.3`, `none`.
    pub version: &'static str,
    /// Name of the cipher suite, `none` of a failed handshake.
    pub suite: &'static str,
    /// `full`, `resumed`, `failed`.
    pub outcome: &'static str,
}

/// Why a TLS handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandshakeFailureLabels {
    /// `control`, `upload`, `download`, `listing`.
    pub channel: &'static str,
    /// `timeout`, `gone`, `protocol`, `foreign_protocol`, `foreign_session`, `not_resumed`,
    /// `other_certificate`, `clear_text`, `closed`.
    pub reason: &'static str,
}

/// What a store was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StoreLabels {
    /// Configured backend name.
    pub backend: String,
    /// `stat`, `list`, `read`, `write`, `part`, `commit` and the other methods of a store.
    pub operation: &'static str,
}

/// What a store was asked for again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StoreRetryLabels {
    /// Configured backend name.
    pub backend: String,
    /// As the library calls it: `UploadPart`, `PutObject` … of S3, `stat`, `list`, `read`, `write` …
    pub operation: String,
}

/// What became of spans for a collector.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SpanLabels {
    /// `exported`, `dropped`.
    pub outcome: &'static str,
}

/// What a store was asked for, and what it answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StoreOperationLabels {
    /// Configured backend name.
    pub backend: String,
    /// As in [`StoreLabels`].
    pub operation: &'static str,
    /// `ok`, or the kind of the error.
    pub outcome: &'static str,
}

/// A stretch of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PhaseLabels {
    /// `upload`, `download`, `listing`.
    pub direction: &'static str,
    /// `opening`: from the command to the 150; `first_byte`: from the command to the first byte of
    /// content; `commit`: from the end of an upload's content to the store's confirmation.
    pub phase: &'static str,
}

/// How a login went.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LoginLabels {
    /// Who decided: `users`, `http`, `ldap`, `anonymous`; `none` where no source knew the user or was
    /// asked.
    pub source: &'static str,
    /// `password`, `certificate` (that alone).
    pub factor: &'static str,
    /// `success`, `refused`, `unavailable`, `banned`, `sessions_full`.
    pub outcome: &'static str,
}

/// Outcome of a password check or a reload of users.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UsersLabels {
    /// Password checks: `hashed`, `remembered`, `busy`; reloads: `reloaded`, `failed`.
    pub outcome: &'static str,
}

/// Kind of a ban.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BanLabels {
    /// `address`, `network`, `user`.
    pub subject: &'static str,
}

/// Verb and reply class.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CommandLabels {
    /// The verb, or `unknown`.
    pub verb: &'static str,
    /// First digit of the final reply.
    pub class: &'static str,
}

/// Direction and outcome of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TransferLabels {
    /// `upload`, `download`, `listing`.
    pub direction: &'static str,
    /// `complete` or why not.
    pub outcome: &'static str,
}

/// Direction of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DirectionLabels {
    /// `upload`, `download`, `listing`.
    pub direction: &'static str,
}

/// Backend of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BackendLabels {
    /// Configured backend name.
    pub backend: String,
}

/// Listener of a gauge.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListenerLabels {
    /// Configured listener name.
    pub listener: String,
}

/// A certificate that causeway shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CertificateLabels {
    /// Configured listener name; `auth.http`, `shared_counters` where causeway is the client.
    pub listener: String,
    /// The file, as configured.
    pub certificate: String,
}

/// Outcome of a reload of certificates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReloadLabels {
    /// Configured listener name.
    pub listener: String,
    /// `reloaded`, `failed`.
    pub outcome: &'static str,
}

/// Outcome of a reload of the whole configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConfigReloadLabels {
    /// `reloaded`, `failed`.
    pub outcome: &'static str,
}

/// What became of audit lines.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AuditLabels {
    /// `written`, `retried` (a batch that the disk did not take), `dropped`.
    pub outcome: &'static str,
}

/// What became of events.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabels {
    /// Configured name.
    pub webhook: String,
    /// `spooled`, `delivered`, `retried`, `dead`, `failed` (not kept), `refused` (uploads, the spool
    /// being full).
    pub outcome: &'static str,
}

/// Webhook of a gauge.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WebhookLabels {
    /// Configured name.
    pub webhook: String,
}

/// What may be an attack.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SecurityLabels {
    /// `foreign_tls_session`, `other_client_certificate`.
    pub event: &'static str,
}

/// Why a PASV or EPSV got no port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PassiveRefusalLabels {
    /// Configured listener name.
    pub listener: String,
    /// `empty`, `share`, `address`, `error`.
    pub reason: &'static str,
}

/// A switch that a device would have needed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QuirkLabels {
    /// Configured listener name.
    pub listener: String,
    /// A key of the configuration.
    pub quirk: &'static str,
}

/// How a connection that must begin with a PROXY header began.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProxyHeaderLabels {
    /// Configured listener name.
    pub listener: String,
    /// `control`, `data`.
    pub channel: &'static str,
    /// `proxied`, `local`, `untrusted`, `timeout`, `malformed`, `closed`, `busy`.
    pub outcome: &'static str,
}

/// The server's metrics. Cheap to share; every field is itself shared.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// TCP connections by how they were treated.
    pub connections: Family<Admission, Counter>,
    /// Control connections open now.
    pub sessions: Gauge,
    /// TLS handshakes.
    pub handshakes: Family<HandshakeLabels, Counter>,
    /// Failed TLS handshakes.
    pub handshake_failures: Family<HandshakeFailureLabels, Counter>,
    /// Logins.
    pub logins: Family<LoginLabels, Counter>,
    /// Users of the users files.
    pub users: Gauge,
    /// Reloads of changed users files.
    pub users_reloads: Family<UsersLabels, Counter>,
    /// Passwords checked by the users files.
    pub password_checks: Family<UsersLabels, Counter>,
    /// Bans of now.
    pub bans: Family<BanLabels, Gauge>,
    /// Bans that began.
    pub bans_started: Family<BanLabels, Counter>,
    /// Transfers refused because the user has enough of them.
    pub transfers_refused: Counter,
    /// 1 while the counters of several replicas can be reached.
    pub shared_counters_up: Gauge,
    /// Requests to them that failed.
    pub shared_store_failures: Counter,
    /// Commands answered.
    pub commands: Family<CommandLabels, Counter>,
    /// Transfers ended.
    pub transfers: Family<TransferLabels, Counter>,
    /// Transfers running now.
    pub transfers_running: Family<DirectionLabels, Gauge>,
    /// Content bytes moved.
    pub transfer_bytes: Family<DirectionLabels, Counter>,
    /// Seconds from the transfer command to its final reply.
    pub transfer_seconds: Family<DirectionLabels, Histogram>,
    /// Seconds of the stretches of a transfer.
    pub transfer_phase_seconds: Family<PhaseLabels, Histogram>,
    /// Operations of stores.
    pub store_operations: Family<StoreOperationLabels, Counter>,
    /// Seconds of operations of stores.
    pub store_seconds: Family<StoreLabels, Histogram>,
    /// Requests that were sent again.
    pub store_retries: Family<StoreRetryLabels, Counter>,
    /// Spans for a collector.
    pub spans: Family<SpanLabels, Counter>,
    /// Bytes that uploads hold in memory.
    pub upload_memory: Gauge,
    /// Unfinished uploads that the last sweep left in a store, running ones included.
    pub uploads_unfinished: Family<BackendLabels, Gauge>,
    /// Interrupted uploads that this process has kept.
    pub uploads_kept: Gauge,
    /// Their bytes.
    pub uploads_kept_size: Gauge,
    /// Files of this process that wait for their rename.
    pub uploads_deferred: Family<BackendLabels, Gauge>,
    /// Their bytes.
    pub uploads_deferred_size: Family<BackendLabels, Gauge>,
    /// Unfinished uploads that sweeps ended.
    pub uploads_swept: Family<BackendLabels, Counter>,
    /// Free passive ports, where a range is configured.
    pub passive_ports_free: Family<ListenerLabels, Gauge>,
    /// Unix seconds of a certificate's last moment.
    pub certificate_expiry: Family<CertificateLabels, Gauge>,
    /// Reloads of the whole configuration.
    pub config_reloads: Family<ConfigReloadLabels, Counter>,
    /// Reloads of certificates.
    pub certificate_reloads: Family<ReloadLabels, Counter>,
    /// What may be an attack; the log says who.
    pub security_events: Family<SecurityLabels, Counter>,
    /// PASV and EPSV that got no port.
    pub passive_refusals: Family<PassiveRefusalLabels, Counter>,
    /// Data connections from the wrong address, closed.
    pub data_strangers: Family<ListenerLabels, Counter>,
    /// Sessions that would have needed a switch (`learn: true`).
    pub learned_quirks: Family<QuirkLabels, Counter>,
    /// Connections that must begin with a PROXY header.
    pub proxy_headers: Family<ProxyHeaderLabels, Counter>,
    /// Lines of the audit trail.
    pub audit_records: Family<AuditLabels, Counter>,
    /// Events of webhooks.
    pub events: Family<EventLabels, Counter>,
    /// Events that wait for a webhook.
    pub events_spooled: Family<WebhookLabels, Gauge>,
    /// 1 while new connections are admitted.
    pub ready: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Notes the last moment of the certificate in `file`, in Unix seconds; `user` is the listener that
    /// shows it, or the section of the configuration that causeway shows it for.
    pub fn certificate_ends(&self, user: &str, file: String, not_after: i64) {
        let labels = CertificateLabels {
            listener: user.to_owned(),
            certificate: file,
        };
        self.certificate_expiry
            .get_or_create(&labels)
            .set(not_after);
    }

    /// A registry with every metric at zero.
    pub fn new() -> Arc<Self> {
        // From a listing on a local disk to an hour-long upload.
        let seconds = || Histogram::new(exponential_buckets(0.01, 4.0, 10));
        // From a look at a local disk to the commit of many parts.
        let short = || Histogram::new(exponential_buckets(0.001, 4.0, 10));
        let mut metrics = Self {
            registry: Registry::with_prefix("causeway"),
            connections: Family::default(),
            sessions: Gauge::default(),
            handshakes: Family::default(),
            handshake_failures: Family::default(),
            logins: Family::default(),
            users: Gauge::default(),
            users_reloads: Family::default(),
            password_checks: Family::default(),
            bans: Family::default(),
            bans_started: Family::default(),
            transfers_refused: Counter::default(),
            shared_counters_up: Gauge::default(),
            shared_store_failures: Counter::default(),
            commands: Family::default(),
            transfers: Family::default(),
            transfers_running: Family::default(),
            transfer_bytes: Family::default(),
            transfer_seconds: Family::new_with_constructor(seconds),
            transfer_phase_seconds: Family::new_with_constructor(short),
            store_operations: Family::default(),
            store_seconds: Family::new_with_constructor(short),
            store_retries: Family::default(),
            spans: Family::default(),
            upload_memory: Gauge::default(),
            uploads_unfinished: Family::default(),
            uploads_kept: Gauge::default(),
            uploads_kept_size: Gauge::default(),
            uploads_deferred: Family::default(),
            uploads_deferred_size: Family::default(),
            uploads_swept: Family::default(),
            passive_ports_free: Family::default(),
            certificate_expiry: Family::default(),
            config_reloads: Family::default(),
            certificate_reloads: Family::default(),
            security_events: Family::default(),
            passive_refusals: Family::default(),
            data_strangers: Family::default(),
            learned_quirks: Family::default(),
            proxy_headers: Family::default(),
            audit_records: Family::default(),
            events: Family::default(),
            events_spooled: Family::default(),
            ready: Gauge::default(),
        };
        metrics.register();
        metrics.register_uploads();
        metrics.register_users();
        metrics.register_guard();
        metrics.register_journal();
        metrics.register_stores();
        Arc::new(metrics)
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "connections",
            "TCP connections by listener and outcome",
            self.connections.clone(),
        );
        registry.register(
            "sessions",
            "Control connections open now",
            self.sessions.clone(),
        );
        registry.register("tls_handshakes", "TLS handshakes", self.handshakes.clone());
        registry.register(
            "tls_handshake_failures",
            "Failed TLS handshakes by reason",
            self.handshake_failures.clone(),
        );
        registry.register(
            "logins",
            "Logins by source, factor and outcome",
            self.logins.clone(),
        );
        registry.register(
            "commands",
            "Commands by verb and reply class",
            self.commands.clone(),
        );
        registry.register(
            "transfers",
            "Ended transfers by direction and outcome",
            self.transfers.clone(),
        );
        registry.register(
            "transfers_running",
            "Transfers running now",
            self.transfers_running.clone(),
        );
        registry.register_with_unit(
            "transfer",
            "Content bytes moved",
            Unit::Bytes,
            self.transfer_bytes.clone(),
        );
        registry.register_with_unit(
            "transfer_duration",
            "From the transfer command to its final reply",
            Unit::Seconds,
            self.transfer_seconds.clone(),
        );
        registry.register(
            "passive_ports_free",
            "Free passive ports",
            self.passive_ports_free.clone(),
        );
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "Last moment of a certificate, in unix time",
            Unit::Seconds,
            self.certificate_expiry.clone(),
        );
        registry.register(
            "config_reloads",
            "Reloads of the configuration by outcome",
            self.config_reloads.clone(),
        );
        registry.register(
            "certificate_reloads",
            "Reloads of changed certificate files by outcome",
            self.certificate_reloads.clone(),
        );
        registry.register(
            "security_events",
            "What may be an attack, by kind",
            self.security_events.clone(),
        );
        registry.register(
            "passive_refusals",
            "PASV and EPSV that got no port, by reason",
            self.passive_refusals.clone(),
        );
        registry.register(
            "data_strangers",
            "Data connections from the wrong address, closed",
            self.data_strangers.clone(),
        );
        registry.register(
            "learned_quirks",
            "Sessions that would have needed a switch, by its key",
            self.learned_quirks.clone(),
        );
        registry.register(
            "proxy_headers",
            "Connections that must begin with a PROXY header, by outcome",
            self.proxy_headers.clone(),
        );
        registry.register(
            "ready",
            "1 while new connections are admitted",
            self.ready.clone(),
        );
    }

    fn register_uploads(&mut self) {
        let registry = &mut self.registry;
        registry.register_with_unit(
            "upload_memory",
            "Bytes that running uploads hold in memory",
            Unit::Bytes,
            self.upload_memory.clone(),
        );
        registry.register(
            "uploads_unfinished",
            "Unfinished uploads that the last sweep left in a store, running ones included",
            self.uploads_unfinished.clone(),
        );
        registry.register(
            "uploads_kept",
            "Interrupted uploads that this process has kept and nobody went on with",
            self.uploads_kept.clone(),
        );
        registry.register_with_unit(
            "uploads_kept_size",
            "What interrupted uploads that this process has kept hold in stores",
            Unit::Bytes,
            self.uploads_kept_size.clone(),
        );
        registry.register(
            "uploads_deferred",
            "Files of this process that wait for their rename",
            self.uploads_deferred.clone(),
        );
        registry.register_with_unit(
            "uploads_deferred_size",
            "What files of this process that wait for their rename hold in a store",
            Unit::Bytes,
            self.uploads_deferred_size.clone(),
        );
        registry.register(
            "uploads_swept",
            "Unfinished uploads that sweeps ended",
            self.uploads_swept.clone(),
        );
    }

    fn register_users(&mut self) {
        let registry = &mut self.registry;
        registry.register("users", "Users of the users files", self.users.clone());
        registry.register(
            "users_reloads",
            "Reloads of changed users files by outcome",
            self.users_reloads.clone(),
        );
        registry.register(
            "password_checks",
            "Passwords checked by the users files: hashed, remembered, or refused for want of time",
            self.password_checks.clone(),
        );
    }

    /// Bans and refusals.
    fn register_guard(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "shared_counters_up",
            "1 while the counters of several replicas can be reached",
            self.shared_counters_up.clone(),
        );
        registry.register(
            "shared_store_failures",
            "Requests to the counters of several replicas that failed",
            self.shared_store_failures.clone(),
        );
        registry.register("bans", "Bans of now by kind of subject", self.bans.clone());
        registry.register(
            "bans_started",
            "Bans that began, by kind of subject",
            self.bans_started.clone(),
        );
        registry.register(
            "transfers_refused",
            "Transfers refused because the user has enough of them",
            self.transfers_refused.clone(),
        );
    }

    fn register_stores(&mut self) {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let registry = &mut self.registry;
        registry.register("build", "What is running", Info::new(version));
        registry.register(
            "store_operations",
            "Operations of stores by outcome",
            self.store_operations.clone(),
        );
        registry.register_with_unit(
            "store_operation_duration",
            "From an operation's begin to its answer, retries included",
            Unit::Seconds,
            self.store_seconds.clone(),
        );
        registry.register(
            "store_retries",
            "Requests to stores that were sent again",
            self.store_retries.clone(),
        );
        registry.register_with_unit(
            "transfer_phase_duration",
            "To the 150, to the first byte, and of the commit",
            Unit::Seconds,
            self.transfer_phase_seconds.clone(),
        );
    }

    fn register_journal(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "otlp_spans",
            "Spans for the OpenTelemetry collector by outcome",
            self.spans.clone(),
        );
        registry.register(
            "audit_records",
            "Lines of the audit trail by outcome",
            self.audit_records.clone(),
        );
        registry.register(
            "events",
            "Events of webhooks by outcome",
            self.events.clone(),
        );
        registry.register(
            "events_spooled",
            "Events that wait for a webhook",
            self.events_spooled.clone(),
        );
    }

    /// [`Self::page`] in the older text form, for whoever does not ask for OpenMetrics.
    pub fn plain_page(&self) -> Result<String, std::fmt::Error> {
        self.page().map(|page| plain(&page))
    }

    /// The page `/metrics` serves (OpenMetrics text).
    pub fn page(&self) -> Result<String, std::fmt::Error> {
        let mut page = String::new();
        // Without our prefix: dashboards for every process know these names.
        let mut process = Registry::default();
        process.register_collector(Box::new(Process));
        text::encode_registry(&mut page, &self.registry)?;
        text::encode_registry(&mut page, &process)?;
        text::encode_eof(&mut page)?;
        Ok(page)
    }
}
