//! [`Rule`]: what a grant allows or denies at the paths of a [`Pattern`].

use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};

use super::{Actions, VirtualPath};

/// Longest pattern in bytes; as a path.
const PATTERN_BYTES: usize = 1024;

/// One grant.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Where it holds.
    pub pattern: Pattern,
    /// What it allows there.
    pub allow: Actions,
    /// What it denies there, whatever another rule allows.
    pub deny: Actions,
    /// Where the operator wrote it, for `explain`: `users.yaml: users[3].grants[0]`.
    pub origin: Arc<str>,
}

/// A glob over virtual paths: `*` and `?` stay within one name, `**` stands for any number of them,
/// `[a-z]` and `{a,b}` as in a shell. A pattern that ends in `/**` covers the directory before it too.
/// Upper and lower case are different; `?` stands for one byte.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Arc<str>,
    /// Any of them.
    matchers: Vec<GlobMatcher>,
    /// Directories on the way to it.
    ways: Vec<GlobMatcher>,
    /// What stands before its first wildcard.
    literal: VirtualPath,
    /// Segments of the text; of `/a/**` two.
    depth: usize,
    /// Has a `**`, so it reaches any depth.
    recursive: bool,
    /// Ends in `/**`.
    subtree: bool,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err("expected an absolute pattern such as /incoming/**".to_owned());
        }
        if text.len() > PATTERN_BYTES {
            return Err(format!("longer than {PATTERN_BYTES} bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err("a pattern has no control character".to_owned());
        }
        let segments: Vec<&str> = text.split('/').skip(1).collect();
        if text != "/" && segments.iter().any(|s| matches!(*s, "" | "." | "..")) {
            return Err("a pattern has no empty, `.` or `..` segment".to_owned());
        }
        let mut matchers = vec![glob(text)?];
        let subtree = segments.last() == Some(&"**");
        if subtree {
            let base = text.strip_suffix("/**").unwrap_or(text);
            matchers.push(glob(if base.is_empty() { "/" } else { base })?);
        }
        let plain = |segment: &&&str| !segment.contains(['*', '?', '[', ']', '{', '}', '\\']);
        let literal: Vec<&str> = segments.iter().take_while(plain).copied().collect();
        let literal = VirtualPath::parse(&VirtualPath::root(), &format!("/{}", literal.join("/")))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            ways: ways(&segments)?,
            text: text.into(),
            matchers,
            literal,
            depth: segments.len(),
            recursive: segments.iter().any(|segment| segment.contains("**")),
            subtree,
        })
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern covers `path`.
    pub fn matches(&self, path: &VirtualPath) -> bool {
        self.matchers
            .iter()
            .any(|matcher| matcher.is_match(path.as_str()))
    }

    /// Whether a client must walk through `path` to come to what the pattern covers.
    pub fn leads_through(&self, path: &VirtualPath) -> bool {
        path.is_root() || self.ways.iter().any(|way| way.is_match(path.as_str()))
    }

    /// Whether the pattern may cover some of what lies below `directory` and not all of it, so that a
    /// decision about the directory does not hold for its content. May say yes once too often.
    pub fn divides(&self, directory: &VirtualPath) -> bool {
        if !self.recursive && self.depth <= directory.segments().count() {
            return false;
        }
        if self.subtree && self.covers_or_above(directory) {
            return false;
        }
        self.literal.is_within(directory) || directory.is_within(&self.literal)
    }

    /// Whether the pattern covers the directory or one above it.
    fn covers_or_above(&self, directory: &VirtualPath) -> bool {
        let mut at = directory.clone();
        loop {
            if self.matches(&at) {
                return true;
            }
            if at.is_root() {
                return false;
            }
            at = at.parent();
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// A compiled glob whose wildcards stay within a name.
pub(super) fn glob(text: &str) -> Result<GlobMatcher, String> {
    compile(text, false)
}

/// The same for file names, without a difference between upper and lower case of ASCII letters.
pub(super) fn name_glob(text: &str) -> Result<GlobMatcher, String> {
    compile(text, true)
}

fn compile(text: &str, case_insensitive: bool) -> Result<GlobMatcher, String> {
    GlobBuilder::new(text)
        .literal_separator(true)
        .backslash_escape(true)
        .case_insensitive(case_insensitive)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| format!("not a pattern ({})", error.kind()))
}

/// Globs of the directories above what a pattern covers.
fn ways(segments: &[&str]) -> Result<Vec<GlobMatcher>, String> {
    let mut ways = Vec::new();
    let mut way = String::new();
    for segment in &segments[..segments.len().saturating_sub(1)] {
        // An alternative that spans segments is cut in two here: its directories are then not found.
        if segment.matches('{').count() != segment.matches('}').count() {
            break;
        }
        way.push('/');
        way.push_str(segment);
        ways.push(glob(&way)?);
        if segment.contains("**") {
            break;
        }
    }
    Ok(ways)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> VirtualPath {
        VirtualPath::parse(&VirtualPath::root(), text).unwrap()
    }

    #[test]
    fn patterns_cover_what_they_say() {
        for (pattern, covered, not_covered) in [
            ("/**", &["/", "/a", "/a/b"][..], &[][..]),
            ("/", &["/"], &["/a"]),
            ("/a", &["/a"], &["/", "/a/b", "/ab", "/A"]),
            (
                "/a/**",
                &["/a", "/a/b", "/a/b/c", "/a/.b"],
                &["/", "/ab", "/b/a"],
            ),
            ("/a/*", &["/a/b", "/a/.b"], &["/a", "/a/b/c"]),
            ("/*/in/**", &["/x/in", "/x/in/y"], &["/in", "/x/y/in"]),
            (
                "/**/*.csv",
                &["/x.csv", "/a/b/x.csv"],
                &["/x.CSV", "/x.csv.gz"],
            ),
            ("/{a,b}/**", &["/a/x", "/b"], &["/c"]),
            ("/a?", &["/ab"], &["/a", "/a/b"]),
            ("/\\*", &["/*"], &["/a"]),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            for covered in covered {
                assert!(
                    pattern.matches(&path(covered)),
                    "{} {covered}",
                    pattern.text
                );
            }
            for other in not_covered {
                assert!(!pattern.matches(&path(other)), "{} {other}", pattern.text);
            }
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        for text in [
            "", "a", "a/**", "/a/", "//a", "/a/../b", "/./a", "/[a", "/{a", "/a\n",
        ] {
            assert!(Pattern::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn ways_lead_to_what_is_covered() {
        let pattern = Pattern::parse("/a/*/c/**").unwrap();
        for (at, leads) in [
            ("/", true),
            ("/a", true),
            ("/a/x", true),
            ("/a/x/c", true),
            ("/b", false),
            ("/a/x/d", false),
        ] {
            assert_eq!(pattern.leads_through(&path(at)), leads, "{at}");
        }
    }

    #[test]
    fn directories_are_divided_by_what_covers_a_part_of_them() {
        for (pattern, directory, divides) in [
            ("/**", "/a", false),
            ("/a/**", "/a", false),
            ("/a/**", "/a/b", false),
            ("/a/**", "/b", false),
            ("/a/b/**", "/a", true),
            ("/a/b/**", "/", true),
            ("/a", "/a", false),
            ("/a/*", "/a", true),
            ("/**/*.csv", "/a", true),
            ("/*/x", "/a", true),
            ("/*/x", "/a/b", false),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            let found = pattern.divides(&path(directory));
            assert_eq!(found, divides, "{} {directory}", pattern.text);
        }
    }
}
