//! [`Here`]: the spans that work goes on in when it moves to another task.
//!
//! The log and the collector look at different spans, and each finds its own only among those that are
//! entered, not among their parents. So a command's span remembers the session's, and both go along.

use tracing::{Instrument as _, Span, instrument::Instrumented};
use tracing_subscriber::{
    Registry,
    registry::{LookupSpan as _, SpanRef},
};

/// Where this task is, for another one.
#[derive(Clone, Debug)]
pub struct Here {
    session: Span,
    current: Span,
}

/// Remembered by a command's span.
struct Session(Span);

impl Here {
    /// The present spans.
    pub fn now() -> Self {
        let current = Span::current();
        let mut session = Span::none();
        current.with_subscriber(|(id, dispatch)| {
            let registry = dispatch.downcast_ref::<Registry>();
            let data = registry.and_then(|registry| registry.span(id));
            // A store operation's span stands below the command's.
            for data in data.iter().flat_map(SpanRef::scope) {
                if let Some(Session(span)) = data.extensions().get() {
                    session = span.clone();
                }
            }
        });
        Self { session, current }
    }

    /// Nowhere.
    pub fn none() -> Self {
        Self {
            session: Span::none(),
            current: Span::none(),
        }
    }

    /// Lets `work` go on here.
    pub fn carry<T>(&self, work: T) -> Instrumented<Instrumented<T>> {
        work.instrument(self.current.clone())
            .instrument(self.session.clone())
    }
}

/// Makes `command` remember that it runs in `session`.
pub fn remember(command: &Span, session: &Span) {
    command.with_subscriber(|(id, dispatch)| {
        let registry = dispatch.downcast_ref::<Registry>();
        if let Some(data) = registry.and_then(|registry| registry.span(id)) {
            data.extensions_mut().insert(Session(session.clone()));
        }
    });
}
