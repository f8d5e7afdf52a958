//! Removes Telnet commands from a line (RFC 854, RFC 959 §4.1.3, A10).

use std::borrow::Cow;

/// Interpret As Command.
const IAC: u8 = 0xFF;
/// WILL, WONT, DO and DONT, each followed by one option byte.
const NEGOTIATIONS: std::ops::RangeInclusive<u8> = 0xFB..=0xFE;
/// Begins a subnegotiation, which ends with IAC SE.
const SB: u8 = 0xFA;
/// Ends a subnegotiation; the lowest of all commands.
const SE: u8 = 0xF0;

/// `line` without Telnet commands, `IAC IAC` as one 0xFF.
///
/// An IAC in front of a byte that is no command goes alone where the line begins: it is left over from
/// `IAC DM` when the DM was sent as urgent data and taken out of the stream, and must not swallow the
/// first letter of ABOR. Elsewhere it stays, so that a Latin-1 name is refused as not UTF-8 instead of
/// losing a letter (A12).
pub(super) fn strip(line: &[u8]) -> Cow<'_, [u8]> {
    if !line.contains(&IAC) {
        return Cow::Borrowed(line);
    }
    let mut kept = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != IAC {
            kept.push(byte);
            continue;
        }
        match behind.split_first() {
            Some((&IAC, behind)) => {
                kept.push(IAC);
                rest = behind;
            }
            Some((&SB, behind)) => {
                let end = behind.windows(2).position(|pair| pair == [IAC, SE]);
                rest = end.map_or(&[], |end| &behind[end + 2..]);
            }
            Some((command, behind)) if NEGOTIATIONS.contains(command) => {
                rest = behind.get(1..).unwrap_or_default();
            }
            Some((&command, behind)) if command >= SE => rest = behind,
            _ if kept.is_empty() => {}
            _ => kept.push(IAC),
        }
    }
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn telnet_commands_go_and_text_stays() {
        for (line, expected) in [
            (&b"ABOR"[..], &b"ABOR"[..]),
            (b"\xff\xf4\xff\xf2ABOR", b"ABOR"),
            (b"\xff\xf4\xffABOR", b"ABOR"),
            (b"\xff\xf5ABOR\xff\xf4", b"ABOR"),
            (
                b"\xff\xfd\x01\xff\xfe\x01\xff\xfb\x01\xff\xfc\x01NOOP",
                b"NOOP",
            ),
            (b"\xff\xfa\x18\x00xterm\xff\xf0NOOP", b"NOOP"),
            (b"\xff\xfa\x18 no end", b""),
            (b"RETR a\xff\xffb", b"RETR a\xffb"),
            (b"RETR a\xff\xff\xff\xf4b", b"RETR a\xffb"),
            (b"RETR a\xffb", b"RETR a\xffb"),
            (b"\xff", b""),
            (b"NOOP\xff", b"NOOP\xff"),
            (b"NOOP\xff\xfd", b"NOOP"),
        ] {
            assert_eq!(&*strip(line), expected, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn lines_without_ff_are_untouched(line in prop::collection::vec(0u8..255, 0..60)) {
            prop_assert_eq!(&*strip(&line), &line[..]);
        }

        #[test]
        fn doubling_ff_is_undone(line in prop::collection::vec(prop_oneof![any::<u8>(), Just(255)], 0..60)) {
            let doubled: Vec<u8> =
                line.iter().flat_map(|&byte| std::iter::repeat_n(byte, 1 + usize::from(byte == 255))).collect();
            prop_assert_eq!(&*strip(&doubled), &line[..]);
        }

        #[test]
        fn stripping_never_adds_bytes(line in prop::collection::vec(240u8..=255, 0..60)) {
            prop_assert!(strip(&line).len() <= line.len());
        }
    }
}
