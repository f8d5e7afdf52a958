//! [`Effective`]: the configuration in force as a tree of the keys of the file, defaults filled in.
//!
//! Made of what the reader noted while it read ([`super::record`]). A secret that stands in the file itself is
//! masked; `{env: NAME}` and `{file: PATH}` stay what they are, since they hold none. So what is printed can be
//! read again and, but for masked secrets, means the same.

use serde::{Serialize, Serializer};

use super::{
    record::{Kind, Place, ROOT, Record, Way},
    yaml::{self, Node},
};

/// The tree. Equal trees mean the same but for masked secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective(Node);

/// The reader takes no number with a fraction, so no tree holds one.
impl Eq for Effective {}

impl Default for Effective {
    fn default() -> Self {
        Self(Node::Mapping(Vec::new()))
    }
}

impl Effective {
    pub(super) fn of(records: &[Record]) -> Self {
        value(records, ROOT).map_or_else(Self::default, Self)
    }

    /// As a configuration file.
    ///
    /// # Errors
    /// What the YAML library says; there is no tree that it cannot write.
    pub fn to_yaml(&self) -> Result<String, String> {
        yaml::to_text(&self.0)
    }

    /// Takes these keys (`limits.connections`) from `old` instead, also where it does not have them.
    pub(crate) fn keep(&mut self, old: &Self, paths: &[String]) {
        for path in paths {
            let keys: Vec<&str> = path.split('.').collect();
            copy(&mut self.0, &old.0, &keys);
        }
    }

    /// Makes these the listeners, in this order: each as it is, with the address of `old`, or else that of
    /// `old`.
    pub(crate) fn keep_listeners<'n>(&mut self, old: &Self, names: impl Iterator<Item = &'n str>) {
        let one = |name| {
            let before = old.listener(name);
            let Some(mut listener) = self.listener(name).cloned() else {
                return before.cloned();
            };
            if let Some(before) = before {
                copy(&mut listener, before, &["address"]);
            }
            Some(listener)
        };
        let listeners = Node::Sequence(names.filter_map(one).collect());
        put(&mut self.0, "listeners", Some(listeners));
    }

    fn listener(&self, name: &str) -> Option<&Node> {
        let Node::Sequence(listeners) = get(&self.0, "listeners")? else {
            return None;
        };
        let mut listeners = listeners.iter();
        listeners.find(|one| matches!(get(one, "name"), Some(Node::String(known)) if known == name))
    }
}

impl Serialize for Effective {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// What counts at a place; `None` where nothing is given and nothing stands in for it.
fn value(records: &[Record], place: Place) -> Option<Node> {
    let record = records.get(place)?;
    let variant = |way: &(Way, Place)| match way {
        (Way::Variant(key, word), place) if !key.is_empty() && !word.is_empty() => Some(*place),
        _ => None,
    };
    if let Some(place) = record.ways.iter().find_map(variant) {
        return value(records, place);
    }
    if record.value.is_some() {
        return record.value.clone();
    }
    let is = |wanted: fn(&Kind) -> bool| record.kinds.iter().any(wanted);
    let below = record.ways.iter();
    if is(|kind| matches!(kind, Kind::Table { .. })) {
        let entry = |key: &String| {
            let way = Way::Key(key.clone());
            let (_, place) = below.clone().find(|(known, _)| *known == way)?;
            Some((Node::String(key.clone()), value(records, *place)?))
        };
        return Some(Node::Mapping(
            record.keys.iter().filter_map(entry).collect(),
        ));
    }
    if is(|kind| *kind == Kind::Names) {
        let entry = |(way, place): &(Way, Place)| match way {
            Way::Name(name) => Some((Node::String(name.clone()), value(records, *place)?)),
            _ => None,
        };
        return Some(Node::Mapping(below.filter_map(entry).collect()));
    }
    if is(|kind| *kind == Kind::List) {
        let item = |(way, place): &(Way, Place)| match way {
            Way::Item(_) => value(records, *place),
            _ => None,
        };
        return Some(Node::Sequence(below.filter_map(item).collect()));
    }
    None
}

fn get<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Node::Mapping(entries) = node else {
        return None;
    };
    let mut entries = entries.iter();
    let found = entries.find(|(name, _)| matches!(name, Node::String(name) if name == key));
    found.map(|(_, value)| value)
}

fn put(node: &mut Node, key: &str, value: Option<Node>) {
    let Node::Mapping(entries) = node else {
        return;
    };
    let place = entries
        .iter()
        .position(|(name, _)| matches!(name, Node::String(name) if name == key));
    match (place, value) {
        (Some(place), Some(value)) => entries[place].1 = value,
        (Some(place), None) => drop(entries.remove(place)),
        (None, Some(value)) => entries.push((Node::String(key.to_owned()), value)),
        (None, None) => {}
    }
}

fn copy(into: &mut Node, from: &Node, keys: &[&str]) {
    match keys {
        [] => {}
        [key] => put(into, key, get(from, key).cloned()),
        [key, rest @ ..] => {
            if let (Some(from), Node::Mapping(entries)) = (get(from, key), into)
                && let Some((_, below)) = entries
                    .iter_mut()
                    .find(|(name, _)| matches!(name, Node::String(name) if name == key))
            {
                copy(below, from, rest);
            }
        }
    }
}
