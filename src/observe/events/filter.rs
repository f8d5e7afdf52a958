//! [`Filter`]: which events a webhook is told of.

use std::io;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::{
    config::{EventKind, Webhook},
    observe::record::Record,
};

/// Every bound that is set must hold.
#[derive(Debug)]
pub(super) struct Filter {
    events: Vec<EventKind>,
    users: Vec<String>,
    mounts: Vec<String>,
    /// `None`: every path.
    paths: Option<GlobSet>,
}

impl Filter {
    pub(super) fn new(hook: &Webhook) -> io::Result<Self> {
        let mut set = GlobSetBuilder::new();
        for pattern in &hook.paths {
            // `*` ends at a slash, as everywhere in the configuration.
            let glob = GlobBuilder::new(pattern).literal_separator(true).build();
            set.add(glob.map_err(io::Error::other)?);
        }
        let set = set.build().map_err(io::Error::other)?;
        Ok(Self {
            events: hook.events.clone(),
            users: hook.users.clone(),
            mounts: hook.mounts.clone(),
            paths: (!hook.paths.is_empty()).then_some(set),
        })
    }

    pub(super) fn wants(&self, kind: EventKind) -> bool {
        self.events.contains(&kind)
    }

    pub(super) fn matches(&self, kind: EventKind, record: &Record) -> bool {
        let is_one = |list: &[String], word: Option<&str>| {
            list.is_empty() || word.is_some_and(|word| list.iter().any(|one| one == word))
        };
        let mount = record.place.as_ref().map(|place| place.mount.as_str());
        // A rename is told to whoever watches the one name or the other.
        let paths = [&record.path, &record.target];
        self.wants(kind)
            && is_one(&self.users, record.user.as_deref())
            && is_one(&self.mounts, mount)
            && self.paths.as_ref().is_none_or(|patterns| {
                paths
                    .into_iter()
                    .flatten()
                    .any(|path| patterns.is_match(path))
            })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        config::Secret,
        observe::record::{Kind, Outcome, Place},
    };

    #[test]
    fn every_bound_must_hold() {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let mut record = Record::new(Kind::Upload, Outcome::Success);
        record.user = Some("alice".to_owned());
        record.path = Some("/in/a/b.csv".to_owned());
        record.place = Some(Place {
            mount: "/in".to_owned(),
            backend: "main".to_owned(),
            key: "x".to_owned(),
        });
        for (users, mounts, paths, expected) in [
            (&[][..], &[][..], &[][..], true),
            (&["bob", "alice"], &["/in"], &["/in/**/*.csv"], true),
            (&["bob"], &[], &[], false),
            (&[], &["/"], &[], false),
            (&[], &[], &["/in/*.csv"], false),
            (&[], &[], &["*.csv", "/in/*/b.csv"], true),
        ] {
            let hook = Webhook {
                name: "one".into(),
                url: Secret::new("http://localhost"),
                events: vec![EventKind::FileUploaded],
                users: texts(users),
                mounts: texts(mounts),
                paths: texts(paths),
                secret: None,
                ca_file: None,
                timeout: Duration::from_secs(1),
                give_up: Duration::from_secs(1),
                concurrency: 1,
            };
            let filter = Filter::new(&hook).unwrap();
            let found = filter.matches(EventKind::FileUploaded, &record);
            assert_eq!(found, expected, "{users:?} {mounts:?} {paths:?}");
            assert!(!filter.matches(EventKind::FileDeleted, &record));
        }
    }
}
