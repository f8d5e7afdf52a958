//! [`VirtualPath`]: the absolute, normalised path a client names.
//!
//! Owns the only way from a client's bytes to a path (CONFORMANCE J6, J7, J14, J15, S46). Must not
//! know mounts, keys or stores: a path means nothing until [`crate::access::Tree`] was asked.
//! Called by [`crate::edge`] for every command with a path and by [`crate::config`] for mounts.

use std::fmt;

/// An absolute path of the tree a user sees: `/` or `/a/b`, never with a trailing slash, an empty
/// segment, `.` or `..`.
///
/// Paths are parsed, never repaired: a control character, a segment above 255 bytes or a path above
/// 1024 bytes is an error. `.`, `..` and `//` are resolved as RFC 959 clients expect (`..` at the
/// root stays at the root). Everything else is literal (RFC 3659 §6, TVFS): spaces, `%2e`, `~`,
/// `*`, `\`, and UTF-8 exactly as sent, since NFC and NFD spellings are two names (A13).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VirtualPath(String);

/// Why a client's argument is not a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The argument has no character.
    #[error("path is empty")]
    Empty,
    /// A C0 or C1 control character or DEL, at this byte offset of the argument.
    #[error("path holds a control character at byte {0}")]
    ControlCharacter(usize),
    /// One segment is longer than [`VirtualPath::SEGMENT_BYTES`].
    #[error("a name is longer than 255 bytes")]
    SegmentTooLong,
    /// The normalised path is longer than [`VirtualPath::PATH_BYTES`].
    #[error("path is longer than 1024 bytes")]
    TooLong,
    /// [`VirtualPath::join`] was given `.`, `..` or something with a slash.
    #[error("not a single name")]
    NotOneName,
}

impl VirtualPath {
    /// Longest segment in bytes, the limit of every Unix file system.
    pub const SEGMENT_BYTES: usize = 255;
    /// Longest normalised path in bytes, the limit of an S3 key.
    pub const PATH_BYTES: usize = 1024;

    /// `/`.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Parses `argument` as sent by a client whose working directory is `cwd`.
    ///
    /// A name that is too long is refused even where a later `..` would remove it: what a client
    /// can name does not depend on what follows.
    pub fn parse(cwd: &Self, argument: &str) -> Result<Self, PathError> {
        if argument.is_empty() {
            return Err(PathError::Empty);
        }
        refuse_control_characters(argument)?;
        let mut segments: Vec<&str> = if argument.starts_with('/') {
            Vec::new()
        } else {
            cwd.segments().collect()
        };
        for segment in argument.split('/') {
            match segment {
                "" | "." => {}
                ".." => {
                    segments.pop();
                }
                _ if segment.len() > Self::SEGMENT_BYTES => return Err(PathError::SegmentTooLong),
                _ => segments.push(segment),
            }
        }
        Self::from_segments(&segments)
    }

    /// The path as a client sees it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// The last segment; `None` for `/`.
    pub fn name(&self) -> Option<&str> {
        self.segments().next_back()
    }

    /// The directory that holds this path; `/` is its own parent (RFC 959 CDUP at the root).
    #[must_use]
    pub fn parent(&self) -> Self {
        match self.0.rsplit_once('/') {
            Some(("", _)) | None => Self::root(),
            Some((parent, _)) => Self(parent.to_owned()),
        }
    }

    /// The segments from the root down; none for `/`.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }

    /// This path's child `name`, which must be one valid segment.
    pub fn join(&self, name: &str) -> Result<Self, PathError> {
        check_segment(name)?;
        let mut segments: Vec<&str> = self.segments().collect();
        segments.push(name);
        Self::from_segments(&segments)
    }

    /// Whether `self` is `ancestor` or lies below it, by whole segments: `/home/bob2` does not lie
    /// below `/home/bob` (S48).
    pub fn is_within(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || self
                .0
                .strip_prefix(ancestor.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Joins segments that were checked one by one; only the sum can still be too long.
    fn from_segments(segments: &[&str]) -> Result<Self, PathError> {
        let path = format!("/{}", segments.join("/"));
        if path.len() > Self::PATH_BYTES {
            Err(PathError::TooLong)
        } else {
            Ok(Self(path))
        }
    }
}

impl fmt::Display for VirtualPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether `name` can be one segment of a path or key: not empty, `.` or `..`, no slash, no control
/// character, not too long.
pub(super) fn check_segment(name: &str) -> Result<(), PathError> {
    match name {
        "" => Err(PathError::Empty),
        "." | ".." => Err(PathError::NotOneName),
        _ if name.contains('/') => Err(PathError::NotOneName),
        _ if name.len() > VirtualPath::SEGMENT_BYTES => Err(PathError::SegmentTooLong),
        _ => refuse_control_characters(name),
    }
}

/// `char::is_control` is Unicode's category Cc: exactly C0, DEL and C1.
fn refuse_control_characters(text: &str) -> Result<(), PathError> {
    match text
        .char_indices()
        .find(|(_, character)| character.is_control())
    {
        Some((offset, _)) => Err(PathError::ControlCharacter(offset)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> VirtualPath {
        VirtualPath::parse(&VirtualPath::root(), text).unwrap()
    }

    #[test]
    fn arguments_resolve_against_the_working_directory() {
        for (cwd, argument, expected) in [
            ("/", "/", "/"),
            ("/", ".", "/"),
            ("/", "..", "/"),
            ("/", "../../../..", "/"),
            ("/a/b", "c", "/a/b/c"),
            ("/a/b", "../c", "/a/c"),
            ("/a/b", "..", "/a"),
            ("/a/b", "../../..", "/"),
            ("/a/b", "/c", "/c"),
            ("/a", "c/", "/a/c"),
            ("/", "//a//./b/", "/a/b"),
            ("/", "/../a", "/a"),
            ("/", "....//", "/...."),
            ("/", "%2e%2e/x", "/%2e%2e/x"),
            ("/", "..\\x", "/..\\x"),
            ("/", "C:\\x", "/C:\\x"),
            ("/", "~root", "/~root"),
            ("/", "*", "/*"),
            ("/", "-x", "/-x"),
            ("/", " a ", "/ a "),
            ("/a", " ", "/a/ "),
            ("/", "caf\u{e9}", "/caf\u{e9}"),
            ("/", "cafe\u{301}", "/cafe\u{301}"),
        ] {
            let parsed = VirtualPath::parse(&path(cwd), argument);
            assert_eq!(
                parsed.as_ref().map(VirtualPath::as_str),
                Ok(expected),
                "{cwd} {argument:?}"
            );
        }
    }

    #[test]
    fn bad_arguments_are_refused_not_repaired() {
        let long = "x".repeat(256);
        let deep = "/abcdefg".repeat(128);
        for (argument, error) in [
            ("", PathError::Empty),
            ("a\0b", PathError::ControlCharacter(1)),
            ("a\r\n226 ok", PathError::ControlCharacter(1)),
            ("\t", PathError::ControlCharacter(0)),
            ("\x7f", PathError::ControlCharacter(0)),
            ("\u{e9}\u{85}", PathError::ControlCharacter(2)),
            (long.as_str(), PathError::SegmentTooLong),
            (&format!("{long}/.."), PathError::SegmentTooLong),
            (&format!("{deep}x"), PathError::TooLong),
        ] {
            assert_eq!(
                VirtualPath::parse(&VirtualPath::root(), argument),
                Err(error),
                "{argument:?}"
            );
        }
        assert_eq!(path(&deep).as_str().len(), VirtualPath::PATH_BYTES);
        assert_eq!(
            path(&long[1..]).name().map(str::len),
            Some(VirtualPath::SEGMENT_BYTES)
        );
    }

    #[test]
    fn names_parents_and_children() {
        assert_eq!(path("/").name(), None);
        assert_eq!(path("/").parent(), path("/"));
        assert_eq!(path("/a").parent(), path("/"));
        assert_eq!(path("/a/b").parent(), path("/a"));
        assert_eq!(path("/a/b").name(), Some("b"));
        assert_eq!(path("/").join("a").unwrap(), path("/a"));
        for (name, error) in [
            ("", PathError::Empty),
            (".", PathError::NotOneName),
            ("..", PathError::NotOneName),
            ("a/b", PathError::NotOneName),
            ("a\nb", PathError::ControlCharacter(1)),
        ] {
            assert_eq!(path("/a").join(name), Err(error), "{name:?}");
        }
    }

    #[test]
    fn a_longer_name_is_not_within_a_shorter_one() {
        assert!(path("/home/bob").is_within(&path("/home/bob")));
        assert!(path("/home/bob/x").is_within(&path("/home/bob")));
        assert!(path("/home/bob").is_within(&path("/")));
        assert!(!path("/home/bob2").is_within(&path("/home/bob")));
        assert!(!path("/home").is_within(&path("/home/bob")));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_yields_normal_paths(cwd in ".*", argument in "[./a~ \\\\é%*]{0,60}|.*") {
            let cwd = VirtualPath::parse(&VirtualPath::root(), &cwd).unwrap_or(VirtualPath::root());
            if let Ok(parsed) = VirtualPath::parse(&cwd, &argument) {
                prop_assert!(parsed.as_str().starts_with('/'));
                prop_assert!(parsed.is_root() || !parsed.as_str().ends_with('/'));
                prop_assert!(!parsed.as_str().contains("//"));
                prop_assert!(parsed.segments().all(|segment| check_segment(segment).is_ok()));
            }
        }

        #[test]
        fn parsing_what_is_displayed_is_the_identity(argument in "[./a~ \\\\é%*]{1,60}", cwd in "(/[a-c]{1,3}){0,3}") {
            let cwd = VirtualPath::parse(&VirtualPath::root(), &format!("/{cwd}")).unwrap();
            let parsed = VirtualPath::parse(&cwd, &argument).unwrap();
            prop_assert_eq!(VirtualPath::parse(&cwd, &parsed.to_string()), Ok(parsed));
        }

        #[test]
        fn within_is_a_prefix_of_segments(left in "(/[ab]{1,2}){1,4}", right in "(/[ab]{1,2}){1,4}") {
            let (left, right) = (path(&left), path(&right));
            let ancestors: Vec<_> = right.segments().collect();
            let expected = left.segments().take(ancestors.len()).eq(ancestors.iter().copied());
            prop_assert_eq!(left.is_within(&right), expected);
        }

        #[test]
        fn join_and_parent_are_inverse(directory in "(/[ab]{1,2}){0,4}", name in "[a-z *~.]{3,9}") {
            let directory = path(&format!("/{directory}"));
            let child = directory.join(&name).unwrap();
            prop_assert_eq!(child.parent(), directory);
            prop_assert_eq!(child.name(), Some(name.as_str()));
        }
    }
}
