//! [`Pattern`]: the glob on the last segment of LIST and NLST (H6, O16).

/// A parsed glob: `*`, `?`, `[a-z]`, `[!x]`; no `{a,b}`, no `~`, no escapes.
///
/// Matching tries each position once per step and only ever goes back to the last `*`, so it takes at
/// most length of the pattern times length of the name steps, both below 256: no pattern is
/// expensive (S38, the class of CVE-2011-0762). A leading dot is nothing special: hidden files are
/// shown always (H8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Token>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// This character.
    Literal(char),
    /// `?`
    One,
    /// `*`, one or several in a row.
    Many,
    /// `[…]`: one character inside a range, or outside of all ranges.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// Parses the last segment of an argument; `None` when nothing in it is a wildcard (a `[` that is
    /// never closed is a plain character) or when it is longer than a name can be.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > crate::access::VirtualPath::SEGMENT_BYTES {
            return None;
        }
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            rest = &rest[first.len_utf8()..];
            let token = match first {
                '*' if tokens.last() == Some(&Token::Many) => continue,
                '*' => Token::Many,
                '?' => Token::One,
                '[' => match parse_class(rest) {
                    Some((class, behind)) => {
                        rest = behind;
                        class
                    }
                    None => Token::Literal('['),
                },
                _ => Token::Literal(first),
            };
            tokens.push(token);
        }
        let wild = tokens
            .iter()
            .any(|token| !matches!(token, Token::Literal(_)));
        wild.then_some(Self(tokens))
    }

    /// Whether the whole of `name` matches. Case-sensitive (J16).
    pub fn matches(&self, name: &str) -> bool {
        let mut at = 0;
        let mut rest = name;
        // Where to go on when the tokens behind the last `*` do not fit: one character further.
        let mut retry: Option<(usize, &str)> = None;
        loop {
            let next = rest.chars().next();
            match (self.0.get(at), next) {
                (None, None) => return true,
                (Some(Token::Many), _) => {
                    at += 1;
                    retry = Some((at, rest));
                    continue;
                }
                (Some(token), Some(character)) if token.matches(character) => {
                    at += 1;
                    rest = &rest[character.len_utf8()..];
                    continue;
                }
                _ => {}
            }
            match retry.and_then(|(behind, from)| Some((behind, from, from.chars().next()?))) {
                Some((behind, from, skipped)) => {
                    at = behind;
                    rest = &from[skipped.len_utf8()..];
                    retry = Some((at, rest));
                }
                None => return false,
            }
        }
    }
}

impl Token {
    fn matches(&self, character: char) -> bool {
        match self {
            Self::Literal(literal) => *literal == character,
            Self::One => true,
            Self::Many => false,
            Self::Class { negated, ranges } => {
                ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&character))
                    != *negated
            }
        }
    }
}

/// Parses what follows `[`; yields the class and the text behind its `]`. A `]` that comes first is
/// a member, as is a `-` that comes first or last.
fn parse_class(text: &str) -> Option<(Token, &str)> {
    let members = text.strip_prefix(['!', '^']);
    let negated = members.is_some();
    let members = members.unwrap_or(text);
    let first = members.chars().next()?;
    let end = first.len_utf8() + members[first.len_utf8()..].find(']')?;
    let (members, behind) = (&members[..end], &members[end + 1..]);
    let characters: Vec<char> = members.chars().collect();
    let mut ranges = Vec::new();
    let mut rest = characters.as_slice();
    while let Some((&low, others)) = rest.split_first() {
        if let ['-', high, ..] = others {
            ranges.push((low, *high));
            rest = &others[2..];
        } else {
            ranges.push((low, low));
            rest = others;
        }
    }
    Some((Token::Class { negated, ranges }, behind))
}
