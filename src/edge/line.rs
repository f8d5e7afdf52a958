//! [`LineBuffer`]: cuts the bytes of the control connection into lines of bounded length.
//!
//! Owns the limits of one line (CONFORMANCE A3, A5, S34). Must not know what a line means, nor read
//! sockets: the caller keeps the bytes that were read, so that those behind `AUTH TLS` can go to the
//! TLS handshake instead (C9). Called by the control loop of [`crate::edge`], which hands the lines
//! to [`crate::edge::command::parse()`].

use bytes::Buf;

/// What the bytes of a control connection amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineEvent {
    /// One line without its LF (a CR before the LF is still there).
    Line(Vec<u8>),
    /// A line exceeds [`LineBuffer::LINE_BYTES`]: answer `500` once. Its bytes up to the LF are
    /// dropped and never parsed as a command.
    TooLong,
    /// The line exceeds [`LineBuffer::DISCARD_BYTES`]: answer `421` and close. Nothing follows.
    Close,
}

/// Cuts bytes into lines, whatever pieces they arrive in.
#[derive(Debug, Default)]
pub struct LineBuffer {
    state: State,
}

#[derive(Debug)]
enum State {
    /// The beginning of a line, shorter than the limit.
    Collect(Vec<u8>),
    /// This many bytes of a line that is too long went by.
    Discard(usize),
    /// No line is taken any more.
    Closed,
}

impl Default for State {
    fn default() -> Self {
        Self::Collect(Vec::new())
    }
}

impl LineBuffer {
    /// Longest line in bytes without its LF: four times a full path with every byte doubled, far
    /// above what clients send and small enough for ten thousand connections.
    pub const LINE_BYTES: usize = 8192;
    /// How many bytes of one line are read before the peer is no longer believed to speak FTP.
    pub const DISCARD_BYTES: usize = 4 << 20;

    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from `input` up to the next event; `None` when `input` is used up without one.
    ///
    /// Bytes behind an event stay in `input`.
    pub fn next(&mut self, input: &mut impl Buf) -> Option<LineEvent> {
        while input.has_remaining() {
            let chunk = input.chunk();
            let newline = chunk.iter().position(|&byte| byte == b'\n');
            let content = &chunk[..newline.unwrap_or(chunk.len())];
            let (used, event) = match &mut self.state {
                State::Collect(line) if line.len() + content.len() <= Self::LINE_BYTES => {
                    line.extend_from_slice(content);
                    let event = newline.map(|_| LineEvent::Line(std::mem::take(line)));
                    (content.len() + usize::from(newline.is_some()), event)
                }
                State::Collect(line) => {
                    // Count what is dropped up to the limit and look at the rest again as discarded
                    // bytes, so that the outcome does not depend on how the bytes were cut.
                    let used = Self::LINE_BYTES - line.len();
                    self.state = State::Discard(Self::LINE_BYTES);
                    (used, Some(LineEvent::TooLong))
                }
                State::Discard(count) if *count + content.len() <= Self::DISCARD_BYTES => {
                    *count += content.len();
                    if newline.is_some() {
                        self.state = State::default();
                    }
                    (content.len() + usize::from(newline.is_some()), None)
                }
                State::Discard(_) => {
                    self.state = State::Closed;
                    (input.remaining(), Some(LineEvent::Close))
                }
                State::Closed => (input.remaining(), None),
            };
            input.advance(used);
            if event.is_some() {
                return event;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<LineEvent> {
        let mut buffer = LineBuffer::new();
        let mut events = Vec::new();
        for mut chunk in chunks {
            while let Some(event) = buffer.next(&mut chunk) {
                events.push(event);
            }
            assert!(chunk.is_empty());
        }
        events
    }

    fn line(text: &str) -> LineEvent {
        LineEvent::Line(text.into())
    }

    #[test]
    fn lines_end_at_every_lf() {
        assert_eq!(
            events([&b"NOOP\r\nPWD\n\nQU"[..], b"IT", b"\r", b"\n"]),
            [line("NOOP\r"), line("PWD"), line(""), line("QUIT\r")]
        );
        assert_eq!(events([&b"no end"[..]]), []);
    }

    #[test]
    fn bytes_behind_an_event_stay_with_the_caller() {
        let mut input = &b"AUTH TLS\r\n\x16\x03\x01"[..];
        let mut buffer = LineBuffer::new();
        assert_eq!(buffer.next(&mut input), Some(line("AUTH TLS\r")));
        assert_eq!(input, b"\x16\x03\x01");
    }

    #[test]
    fn the_longest_line_passes_and_one_byte_more_does_not() {
        let longest = vec![b'x'; LineBuffer::LINE_BYTES];
        let mut bytes = longest.clone();
        bytes.extend_from_slice(b"\nNOOP\n");
        assert_eq!(
            events([&bytes[..]]),
            [LineEvent::Line(longest), line("NOOP")]
        );
        bytes.insert(0, b'x');
        assert_eq!(events([&bytes[..]]), [LineEvent::TooLong, line("NOOP")]);
    }

    #[test]
    fn the_tail_of_a_long_line_is_never_a_command() {
        let mut bytes = b"SITE ".to_vec();
        bytes.resize(16 * 1024, b'A');
        bytes.extend_from_slice(b"\rDELE x\r\nNOOP\r\n");
        for size in [1, 7, 512, 8191, 8192, 8193, bytes.len()] {
            assert_eq!(
                events(bytes.chunks(size)),
                [LineEvent::TooLong, line("NOOP\r")],
                "{size}"
            );
        }
    }

    #[test]
    fn a_line_without_end_closes_once() {
        let mut bytes = vec![b'x'; LineBuffer::DISCARD_BYTES];
        bytes.extend_from_slice(b"\nNOOP\n");
        assert_eq!(events([&bytes[..]]), [LineEvent::TooLong, line("NOOP")]);
        bytes.insert(0, b'x');
        for size in [1000, bytes.len()] {
            assert_eq!(
                events(bytes.chunks(size)),
                [LineEvent::TooLong, LineEvent::Close],
                "{size}"
            );
        }
    }

    proptest! {
        #[test]
        fn chunking_changes_nothing(
            parts in prop::collection::vec(
                prop_oneof![
                    4 => "[a-zA-Z \r]{0,20}\n".prop_map(String::into_bytes),
                    2 => (8150usize..8230).prop_map(|n| vec![b'x'; n]),
                    1 => prop::collection::vec(any::<u8>(), 0..40),
                    1 => (1_048_000usize..1_049_000).prop_map(|n| vec![b'y'; n]),
                ],
                0..8,
            ),
            size in prop_oneof![1usize..64, 1000usize..20_000],
        ) {
            let bytes = parts.concat();
            prop_assert_eq!(events(bytes.chunks(size)), events([&bytes[..]]));
        }

        #[test]
        fn short_lines_come_out_as_they_went_in(lines in prop::collection::vec("[^\n]{0,40}", 0..20)) {
            let bytes: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
            let expected: Vec<_> = lines.iter().map(|text| line(text)).collect();
            prop_assert_eq!(events([bytes.as_bytes()]), expected);
        }
    }
}
