//! [`frame`]: where a message of the directory ends, and whether it is one that the library can be
//! given. Pure.
//!
//! The library's parser (lber 0.5) calls itself for each value inside another, without a limit: a
//! message that is nothing but openings ends the process by its stack. What is let through here is
//! BER of definite lengths (RFC 4511 §5.1) that fits into its lengths, is no deeper than LDAP gets,
//! and begins as an `LDAPMessage`.

/// A message that is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its answer is no LDAP: {0}")]
pub(super) struct Nonsense(&'static str);

/// `LDAPMessage`, operation, list of attributes, attribute, set of values, value: 6. Controls and
/// referrals have fewer.
const DEPTH: usize = 10;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const CONSTRUCTED: u8 = 0x20;
/// The class of operations.
const APPLICATION: u8 = 0x40;
const CLASS: u8 = 0xC0;
/// A tag number that goes on in further bytes, which LDAP has none of.
const LONG_TAG: u8 = 0x1F;

/// A tag, and where its content lies.
struct Value<'a> {
    tag: u8,
    content: &'a [u8],
    rest: &'a [u8],
}

/// The length of the first message in `bytes`; `None` while it is not all there.
pub(super) fn frame(bytes: &[u8]) -> Result<Option<usize>, Nonsense> {
    let Some(&tag) = bytes.first() else {
        return Ok(None);
    };
    if tag != SEQUENCE {
        return Err(Nonsense("a message is a sequence"));
    }
    let Some((header, length)) = length(bytes)? else {
        return Ok(None);
    };
    let whole = header.saturating_add(length);
    let Some(message) = bytes.get(..whole) else {
        return Ok(None);
    };
    let content = &message[header..];
    let id = first(content)?;
    let operation = first(id.rest)?;
    if id.tag != INTEGER || !(1..=4).contains(&id.content.len()) {
        return Err(Nonsense("no message id"));
    }
    if operation.tag & CLASS != APPLICATION {
        return Err(Nonsense("no operation"));
    }
    check(content, 1)?;
    Ok(Some(whole))
}

/// Whether the answer to `StartTLS` (RFC 4511 §4.14) is a yes: result code 0.
pub(super) fn is_success(message: &[u8]) -> bool {
    let code = || {
        let envelope = first(message).ok()?;
        let operation = first(first(envelope.content).ok()?.rest).ok()?;
        let code = first(operation.content).ok()?;
        Some(operation.tag == 0x78 && code.tag == 0x0A && code.content == [0])
    };
    code().unwrap_or(false)
}

fn check(mut content: &[u8], depth: usize) -> Result<(), Nonsense> {
    if depth > DEPTH {
        return Err(Nonsense("values in values in values"));
    }
    while !content.is_empty() {
        let value = first(content)?;
        if value.tag & CONSTRUCTED != 0 {
            check(value.content, depth + 1)?;
        }
        content = value.rest;
    }
    Ok(())
}

fn first(bytes: &[u8]) -> Result<Value<'_>, Nonsense> {
    const CUT: Nonsense = Nonsense("a value is longer than what it stands in");
    let tag = *bytes.first().ok_or(Nonsense("something is missing"))?;
    if tag & LONG_TAG == LONG_TAG {
        return Err(Nonsense("a long tag"));
    }
    let (header, length) = length(bytes)?.ok_or(CUT)?;
    let end = header.saturating_add(length);
    let content = bytes.get(header..end).ok_or(CUT)?;
    Ok(Value {
        tag,
        content,
        rest: &bytes[end..],
    })
}

/// Bytes of tag and length, and the length; `None` while they are not all there.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Nonsense> {
    let Some(&short) = bytes.get(1) else {
        return Ok(None);
    };
    let count = usize::from(short & 0x7F);
    match (short & 0x80 != 0, count) {
        (false, length) => Ok(Some((2, length))),
        (true, 1..=4) => Ok(bytes.get(2..2 + count).map(|digits| {
            let length = digits
                .iter()
                .fold(0_usize, |sum, &byte| sum << 8 | usize::from(byte));
            (2 + count, length)
        })),
        (true, _) => Err(Nonsense("a length that is none")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A bind response: id 1, result code 0, no DN, no text.
    const BOUND: [u8; 14] = [
        0x30, 0x0C, 0x02, 0x01, 0x01, 0x61, 0x07, 0x0A, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00,
    ];

    #[test]
    fn messages_are_let_through_and_cut_at_their_end() {
        let two = [BOUND, BOUND].concat();
        assert_eq!(frame(&two), Ok(Some(14)));
        for end in 0..14 {
            assert_eq!(frame(&BOUND[..end]), Ok(None), "{end}");
        }
        let mut started = BOUND;
        started[5] = 0x78;
        assert!(is_success(&started) && !is_success(&BOUND));
        started[9] = 0x01;
        assert!(!is_success(&started) && !is_success(b"") && !is_success(&[0x30, 0x00]));
    }

    #[test]
    fn nonsense_is_not() {
        for (bytes, what) in [
            (&b"HTTP/1.1 400"[..], "sequence"),
            (&[0x30, 0x00], "missing"),
            (&[0x30, 0x80], "length that is none"),
            (&[0x30, 0x85, 0, 0, 0, 0, 1], "length that is none"),
            (&[0x30, 0x05, 0x04, 0x01, 0x01, 0x61, 0x00], "message id"),
            (&[0x30, 0x05, 0x02, 0x01, 0x01, 0x30, 0x00], "operation"),
            (&[0x30, 0x05, 0x02, 0x01, 0x01, 0x61, 0x09], "longer"),
            (
                &[0x30, 0x07, 0x02, 0x01, 0x01, 0x61, 0x02, 0x3F, 0x00],
                "long tag",
            ),
        ] {
            let error = frame(bytes).unwrap_err().to_string();
            assert!(error.contains(what), "{what}: {error}");
        }
        // What would end the process.
        let mut nested = vec![0x30, 0x82, 0x01, 0x00, 0x02, 0x01, 0x01, 0x61, 0x81, 0xFA];
        for _ in 0..125 {
            nested.extend([0x30, 0x00]);
        }
        assert_eq!(frame(&nested), Ok(Some(260)));
        let mut content = Vec::new();
        for _ in 0..60 {
            let mut outer = vec![0x30, u8::try_from(content.len()).unwrap()];
            outer.extend(content);
            content = outer;
        }
        let mut deep = vec![0x30, u8::try_from(content.len() + 5).unwrap(), 2, 1, 1];
        deep.extend([0x61, u8::try_from(content.len()).unwrap()]);
        deep.extend(content);
        deep[1] = u8::try_from(deep.len() - 2).unwrap();
        let error = frame(&deep).unwrap_err().to_string();
        assert!(error.contains("values in values"), "{error}");
    }

    proptest! {
        /// What is let through is as long as it says, and no byte makes it panic.
        #[test]
        fn anything_is_framed_or_refused(mut bytes: Vec<u8>, shape: bool) {
            if shape && bytes.len() > 6 {
                let length = u8::try_from(bytes.len().min(127)).unwrap() - 2;
                bytes[..5].copy_from_slice(&[0x30, length, 2, 1, 1]);
            }
            if let Ok(Some(length)) = frame(&bytes) {
                prop_assert!(length <= bytes.len());
            }
            let _ = is_success(&bytes);
        }
    }
}
