use super::*;

fn order(subject: Subject) -> Order {
    Order {
        subject,
        lasts: Duration::from_mins(1),
        lines: 100,
    }
}

fn note(tap: &Tap, text: &str) {
    tap.note(|| What::Note(text.to_owned()));
}

fn heard(trace: &Trace) -> Vec<String> {
    let entries = trace.entries();
    entries.iter().map(|entry| entry.what.to_string()).collect()
}

fn tap(traces: &Arc<Traces>) -> Tap {
    Tap::new(
        Arc::clone(traces),
        "0badcafe",
        SocketAddr::from(([192, 0, 2, 7], 4711)),
    )
}

#[tokio::test]
async fn user_is_followed_from_the_first_line() {
    let traces = Arc::new(Traces::default());
    let trace = traces
        .start(order(Subject::User("alice".to_owned())))
        .unwrap();
    let (alice, bob) = (tap(&traces), tap(&traces));
    for (tap, name) in [(&alice, "alice"), (&bob, "bob")] {
        note(tap, "220");
        tap.name(name, false);
        note(tap, "331");
        tap.name(name, true);
        note(tap, "230");
    }
    assert_eq!(heard(&trace), ["220", "331", "230"]);
    traces.stop(trace.id());
    note(&alice, "more");
    assert_eq!(trace.count(), 3);
    assert_eq!(trace.ended().unwrap().0, Ended::Operator);
}

#[tokio::test]
async fn session_that_was_there_is_joined() {
    let traces = Arc::new(Traces::default());
    let tap = tap(&traces);
    note(&tap, "unheard");
    tap.name("alice", true);
    let by_user = traces
        .start(order(Subject::User("alice".to_owned())))
        .unwrap();
    let by_network = traces
        .start(order(Subject::Network("192.0.2.0/24".parse().unwrap())))
        .unwrap();
    let elsewhere = traces
        .start(order(Subject::Network("198.51.100.1/32".parse().unwrap())))
        .unwrap();
    note(&tap, "heard");
    for trace in [by_user, by_network] {
        assert_eq!(heard(&trace), ["found under way", "heard"]);
    }
    assert_eq!(elsewhere.count(), 0);
}

#[tokio::test]
async fn later_trace_of_a_session_that_another_followed_is_no_beginning() {
    let traces = Arc::new(Traces::default());
    let network = Subject::Network("192.0.2.7/32".parse().unwrap());
    traces.start(order(network)).unwrap();
    let tap = tap(&traces);
    note(&tap, "220");
    tap.name("alice", true);
    let later = traces
        .start(order(Subject::User("alice".to_owned())))
        .unwrap();
    note(&tap, "230");
    assert_eq!(heard(&later), ["found under way", "230"]);
}

#[tokio::test]
async fn number_lines_bytes_and_time_are_bounded() {
    let traces = Arc::new(Traces::default());
    let everybody = || order(Subject::Network("0.0.0.0/0".parse().unwrap()));
    let few = Order {
        lines: 2,
        ..everybody()
    };
    let few = traces.start(few).unwrap();
    let large = traces.start(everybody()).unwrap();
    let tap = tap(&traces);
    for _ in 0..3 {
        note(&tap, &"x".repeat(BYTES / 3));
    }
    assert_eq!((few.count(), few.ended().unwrap().0), (2, Ended::Full));
    assert_eq!((large.count(), large.ended().unwrap().0), (2, Ended::Full));
    let mut last = None;
    for _ in 0..KEPT {
        last = Some(traces.start(everybody()).unwrap());
    }
    // The two that had ended made room.
    assert_eq!(traces.list().len(), KEPT);
    assert_eq!(traces.start(everybody()).unwrap_err(), Full);
    drop(traces.kept_at(Instant::now() + Duration::from_secs(61)));
    note(&tap, "too late");
    let last = last.unwrap();
    assert_eq!((last.count(), last.ended().unwrap().0), (0, Ended::Time));
    assert!(!traces.is_on());
    let later = Instant::now() + FORGOTTEN_AFTER + Duration::from_secs(1);
    assert!(traces.kept_at(later).is_empty());
}
