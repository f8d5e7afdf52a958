//! [`VirtualPath`]: the absolute, normalised path a client names.

use std::fmt;

/// An absolute path of the tree a user sees: `/` or `/a/b`, never with a trailing slash, an empty
/// segment, `.` or `..`.
///
/// Paths are parsed, never repaired: a control character, a segment above 255 bytes or a path above
/// 1024 bytes is an error. `.`, `..` and `//` are resolved as RFC 959 clients expect (`..` at the
/// root stays at the root).
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
    pub fn parse(_cwd: &Self, _argument: &str) -> Result<Self, PathError> {
        todo!()
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
        todo!()
    }

    /// The directory that holds this path; `/` is its own parent (RFC 959 CDUP at the root).
    pub fn parent(&self) -> Self {
        todo!()
    }

    /// The segments from the root down; none for `/`.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }

    /// This path's child `name`, which must be one valid segment.
    pub fn join(&self, _name: &str) -> Result<Self, PathError> {
        todo!()
    }

    /// Whether `self` is `ancestor` or lies below it.
    pub fn is_within(&self, _ancestor: &Self) -> bool {
        todo!()
    }
}

impl fmt::Display for VirtualPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
