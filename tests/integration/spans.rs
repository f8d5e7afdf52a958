//! OpenTelemetry spans, as a collector gets them.

use std::time::Duration;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message as _;
use serde_json::json;

use crate::harness::{Raw, Receiver, Server, Store, http_get, until, write_certificates};

const PATIENCE: Duration = Duration::from_mins(1);

fn decoded(receiver: &Receiver) -> Vec<ExportTraceServiceRequest> {
    let requests = receiver.requests();
    let decode = |body: &Vec<u8>| ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
    requests
        .iter()
        .map(|request| decode(&request.bytes))
        .collect()
}

fn spans(receiver: &Receiver) -> Vec<Span> {
    let resources = decoded(receiver)
        .into_iter()
        .flat_map(|one| one.resource_spans);
    let scopes = resources.flat_map(|one| one.scope_spans);
    scopes.flat_map(|one| one.spans).collect()
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|pair| pair.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        other => format!("{other:?}"),
    })
}

/// One upload: connection → STOR → what the store did.
#[track_caller]
fn one_upload(store: &Store, receiver: &Receiver, identities: bool) -> Vec<Span> {
    let server = Server::with(store)
        .set(
            "/telemetry",
            json!({"otlp": {
                "endpoint": receiver.url(), "service_name": "ftp-test",
                "headers": {"X-Key": {"env": "COLLECTOR_KEY"}}, "identities": identities,
            }}),
        )
        .environment("COLLECTOR_KEY", "key-of-the-collector")
        .start();
    let mut raw = Raw::explicit(&server);
    raw.store("STOR file", b"content");
    raw.expect("SIZE nothing", 550);
    raw.expect("QUIT", 221);
    drop(raw);
    let spans = until(PATIENCE, "the connection's span is there", || {
        let spans = spans(receiver);
        let over = spans.iter().any(|span| {
            span.name == "connection" && text(&span.attributes, "listener").unwrap() == "explicit"
        });
        over.then_some(spans.clone())
            .ok_or_else(|| format!("{spans:?}"))
    });
    let exported = until(PATIENCE, "they are counted", || {
        let exported = server.metric("causeway_otlp_spans_total", &["outcome=\"exported\""]);
        (exported >= 1.0)
            .then_some(exported)
            .ok_or(exported.to_string())
    });
    assert!(exported >= 3.0, "{exported}");
    let (_, configured) = http_get(server.admin, "/api/v1/config");
    assert!(configured.contains("ftp-test"), "{configured}");
    assert!(!configured.contains("key-of-the-collector"));
    assert!(!server.log().join("\n").contains("key-of-the-collector"));
    spans
}

#[test]
fn collector_gets_connection_command_and_store_operations() {
    let store = Store::local();
    let receiver = Receiver::start(Some(200));
    let spans = one_upload(&store, &receiver, false);
    let request = &receiver.requests()[0];
    assert_eq!(request.headers["x-key"], "key-of-the-collector");
    assert_eq!(request.headers["content-type"], "application/x-protobuf");
    let resource = decoded(&receiver)[0].resource_spans[0].resource.clone();
    let resource = resource.unwrap().attributes;
    assert_eq!(text(&resource, "service.name").unwrap(), "ftp-test");
    let named = |name: &str| {
        let found = spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("{name} in {spans:?}"))
    };
    let (connection, upload) = (named("connection"), named("STOR"));
    assert!(connection.parent_span_id.is_empty());
    assert_eq!(upload.parent_span_id, connection.span_id);
    for name in ["store write", "store commit"] {
        let span = named(name);
        assert_eq!(span.parent_span_id, upload.span_id, "{name}");
        assert_eq!(text(&span.attributes, "backend").unwrap(), "main");
        assert_eq!(text(&span.attributes, "outcome").unwrap(), "ok");
    }
    // Asked for by the engine, in a task of its own.
    let looked = spans
        .iter()
        .any(|span| span.name == "store stat" && span.parent_span_id == named("SIZE").span_id);
    assert!(looked, "{spans:?}");
    // A sweep belongs to no connection.
    for span in spans.iter().filter(|span| span.name != "store sweep") {
        assert_eq!(span.trace_id, connection.trace_id, "{span:?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        assert!(span.start_time_unix_nano >= connection.start_time_unix_nano);
        // Who and what is nobody's business unless it is asked for.
        let shown = format!("{span:?}");
        for hidden in ["alice", "127.0.0.1", "/file", "nothing"] {
            assert!(!shown.contains(hidden), "{hidden} in {shown}");
        }
    }
    let code = upload
        .attributes
        .iter()
        .find(|pair| pair.key == "reply_code");
    let code = code
        .and_then(|pair| pair.value.clone())
        .and_then(|value| value.value);
    assert_eq!(code, Some(Value::IntValue(226)));
}

#[test]
fn identities_go_along_where_they_are_asked_for() {
    let store = Store::local();
    let receiver = Receiver::start(Some(200));
    let spans = one_upload(&store, &receiver, true);
    let all = format!("{spans:?}");
    for shown in ["alice", "127.0.0.1", "/file"] {
        assert!(all.contains(shown), "{shown} in {all}");
    }
    assert!(!all.contains(crate::harness::PASSWORD), "{all}");
}

#[test]
fn collector_that_is_away_disturbs_nobody() {
    let store = Store::local();
    // It refuses for good, then hangs up.
    let receiver = Receiver::start(Some(400));
    let mut server = Server::with(&store)
        .set("/telemetry", json!({"otlp": {"endpoint": receiver.url()}}))
        .start();
    let mut raw = Raw::explicit(&server);
    raw.store("STOR one", b"first");
    until(PATIENCE, "spans are counted as dropped", || {
        let dropped = server.metric("causeway_otlp_spans_total", &["outcome=\"dropped\""]);
        (dropped >= 1.0).then_some(()).ok_or(dropped.to_string())
    });
    receiver.answer(None);
    raw.store("STOR two", b"second");
    raw.expect("QUIT", 221);
    server.terminate();
    assert_eq!(server.wait(Duration::from_secs(30)).code(), Some(0));
    store.assert_holds(&[("alice/one", b"first"), ("alice/two", b"second")]);
    let log = server.log().join("\n");
    assert!(log.contains("spans are lost"), "{log}");
}

/// Over TLS to a collector of an authority of one's own; to nobody who cannot prove who it is.
#[test]
fn spans_and_credentials_go_only_to_a_collector_that_is_believed() {
    let store = Store::local();
    let [own, strange] = [(); 2].map(|()| tempfile::TempDir::new().unwrap());
    for directory in [&own, &strange] {
        write_certificates(directory.path());
    }
    let receiver = Receiver::with_tls(Some(200), own.path());
    let server = |ca_file: Option<&tempfile::TempDir>| {
        let mut otlp =
            json!({"endpoint": receiver.url(), "headers": {"X-Key": "of-the-collector"}});
        if let Some(directory) = ca_file {
            otlp["ca_file"] = json!(directory.path().join("ca.pem"));
        }
        Server::with(&store)
            .set("/telemetry", json!({"otlp": otlp}))
            .start()
    };
    for ca_file in [None, Some(&strange)] {
        let server = server(ca_file);
        Raw::explicit(&server).expect("QUIT", 221);
        until(PATIENCE, "spans are counted as dropped", || {
            let dropped = server.metric("causeway_otlp_spans_total", &["outcome=\"dropped\""]);
            (dropped >= 1.0).then_some(()).ok_or(dropped.to_string())
        });
        let log = server.log().join("\n");
        assert!(log.contains("certificate"), "{log}");
        assert!(!log.contains("of-the-collector"));
        assert!(receiver.requests().is_empty());
    }
    let server = server(Some(&own));
    Raw::explicit(&server).expect("QUIT", 221);
    until(PATIENCE, "the collector has them", || {
        let spans = spans(&receiver);
        let found = spans.iter().any(|span| span.name == "connection");
        found.then_some(()).ok_or_else(|| format!("{spans:?}"))
    });
    assert_eq!(receiver.requests()[0].headers["x-key"], "of-the-collector");
}
