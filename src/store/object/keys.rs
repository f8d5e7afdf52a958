//! [`Keys`]: how a [`StoreKey`] is spelled in the bucket, and which ones cannot be.
//!
//! OpenDAL trims white space at both ends of a path and collapses `//`, its HTTP client resolves `.`
//! and `..`: such a key would become another one. It is refused here, never repaired. The configured
//! prefix is part of every path instead of being the operator's root, so that a name which begins
//! with a space keeps it wherever the prefix is not empty.

use super::{
    super::{ErrorKind, Result, StoreError},
    s3::AREA,
};
use crate::access::StoreKey;

/// Longest key that S3 takes, in bytes.
const KEY_BYTES: usize = 1024;

/// The keys below one prefix of a bucket.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// Empty, or with a trailing slash.
    prefix: String,
    /// Azure takes `\\` for `/` and drops dots at the end of a segment.
    azure: bool,
}

impl Keys {
    /// Keys below `root`: no leading or trailing slash, may be empty.
    pub(super) fn new(root: &str) -> Result<Self> {
        let prefix = if root.is_empty() {
            String::new()
        } else {
            format!("{root}/")
        };
        if !root.is_empty() && !survives(root) {
            return Err(StoreError::new(ErrorKind::NameNotAllowed, "open"));
        }
        Ok(Self {
            prefix,
            azure: false,
        })
    }

    /// The same with Azure's own rules for names, if `azure`.
    pub(super) fn of_azure(self, azure: bool) -> Self {
        Self { azure, ..self }
    }

    /// The object of a file.
    pub(super) fn file(&self, operation: &'static str, key: &StoreKey) -> Result<String> {
        if key.as_str().is_empty() {
            return Err(StoreError::new(ErrorKind::IsADirectory, operation));
        }
        if is_hidden(key.as_str()) {
            // To a client there is no such thing, and none can be made.
            let looks = matches!(operation, "stat" | "list" | "read");
            let kind = if looks {
                ErrorKind::NotFound
            } else {
                ErrorKind::NameNotAllowed
            };
            return Err(StoreError::new(kind, operation));
        }
        let path = format!("{}{}", self.prefix, key.as_str());
        // A directory of that name must also be possible, or `x` could be made and `x/` not looked for.
        let on_azure =
            || !path.contains('\\') && path.split('/').all(|segment| !segment.ends_with('.'));
        if !survives(&path) || path.len() >= KEY_BYTES || self.azure && !on_azure() {
            return Err(StoreError::new(ErrorKind::NameNotAllowed, operation));
        }
        Ok(path)
    }

    /// The marker of a directory, which is also the prefix of all that lies in it.
    pub(super) fn directory(&self, operation: &'static str, key: &StoreKey) -> Result<String> {
        if key.as_str().is_empty() {
            return Ok(self.root());
        }
        let mut path = self.file(operation, key)?;
        path.push('/');
        Ok(path)
    }

    /// The directory that `path` lies in; `None` at the root, which needs no marker.
    pub(super) fn parent<'path>(&self, path: &'path str) -> Option<&'path str> {
        let name = path.strip_prefix(&self.prefix)?.trim_end_matches('/');
        let parent = name.rfind('/')?;
        Some(&path[..=self.prefix.len() + parent])
    }

    /// The name of a listed `path` inside `directory`, if it can be served.
    pub(super) fn name<'path>(directory: &str, path: &'path str) -> Option<&'path str> {
        let directory = if directory == "/" { "" } else { directory };
        let name = path.strip_prefix(directory)?;
        let name = name.strip_suffix('/').unwrap_or(name);
        let whole = path.strip_suffix('/').unwrap_or(path);
        let servable = !name.is_empty()
            && !name.contains('/')
            && !name.chars().any(char::is_control)
            && survives(whole);
        servable.then_some(name)
    }

    /// Whether a listed `path` is our own and nobody else's to see.
    pub(super) fn is_ours(&self, path: &str) -> bool {
        path.strip_prefix(&self.prefix).is_some_and(is_hidden)
    }

    /// A fresh object that no client sees or names, for what an upload needs besides its target.
    pub(super) fn hidden(&self) -> String {
        format!("{}{:032x}", self.area(), rand::random::<u128>())
    }

    /// What all hidden objects lie below, with a slash at its end.
    pub(super) fn area(&self) -> String {
        format!("{}{AREA}/", self.prefix)
    }

    /// What everything lies below, with a slash at its end, or empty.
    pub(super) fn root_prefix(&self) -> &str {
        &self.prefix
    }

    fn root(&self) -> String {
        if self.prefix.is_empty() {
            "/".to_owned()
        } else {
            self.prefix.clone()
        }
    }
}

/// Whether a key lies where unfinished uploads are noted.
fn is_hidden(key: &str) -> bool {
    key.split('/').next() == Some(AREA)
}

/// Whether OpenDAL and its HTTP client send `path` (without a trailing slash) as it is.
fn survives(path: &str) -> bool {
    path.trim() == path
        && !path
            .split('/')
            .any(|segment| matches!(segment, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use opendal::raw::{build_abs_path, normalize_path};
    use proptest::prelude::*;

    use super::*;

    fn keys(root: &str) -> Keys {
        Keys::new(root).expect("a plain prefix")
    }

    #[test]
    fn spells_files_directories_and_parents() {
        for (root, key, file, directory, parent) in [
            ("", "a", "a", "a/", None),
            ("", "a/b", "a/b", "a/b/", Some("a/")),
            ("t", "a", "t/a", "t/a/", None),
            ("t/u", "a/b/c", "t/u/a/b/c", "t/u/a/b/c/", Some("t/u/a/b/")),
        ] {
            let (keys, key) = (keys(root), StoreKey::for_test("s", key));
            assert_eq!(keys.file("stat", &key).unwrap(), file);
            assert_eq!(keys.directory("stat", &key).unwrap(), directory);
            assert_eq!(keys.parent(file), parent);
            assert_eq!(keys.parent(directory), parent);
        }
    }

    #[test]
    fn names_that_would_become_others_are_refused() {
        for key in [
            "a ",
            " a",
            "\u{a0}a",
            "a\u{3000}",
            "a//b",
            "a/../b",
            "..",
            "./a",
            "a/.",
            "a/",
        ] {
            let refused = keys("")
                .file("write", &StoreKey::for_test("s", key))
                .unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::NameNotAllowed, "{key:?}");
        }
        for key in [
            "d/ a",
            "a b",
            "a+b%20#?",
            "\u{e4}/\u{1f600}",
            "....",
            "..a",
            "a /b",
        ] {
            assert!(
                keys("")
                    .file("write", &StoreKey::for_test("s", key))
                    .is_ok(),
                "{key:?}"
            );
        }
        assert!(
            keys("t")
                .file("write", &StoreKey::for_test("s", " a"))
                .is_ok()
        );
    }

    #[test]
    fn key_length_is_bounded_with_the_prefix() {
        let key = StoreKey::for_test("s", &"k".repeat(1021));
        assert!(keys("t").file("write", &key).is_ok());
        assert!(keys("tt").file("write", &key).is_err());
    }

    #[test]
    fn listed_names_are_filtered() {
        for (directory, path, name) in [
            ("/", "a", Some("a")),
            ("d/", "d/ a", Some(" a")),
            ("d/", "d/a/", Some("a")),
            ("d/", "d/", None),
            ("d/", "d//", None),
            ("d/", "d/a ", None),
            ("d/", "d/..", None),
            ("d/", "d/../", None),
            ("d/", "d/a\rb", None),
            ("d/", "e/a", None),
        ] {
            assert_eq!(Keys::name(directory, path), name, "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn a_key_that_passes_is_sent_as_it_is(root in "[a-z ]{0,3}(/[a-z]{1,3})?", key in "(\\PC|[ ./\t\u{a0}]){1,12}") {
            if let Ok(keys) = Keys::new(&root)
                && let Ok(path) = keys.file("write", &StoreKey::for_test("s", &key))
            {
                let wanted = if root.is_empty() { key.clone() } else { format!("{root}/{key}") };
                prop_assert_eq!(build_abs_path("/", &normalize_path(&path)), wanted.clone());
                let marker = format!("{path}/");
                prop_assert_eq!(build_abs_path("/", &normalize_path(&marker)), format!("{wanted}/"));
                let url = reqwest::Url::parse(&format!("http://h/b/{}", opendal::raw::percent_encode_path(&path))).unwrap();
                let sent = opendal::raw::percent_decode_path(url.path());
                prop_assert_eq!(sent, format!("/b/{wanted}"));
            }
        }
    }
}
