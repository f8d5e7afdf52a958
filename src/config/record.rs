//! [`Records`]: what a reader asked of each place of a file, and what it got.
//!
//! The typed reader notes every question here as it asks it: the keys of a table, the kind of a value, its
//! bounds, its words, its default, and the value that counts. So the JSON Schema ([`super::schema`]) and the
//! configuration in force ([`super::effective`]) come from the same calls that read the file, and cannot
//! drift from them.

use std::{cell::RefCell, collections::BTreeSet};

use super::yaml::Node;

/// One way from a place to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A known key of a table.
    Key(String),
    /// A name of the operator's choice; `*` where every name is meant.
    Name(String),
    /// An item of a list.
    Item(usize),
    /// What the place is where a key of it, named first, has this word.
    Variant(&'static str, &'static str),
}

/// What a value may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A table of known keys.
    Table {
        /// Exactly one of the keys is given.
        one_of: bool,
    },
    /// A table of names.
    Names,
    /// A list.
    List,
    /// A string, `{env: NAME}` or `{file: PATH}`.
    Text {
        /// The empty string is one, too.
        empty: bool,
    },
    /// A string that is nobody's to see.
    Secret,
    /// A string that is one of [`Record::words`].
    Words,
    /// A whole number.
    Integer {
        least: i128,
        most: i128,
    },
    Boolean,
}

/// What is known of one place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) words: Vec<String>,
    pub(crate) keys: Vec<String>,
    pub(crate) ways: Vec<(Way, Place)>,
    pub(crate) default: Option<Node>,
    /// What counts: given, or by default. Tables and lists have theirs in what lies below.
    pub(crate) value: Option<Node>,
    /// What was expected, in words for people.
    pub(crate) expected: Option<String>,
    /// Passes in which it was looked at as a table, and in which its absence was a mistake.
    pub(crate) seen: BTreeSet<usize>,
    pub(crate) demanded: BTreeSet<usize>,
}

/// A place of the file.
pub(crate) type Place = usize;

/// The root of the file.
pub(crate) const ROOT: Place = 0;

/// Every place of a file that was asked about; `None` where nobody wants to know.
#[derive(Debug, Default)]
pub(crate) struct Records(Option<RefCell<Vec<Record>>>);

impl Records {
    /// Notes that are kept.
    pub(crate) fn kept() -> Self {
        Self(Some(RefCell::new(vec![Record::default()])))
    }

    /// The place at the end of `way`.
    pub(crate) fn go(&self, from: Place, way: Way) -> Place {
        let Some(records) = &self.0 else {
            return ROOT;
        };
        let mut records = records.borrow_mut();
        let known = records[from].ways.iter().find(|(known, _)| *known == way);
        if let Some((_, place)) = known {
            return *place;
        }
        let place = records.len();
        records.push(Record::default());
        records[from].ways.push((way, place));
        place
    }

    /// Changes what is known of a place.
    pub(crate) fn note(&self, place: Place, change: impl FnOnce(&mut Record)) {
        if let Some(records) = &self.0 {
            change(&mut records.borrow_mut()[place]);
        }
    }

    /// Notes what a value may be.
    pub(crate) fn kind(&self, place: Place, kind: Kind) {
        self.note(place, |record| {
            if !record.kinds.contains(&kind) {
                record.kinds.push(kind);
            }
        });
    }

    pub(crate) fn into_inner(self) -> Vec<Record> {
        self.0.map(RefCell::into_inner).unwrap_or_default()
    }
}
