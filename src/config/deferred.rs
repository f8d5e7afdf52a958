//! Temporary names whose uploads an S3 bucket completes only under the name of the rename.

use std::time::Duration;

/// Uploads that wait for their rename (`backends.NAME.deferred` of type `s3`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deferred {
    /// Which names are temporary; none (default): no upload waits.
    pub names: Vec<TemporaryName>,
    /// How long one waits before it is committed under its temporary name; default 5 min.
    pub commit_after: Duration,
    /// How many of this process wait at once; default 1000. More are committed as they come.
    pub uploads: usize,
    /// Bytes of all that wait; default 64 GiB. An upload that goes beyond is committed as it comes.
    pub bytes: u64,
}

/// A temporary name: fixed text around what becomes the final name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemporaryName {
    before: String,
    after: String,
}

impl Default for Deferred {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            commit_after: Duration::from_mins(5),
            uploads: 1000,
            bytes: 64 << 30,
        }
    }
}

impl Deferred {
    /// The final name that is to be expected of a temporary one: what `*` stands for in the first
    /// pattern that fits.
    pub fn final_name<'name>(&self, name: &'name str) -> Option<&'name str> {
        self.names.iter().find_map(|pattern| pattern.inner(name))
    }
}

impl TemporaryName {
    /// Parses a pattern such as `*.filepart`: one `*`, other text before or behind it, no slash.
    pub fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.split_once('*')?;
        let plain = !text.contains('/') && !after.contains('*') && text.len() > 1;
        plain.then(|| Self {
            before: before.to_owned(),
            after: after.to_owned(),
        })
    }

    fn inner<'name>(&self, name: &'name str) -> Option<&'name str> {
        let inner = name.strip_prefix(&self.before)?;
        let inner = inner.strip_suffix(&self.after)?;
        (!inner.is_empty()).then_some(inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_tells_the_final_one() {
        let names = ["*.filepart", ".in.*.", ".in.*", "*~"];
        let names = names.map(|text| TemporaryName::parse(text).expect("a pattern"));
        let deferred = Deferred {
            names: names.to_vec(),
            ..Deferred::default()
        };
        for (name, expected) in [
            ("a.csv.filepart", Some("a.csv")),
            (".filepart", None),
            (".in.a.", Some("a")),
            (".in.a", Some("a")),
            (".in.", None),
            ("a~", Some("a")),
            ("a.FILEPART", None),
            ("a", None),
        ] {
            assert_eq!(deferred.final_name(name), expected, "{name}");
        }
        for text in ["", "*", "a", "**", "*.a*", "d/*.tmp"] {
            assert_eq!(TemporaryName::parse(text), None, "{text}");
        }
    }
}
