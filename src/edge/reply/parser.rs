//! [`ReplyParser`]: reads the replies of libunftp 0.24 (`controlchan/codecs.rs`, `FtpCodec::encode`).

use bytes::Buf;

use super::Reply;

/// Why the engine's bytes are no reply. After an error the dialogue cannot be resumed: the engine's
/// connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line outside a multi-line reply that does not begin with a code of 100 to 599 and a space
    /// or hyphen.
    #[error("engine sent a line that is no reply")]
    NoReply,
    /// A line is not UTF-8.
    #[error("engine sent a reply that is not UTF-8")]
    NotUtf8,
    /// One reply is longer than [`ReplyParser::REPLY_BYTES`].
    #[error("engine sent a reply longer than 64 KiB")]
    TooLong,
}

/// Reads replies from bytes, whatever pieces they arrive in.
///
/// Format: `ddd text`, `ddd` alone when there is no text, or `ddd-first`, any number of lines of
/// which none begins with a digit, `ddd last`. The one space by which an inner line may be indented
/// is not part of its text.
#[derive(Debug, Default)]
pub struct ReplyParser {
    /// The line under way, without LF.
    line: Vec<u8>,
    /// Code and lines of a multi-line reply under way.
    open: Option<(u16, Vec<String>)>,
    /// Bytes of the reply under way.
    used: usize,
}

impl ReplyParser {
    /// Longest reply in bytes. The engine's longest is its FEAT or HELP, below one KiB.
    pub const REPLY_BYTES: usize = 64 * 1024;

    /// A parser at the beginning of a reply.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from `input` up to the end of the next reply; `None` when `input` is used up
    /// without one. Bytes behind a reply stay in `input`.
    pub fn next(&mut self, input: &mut impl Buf) -> Result<Option<Reply>, ReplyError> {
        while input.has_remaining() {
            let chunk = input.chunk();
            let newline = chunk.iter().position(|&byte| byte == b'\n');
            let content = &chunk[..newline.unwrap_or(chunk.len())];
            let used = content.len() + usize::from(newline.is_some());
            self.used += used;
            if self.used > Self::REPLY_BYTES {
                return Err(ReplyError::TooLong);
            }
            self.line.extend_from_slice(content);
            input.advance(used);
            if newline.is_some() {
                let line = std::mem::take(&mut self.line);
                let line = line.strip_suffix(b"\r").unwrap_or(&line);
                let line = std::str::from_utf8(line).map_err(|_| ReplyError::NotUtf8)?;
                if let Some(reply) = self.end_line(line)? {
                    self.used = 0;
                    return Ok(Some(reply));
                }
            }
        }
        Ok(None)
    }

    /// Whether bytes of an incomplete reply were taken: an end of the stream here is a fault.
    pub fn is_inside_reply(&self) -> bool {
        self.used > 0
    }

    fn end_line(&mut self, line: &str) -> Result<Option<Reply>, ReplyError> {
        let start = split_code(line);
        if let Some((code, mut head)) = self.open.take() {
            return Ok(match start {
                Some((end, Separator::End, text)) if end == code => {
                    Some(Reply::multi_line(code, head, text))
                }
                _ => {
                    head.push(line.strip_prefix(' ').unwrap_or(line).to_owned());
                    self.open = Some((code, head));
                    None
                }
            });
        }
        match start {
            Some((code, Separator::End, text)) => Ok(Some(Reply::new(code, text))),
            Some((code, Separator::More, text)) => {
                self.open = Some((code, vec![text.to_owned()]));
                Ok(None)
            }
            None => Err(ReplyError::NoReply),
        }
    }
}

enum Separator {
    /// A space, or nothing at all.
    End,
    /// A hyphen.
    More,
}

/// Splits `ddd text`, `ddd-text` and `ddd`.
fn split_code(line: &str) -> Option<(u16, Separator, &str)> {
    let (digits, rest) = line.split_at_checked(3)?;
    let code = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())??;
    if !(100..=599).contains(&code) {
        return None;
    }
    match (rest.strip_prefix(' '), rest.strip_prefix('-')) {
        (Some(text), _) => Some((code, Separator::End, text)),
        (_, Some(text)) => Some((code, Separator::More, text)),
        _ if rest.is_empty() => Some((code, Separator::End, "")),
        _ => None,
    }
}
