//! Names in the charset of a device: decoded in commands, encoded in replies and listings.
//!
//! Inside the server everything is UTF-8. Called by [`super::command`], [`super::control`] and
//! [`super::transfer`].

use std::borrow::Cow;

use encoding_rs::{EncoderResult, Encoding, UTF_8};

/// `bytes` as text; `None` if they are no text of that charset.
pub(super) fn decode<'a>(bytes: &'a [u8], charset: &'static Encoding) -> Option<Cow<'a, str>> {
    if charset == UTF_8 {
        // A byte order mark stays: it is part of the name.
        return std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
    }
    charset.decode_without_bom_handling_and_without_replacement(bytes)
}

/// `text` in `charset`; what the charset lacks becomes a question mark, since nothing else can stand
/// there (a client cannot ask for such a name).
pub(super) fn encode(text: String, charset: &'static Encoding) -> Vec<u8> {
    if charset == UTF_8 || text.is_ascii() {
        return text.into_bytes();
    }
    let mut encoder = charset.new_encoder();
    let mut rest = text.as_str();
    let mut bytes = Vec::with_capacity(rest.len() * 2);
    loop {
        let room = encoder
            .max_buffer_length_from_utf8_without_replacement(rest.len())
            .unwrap_or(rest.len());
        bytes.reserve(room + 1);
        let (result, read) =
            encoder.encode_from_utf8_to_vec_without_replacement(rest, &mut bytes, true);
        rest = &rest[read..];
        match result {
            EncoderResult::InputEmpty => return bytes,
            EncoderResult::OutputFull => {}
            EncoderResult::Unmappable(_) => bytes.push(b'?'),
        }
    }
}

#[cfg(test)]
mod tests {
    use encoding_rs::{SHIFT_JIS, WINDOWS_1252};

    use super::*;

    #[test]
    fn names_survive_the_way_there_and_back() {
        for (charset, bytes, text) in [
            (UTF_8, &b"\xC3\xA4"[..], "ä"),
            (WINDOWS_1252, b"\xE4\xFF\x80.txt", "äÿ€.txt"),
            (SHIFT_JIS, b"\x83\x5C\x83\x7E", "ソミ"),
        ] {
            assert_eq!(decode(bytes, charset).as_deref(), Some(text));
            assert_eq!(encode(text.to_owned(), charset), bytes);
        }
    }

    #[test]
    fn what_is_no_text_is_refused_and_what_the_charset_lacks_is_a_question_mark() {
        assert_eq!(decode(b"\xE4", UTF_8), None);
        assert_eq!(decode(b"\x83", SHIFT_JIS), None);
        assert_eq!(encode("aソbミ".to_owned(), WINDOWS_1252), b"a?b?");
    }
}
