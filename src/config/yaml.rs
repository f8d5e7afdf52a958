//! YAML text as a tree of [`Node`]s: the only place that names the YAML library.
//!
//! A tree of our own rather than the library's `Value`, because that one stops at the first duplicate
//! key and forgets the order; [`super::typed`] wants to report every duplicate with its path.

use std::{cell::Cell, fmt};

use serde::{
    Serialize, Serializer,
    de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor},
    ser::SerializeMap as _,
};

/// What aliases may add to a text, in values and bytes of strings. Without them a text holds no more
/// of these than it has bytes itself.
const ADDED: usize = 1 << 20;

/// One YAML value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i128),
    /// A number with a fraction or exponent.
    Float(f64),
    /// A string, quoted or plain.
    String(String),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values in the order of the file, duplicates included.
    Mapping(Vec<(Node, Node)>),
}

/// Parses one document.
///
/// # Errors
/// The library's message, which carries the line and the column.
pub(crate) fn parse(text: &str) -> Result<Node, String> {
    // A byte order mark is what Windows editors leave; YAML allows it at the start of a stream.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text
        .lines()
        .all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok(Node::Null);
    }
    let room = Cell::new(text.len().saturating_add(ADDED));
    let parsed = NodeSeed(&room).deserialize(serde_yaml::Deserializer::from_str(text));
    parsed.map_err(|error| {
        let message = error.to_string();
        match error.location() {
            Some(at) if !message.contains(" line ") => {
                format!(
                    "not YAML: {message} at line {} column {}",
                    at.line(),
                    at.column()
                )
            }
            _ => format!("not YAML: {message}"),
        }
    })
}

/// Writes one document.
///
/// # Errors
/// The library's message.
pub(crate) fn to_text(node: &Node) -> Result<String, String> {
    serde_yaml::to_string(node).map_err(|error| error.to_string())
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Boolean(value) => serializer.serialize_bool(*value),
            // Not every format has numbers of 128 bits.
            Self::Integer(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => serializer.serialize_i64(value),
                (_, Ok(value)) => serializer.serialize_u64(value),
                _ => serializer.serialize_i128(*value),
            },
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::String(value) => serializer.serialize_str(value),
            Self::Sequence(items) => serializer.collect_seq(items),
            Self::Mapping(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

/// Takes whatever the text holds, except tagged values (`!name …`), which serde calls an enum, as long as
/// there is room: aliases make gigabytes of a few kilobytes.
#[derive(Clone, Copy)]
struct NodeSeed<'r>(&'r Cell<usize>);

impl NodeSeed<'_> {
    fn take<E: de::Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(bytes);
        let left = left.ok_or_else(|| E::custom("its aliases make too much of it"))?;
        self.0.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.take(1)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value without a tag")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Boolean(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        self.take(value.len())?;
        Ok(Node::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Node::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry_seed(self, self)? {
            entries.push(entry);
        }
        Ok(Node::Mapping(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_share_settings_and_cannot_fill_the_memory() {
        let shared = "a: &a {x: 1, y: [two, three]}\nb: *a\nc: [*a, *a]\n";
        let Ok(Node::Mapping(entries)) = parse(shared) else {
            panic!("{:?}", parse(shared));
        };
        assert_eq!(entries[0].1, entries[1].1);
        // Some kilobytes that would become millions of values, and some that would be one long text.
        let many = format!(
            "a: &a [{}]\nb: [{}]\n",
            "1,".repeat(3000),
            "*a,".repeat(3000)
        );
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(3000), "*a,".repeat(3000));
        for text in [many, long] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains("aliases make too much of it"), "{error}");
        }
        // A long text without any is none of that.
        let plain = format!("a: [{}]\n", "x,".repeat(1 << 20));
        assert!(parse(&plain).is_ok());
    }
}
