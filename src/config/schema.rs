//! JSON Schema (2020-12) of the files that an operator writes, for editors and pipelines.
//!
//! Nobody writes it down: the reader is asked everything that any file could lead to ([`Reader::exploring`]),
//! and the schema is what it noted ([`super::record`]). It knows keys, kinds, bounds, words and defaults;
//! what depends on other keys, and what a string means, only `causeway check` knows. Descriptions are the
//! comments of `config.example.yaml`, which a test keeps complete.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    record::{Kind, Place, ROOT, Record, Records, Way},
    typed::Reader,
};

/// Enough for every choice to have been each of its words, in every combination that leads somewhere.
const PASSES: usize = 60;
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Where the schema says how a string may be written otherwise.
const REFERENCE: &str = "#/$defs/reference";
const EXAMPLE: &str = include_str!("../../config.example.yaml");

/// Of the configuration.
pub fn configuration() -> Value {
    let descriptions = descriptions(EXAMPLE);
    schema(
        "causeway configuration",
        super::resolve::explore,
        &descriptions,
    )
}

/// Of a file that `look` reads.
pub(crate) fn schema(
    title: &str,
    look: impl Fn(&Reader<'_>),
    descriptions: &BTreeMap<String, String>,
) -> Value {
    let mut records = Records::kept();
    for pass in 0..PASSES {
        let reader = Reader::exploring(pass, records);
        look(&reader);
        records = reader.into_records();
    }
    let drawing = Drawing {
        records: records.into_inner(),
        descriptions,
    };
    let mut schema = drawing.of(ROOT, "");
    schema.insert("$schema".to_owned(), json!(DIALECT));
    schema.insert("title".to_owned(), json!(title));
    let one = |key: &str| {
        json!({
            "type": "object",
            "properties": {key: {"type": "string", "minLength": 1}},
            "required": [key],
            "additionalProperties": false,
        })
    };
    schema.insert(
        "$defs".to_owned(),
        json!({"reference": {
            "description": "The value of an environment variable, or the content of a file",
            "oneOf": [one("env"), one("file")],
        }}),
    );
    Value::Object(schema)
}

struct Drawing<'a> {
    records: Vec<Record>,
    descriptions: &'a BTreeMap<String, String>,
}

impl Drawing<'_> {
    /// The schema of a place; `path` is how the descriptions call it.
    fn of(&self, place: Place, path: &str) -> Map<String, Value> {
        let record = &self.records[place];
        let variants: Vec<_> = record
            .ways
            .iter()
            .filter_map(|(way, place)| match way {
                Way::Variant(key, word) if !key.is_empty() && !word.is_empty() => {
                    Some((*key, *word, *place))
                }
                _ => None,
            })
            .collect();
        let mut options: Vec<Map<String, Value>> = if variants.is_empty() {
            self.kinds(record, place, path)
        } else {
            let variant = |(key, word, place): &(&str, &str, Place)| {
                let mut schema = self.of(*place, &format!("{path}({word})"));
                schema["properties"][*key] = json!({"const": word});
                let mut required = schema
                    .get("required")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default();
                required.push(json!(key));
                schema.insert("required".to_owned(), Value::Array(required));
                schema.insert("type".to_owned(), json!("object"));
                schema
            };
            variants.iter().map(variant).collect()
        };
        let mut schema = if options.len() == 1 {
            options.swap_remove(0)
        } else {
            let mut schema = Map::new();
            schema.insert("anyOf".to_owned(), json!(options));
            schema
        };
        if let Some(default) = &record.default
            && let Ok(default) = serde_json::to_value(default)
        {
            schema.insert("default".to_owned(), default);
        }
        if let Some(text) = self.description(path).or(record.expected.as_ref()) {
            schema.insert("description".to_owned(), json!(text));
        }
        schema
    }

    /// What is said of a place, or of the same key of the same table elsewhere: variants of backends share
    /// keys, and every `tls` has the keys of the first.
    fn description(&self, path: &str) -> Option<&String> {
        let plain = |path: &str| -> String {
            let without_variant = path
                .split('(')
                .enumerate()
                .map(|(index, part)| match index {
                    0 => part,
                    _ => part.split_once(')').map_or(part, |(_, rest)| rest),
                });
            without_variant.collect()
        };
        let tail = |path: &str| {
            let plain = plain(path);
            let mut parts = plain.rsplitn(3, '.');
            let (key, table) = (parts.next()?.to_owned(), parts.next()?.to_owned());
            Some((table, key))
        };
        self.descriptions.get(path).or_else(|| {
            let wanted = tail(path)?;
            let mut others = self.descriptions.iter();
            others
                .find(|(other, _)| tail(other).as_ref() == Some(&wanted))
                .map(|(_, text)| text)
        })
    }

    fn kinds(&self, record: &Record, place: Place, path: &str) -> Vec<Map<String, Value>> {
        let has_words = record.kinds.contains(&Kind::Words);
        let mut schemas = Vec::new();
        let mut push = |schema: Value| {
            if let Value::Object(schema) = schema {
                schemas.push(schema);
            }
        };
        for kind in &record.kinds {
            match kind {
                Kind::Table { one_of } => push(self.table(record, place, path, *one_of)),
                Kind::Names => {
                    let every = below(record, &Way::Name("*".to_owned()));
                    let every = every.map(|place| self.of(place, &format!("{path}.*")));
                    push(json!({
                        "type": ["object", "null"],
                        "additionalProperties": every.unwrap_or_default(),
                    }));
                }
                Kind::List => {
                    let item = below(record, &Way::Item(0));
                    let item = item.map(|place| self.of(place, &format!("{path}[]")));
                    push(json!({"type": "array", "items": item.unwrap_or_default()}));
                }
                Kind::Words => {
                    push(json!({"type": "string", "enum": record.words}));
                    push(json!({"$ref": REFERENCE}));
                }
                // The words say more.
                Kind::Text { .. } if has_words => {}
                Kind::Text { empty } => {
                    push(if *empty {
                        json!({"type": "string"})
                    } else {
                        json!({"type": "string", "minLength": 1})
                    });
                    push(json!({"$ref": REFERENCE}));
                }
                Kind::Secret => {
                    push(json!({"type": "string", "minLength": 1, "writeOnly": true}));
                    push(json!({"$ref": REFERENCE}));
                }
                Kind::Integer { least, most } => {
                    let bound = |value: i128| i64::try_from(value).unwrap_or(i64::MAX);
                    push(json!({
                        "type": "integer",
                        "minimum": bound(*least),
                        "maximum": bound(*most),
                    }));
                }
                Kind::Boolean => push(json!({"type": "boolean"})),
            }
        }
        let mut seen = Vec::new();
        schemas.retain(|schema| {
            let new = !seen.contains(schema);
            seen.push(schema.clone());
            new
        });
        schemas
    }

    fn table(&self, record: &Record, place: Place, path: &str, one_of: bool) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for key in &record.keys {
            let below = below(record, &Way::Key(key.clone()));
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            let schema = below.map(|place| self.of(place, &path)).unwrap_or_default();
            properties.insert(key.clone(), Value::Object(schema));
            // In every pass that looked at this table the absence was a mistake.
            let seen = &self.records[place].seen;
            if below.is_some_and(|below| !seen.is_empty() && self.records[below].demanded == *seen)
            {
                required.push(key.clone());
            }
        }
        let mut schema = json!({
            // Nothing at all is an empty table.
            "type": if required.is_empty() && !one_of { json!(["object", "null"]) } else { json!("object") },
            "properties": properties,
            "additionalProperties": false,
        });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if one_of {
            schema["minProperties"] = json!(1);
            schema["maxProperties"] = json!(1);
        }
        schema
    }
}

fn below(record: &Record, way: &Way) -> Option<Place> {
    let found = record.ways.iter().find(|(known, _)| known == way);
    found.map(|(_, place)| *place)
}

/// The comments of an example by the place of the key below them. A commented key has no blank behind its
/// `#`, prose has one.
fn descriptions(example: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut prose: Vec<&str> = Vec::new();
    let mut above: Vec<(usize, String)> = Vec::new();
    // Keys that follow each other at once share a comment.
    let mut shared: Option<(usize, String)> = None;
    for line in example.lines() {
        let bare = line.trim_start();
        let mut indent = line.len() - bare.len();
        if let Some(text) = bare.strip_prefix("# ") {
            prose.push(text.trim());
            continue;
        }
        if bare.is_empty() || bare == "#" {
            prose.clear();
            shared = None;
            continue;
        }
        let mut content = bare.strip_prefix('#').unwrap_or(bare);
        let deeper =
            |above: &[(usize, String)], indent| above.last().is_some_and(|(at, _)| *at >= indent);
        if let Some(item) = content.strip_prefix("- ") {
            while deeper(&above, indent) {
                above.pop();
            }
            above.push((indent, "[]".to_owned()));
            content = item;
            indent += 2;
        }
        let Some((key, value)) = content.split_once(':') else {
            prose.clear();
            continue;
        };
        if !key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        {
            prose.clear();
            continue;
        }
        while deeper(&above, indent) {
            above.pop();
        }
        let names =
            matches!(above.last(), Some((0, above)) if above == "backends" || above == "profiles");
        let key = if names { "*" } else { key };
        if key == "type"
            && let Some((_, name)) = above.last_mut()
        {
            *name = format!("*({})", value.trim());
        }
        above.push((indent, key.to_owned()));
        let mut path = String::new();
        for (_, part) in &above {
            if !path.is_empty() && part != "[]" {
                path.push('.');
            }
            path.push_str(part);
        }
        if !prose.is_empty() {
            shared = Some((indent, prose.join(" ")));
        }
        shared = shared.filter(|(at, _)| *at == indent);
        if let Some((_, text)) = &shared {
            found.entry(path).or_insert_with(|| text.clone());
        }
        prose.clear();
    }
    found
}

/// What a file may hold, as the schema of its root says it: for tests.
#[cfg(test)]
pub(crate) fn keys_without_kind(schema: &Value, path: &str, found: &mut Vec<String>) {
    let says = ["type", "anyOf", "$ref", "const", "enum"];
    if !says.iter().any(|key| schema.get(key).is_some()) {
        found.push(path.to_owned());
    }
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        keys_without_kind(below, &format!("{path}.{key}"), found);
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            keys_without_kind(&schema[key], &format!("{path}[]"), found);
        }
    }
    for below in schema["anyOf"].as_array().into_iter().flatten() {
        keys_without_kind(below, path, found);
    }
}
