//! A typed reader over YAML nodes that collects every mistake instead of stopping at the first.
//!
//! Serde's derive stops at the first error of a file; an operator who fixes a configuration wants the
//! whole list. So the text becomes [`Node`]s first, and a [`Reader`] hands out [`Table`]s whose getters
//! return `None` after noting what was found, what was expected and where. Callers read every field of
//! a table before they combine them, so that one mistake never hides another. Used by
//! [`super::resolve`] and by the users file; knows neither.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use super::{ConfigError, ConfigErrors, Secret, yaml::Node};

/// Longest file that `{file: PATH}` may name: it holds one secret, not a disk image.
const VALUE_FILE_BYTES: u64 = 64 << 10;

/// What all tables of one file share.
pub(crate) struct Reader<'a> {
    /// The file's absolute directory, which relative paths start from.
    directory: PathBuf,
    environment: &'a dyn Fn(&str) -> Option<String>,
    /// The text is somebody else's: it must not name our variables and files.
    foreign: bool,
    errors: RefCell<Vec<ConfigError>>,
}

/// One mapping with known keys.
pub(crate) struct Table<'a> {
    reader: &'a Reader<'a>,
    path: String,
    entries: BTreeMap<&'a str, &'a Node>,
}

/// One item of a sequence or value of a free-form mapping, with its path.
pub(crate) struct Item<'a> {
    reader: &'a Reader<'a>,
    path: String,
    node: &'a Node,
}

/// A string value and where it came from: values of variables and files may be secrets, so errors
/// show only what stands in the YAML text itself.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// The value.
    pub(crate) value: String,
    shown: String,
}

impl<'a> Reader<'a> {
    /// A reader for the file `file`; `environment` looks up variables.
    pub(crate) fn new(file: &Path, environment: &'a dyn Fn(&str) -> Option<String>) -> Self {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        Self {
            directory: file.parent().map(Path::to_owned).unwrap_or_default(),
            environment,
            foreign: false,
            errors: RefCell::default(),
        }
    }

    /// A reader for a text that another system sent: `{env: NAME}` and `{file: PATH}` are mistakes.
    pub(crate) fn foreign() -> Self {
        Self {
            directory: PathBuf::new(),
            environment: &|_| None,
            foreign: true,
            errors: RefCell::default(),
        }
    }

    /// Notes a mistake at `path`.
    pub(crate) fn error(&self, path: impl Into<String>, message: impl Into<String>) {
        let error = ConfigError {
            path: path.into(),
            message: message.into(),
        };
        let mut errors = self.errors.borrow_mut();
        // Some values are looked at twice.
        if !errors.contains(&error) {
            errors.push(error);
        }
    }

    /// The whole file as a table; an empty file is an empty table.
    pub(crate) fn root(&'a self, node: &'a Node, known: &[&str]) -> Option<Table<'a>> {
        Item {
            reader: self,
            path: String::new(),
            node,
        }
        .table(known)
    }

    /// `value` if nothing was wrong, else every mistake.
    pub(crate) fn finish<T>(self, value: Option<T>, file: &Path) -> Result<T, ConfigErrors> {
        let mut errors = self.errors.into_inner();
        match value {
            Some(value) if errors.is_empty() => Ok(value),
            _ => {
                if errors.is_empty() {
                    // Unreachable as long as every getter notes why it returned `None`.
                    let message = "not usable, for a reason that was not recorded".to_owned();
                    errors.push(ConfigError {
                        path: String::new(),
                        message,
                    });
                }
                Err(ConfigErrors {
                    file: file.display().to_string(),
                    errors,
                })
            }
        }
    }
}

impl<'a> Item<'a> {
    /// Where the item stands.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Notes a mistake in the item as a whole.
    pub(crate) fn error(&self, message: impl Into<String>) {
        self.reader.error(self.path.clone(), message);
    }

    /// The item as a table that may hold the keys `known`; nothing at all (`limits:` with every line
    /// below it commented out) is an empty table.
    pub(crate) fn table(&self, known: &[&str]) -> Option<Table<'a>> {
        let entries = self.entries("a table of keys")?;
        let mut table = Table {
            reader: self.reader,
            path: self.path.clone(),
            entries: BTreeMap::new(),
        };
        for (key, item) in entries {
            if known.contains(&key) {
                table.entries.insert(key, item.node);
            } else {
                item.error(unknown_key(key, known));
            }
        }
        Some(table)
    }

    /// The choice at `key` of a mapping, before its other keys are looked at.
    pub(crate) fn tag<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let entries = match self.node {
            Node::Mapping(entries) => entries.as_slice(),
            Node::Null => &[],
            other => {
                self.error(format!(
                    "expected a table of keys, found {}",
                    describe(other)
                ));
                return None;
            }
        };
        let named = |(name, _): &&(Node, Node)| matches!(name, Node::String(name) if name == key);
        let node = entries.iter().find(named).map(|(_, node)| (key, node));
        let entries = node.into_iter().collect();
        Table {
            reader: self.reader,
            path: self.path.clone(),
            entries,
        }
        .required_choice(key, words)
    }

    /// The item as a string that is not empty.
    pub(crate) fn text(&self, expected: &str) -> Option<Text> {
        let text = self.any_text(expected)?;
        if text.value.is_empty() {
            self.error(format!("empty: expected {expected}"));
            return None;
        }
        Some(text)
    }

    /// Whether the item is a mapping that has none of `keys`.
    pub(crate) fn is_table_without(&self, keys: &[&str]) -> bool {
        let Node::Mapping(entries) = self.node else {
            return false;
        };
        !entries
            .iter()
            .any(|(key, _)| matches!(key, Node::String(key) if keys.contains(&key.as_str())))
    }

    /// The item where it is a string in the text itself; notes nothing.
    pub(crate) fn peek(&self) -> Option<&'a str> {
        match self.node {
            Node::String(text) => Some(text),
            _ => None,
        }
    }

    fn any_text(&self, expected: &str) -> Option<Text> {
        match self.node {
            Node::String(value) => Some(Text {
                value: value.clone(),
                shown: format!("{:?}", shorten(value)),
            }),
            Node::Mapping(_) if !self.reader.foreign => self.indirect_text(expected),
            other => {
                let quote = match other {
                    Node::Boolean(_) | Node::Integer(_) | Node::Float(_) => {
                        "; put it in quotes if it is meant as a string"
                    }
                    _ => "",
                };
                // The kind only: an unquoted secret of digits must not be repeated.
                self.error(format!("expected {expected}, found {}{quote}", kind(other)));
                None
            }
        }
    }

    /// Follows `{env: NAME}` or `{file: PATH}`.
    fn indirect_text(&self, expected: &str) -> Option<Text> {
        let table = self.table(&["env", "file"])?;
        match (table.has("env"), table.has("file")) {
            (true, false) => {
                let name = table.literal("env", "the name of an environment variable")?;
                let shown = format!("the value of the environment variable {name}");
                if let Some(value) = (self.reader.environment)(name) {
                    return Some(Text { value, shown });
                }
                table.error("env", format!("the environment variable {name} is not set"));
                None
            }
            (false, true) => {
                let name = table.literal("file", "the path of a file")?;
                let path = self.reader.directory.join(name);
                match read_value_file(&path) {
                    Ok(value) => Some(Text {
                        value,
                        shown: format!("the content of {}", path.display()),
                    }),
                    Err(message) => {
                        table.error("file", format!("cannot read {}: {message}", path.display()));
                        None
                    }
                }
            }
            _ => {
                self.error(format!(
                    "expected {expected}, or one of {{env: NAME}} and {{file: PATH}}"
                ));
                None
            }
        }
    }

    /// The values of a mapping whose keys are names of the operator's choice.
    pub(crate) fn names(&self) -> Option<Vec<(&'a str, Item<'a>)>> {
        self.entries("a table of names")
    }

    /// The entries of a mapping, duplicates noted and left out.
    fn entries(&self, expected: &str) -> Option<Vec<(&'a str, Item<'a>)>> {
        let entries = match self.node {
            Node::Mapping(entries) => entries,
            Node::Null => return Some(Vec::new()),
            other => {
                self.error(format!("expected {expected}, found {}", describe(other)));
                return None;
            }
        };
        let mut seen = Vec::<(&'a str, Item<'a>)>::new();
        for (key, node) in entries {
            let Node::String(key) = key else {
                self.error(format!("expected a word as key, found {}", describe(key)));
                continue;
            };
            let item = Item {
                reader: self.reader,
                path: join(&self.path, key),
                node,
            };
            if seen.iter().any(|(other, _)| other == key) {
                item.error("given twice: keep one of them");
            } else {
                seen.push((key, item));
            }
        }
        Some(seen)
    }
}

impl<'a> Table<'a> {
    /// Where the key `key` stands or would stand.
    pub(crate) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Whether the key is given.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Notes a mistake in the value of `key`.
    pub(crate) fn error(&self, key: &str, message: impl Into<String>) {
        self.reader.error(self.path_of(key), message);
    }

    /// Notes a mistake elsewhere in the file.
    pub(crate) fn error_at(&self, path: impl Into<String>, message: impl Into<String>) {
        self.reader.error(path, message);
    }

    /// The value of `key` where it is a string in the text itself; notes nothing.
    pub(crate) fn peek(&self, key: &str) -> Option<&'a str> {
        match self.entries.get(key) {
            Some(Node::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The value of `key`, if given.
    pub(crate) fn item(&self, key: &str) -> Option<Item<'a>> {
        let node = *self.entries.get(key)?;
        Some(Item {
            reader: self.reader,
            path: self.path_of(key),
            node,
        })
    }

    /// The value of `key`; its absence is a mistake.
    pub(crate) fn required(&self, key: &str, expected: &str) -> Option<Item<'a>> {
        let item = self.item(key);
        if item.is_none() {
            self.error(key, format!("missing: expected {expected}"));
        }
        item
    }

    /// The table at `key`, if given.
    pub(crate) fn table(&self, key: &str, known: &[&str]) -> Option<Table<'a>> {
        self.item(key)?.table(known)
    }

    /// The items of the list at `key`; none if it is not given.
    pub(crate) fn optional_list(&self, key: &str, expected: &str) -> Option<Vec<Item<'a>>> {
        if self.has(key) {
            self.list(key, expected)
        } else {
            Some(Vec::new())
        }
    }

    /// The items of the list at `key`, which must be given.
    pub(crate) fn list(&self, key: &str, expected: &str) -> Option<Vec<Item<'a>>> {
        let item = self.required(key, expected)?;
        let Node::Sequence(nodes) = item.node else {
            item.error(format!(
                "expected {expected}, found {}",
                describe(item.node)
            ));
            return None;
        };
        let at = |(index, node)| Item {
            reader: self.reader,
            path: format!("{}[{index}]", item.path),
            node,
        };
        Some(nodes.iter().enumerate().map(at).collect())
    }

    /// The string at `key`, which must be given and not empty.
    pub(crate) fn text(&self, key: &str, expected: &str) -> Option<Text> {
        self.required(key, expected)?;
        self.optional_text(key, expected)?
    }

    /// A whole number within `range`, if given.
    #[allow(clippy::option_option, reason = "as below")]
    pub(crate) fn optional_integer<T>(
        &self,
        key: &str,
        range: RangeInclusive<T>,
    ) -> Option<Option<T>>
    where
        T: Copy + PartialOrd + TryFrom<i128> + std::fmt::Display,
    {
        if self.has(key) {
            let unused = *range.start();
            self.integer(key, unused, range).map(Some)
        } else {
            Some(None)
        }
    }

    /// The string at `key`. The outer `None` is a mistake, the inner one its absence.
    #[allow(
        clippy::option_option,
        reason = "a mistake and an absence are different things"
    )]
    pub(crate) fn optional_text(&self, key: &str, expected: &str) -> Option<Option<Text>> {
        let Some(text) = self.any_text(key, expected)? else {
            return Some(None);
        };
        if text.value.is_empty() {
            self.error(key, format!("empty: expected {expected}"));
            return None;
        }
        Some(Some(text))
    }

    /// Like [`Self::optional_text`], for values that may be the empty string.
    #[allow(clippy::option_option, reason = "as above")]
    pub(crate) fn any_text(&self, key: &str, expected: &str) -> Option<Option<Text>> {
        match self.item(key) {
            Some(item) => item.any_text(expected).map(Some),
            None => Some(None),
        }
    }

    /// The secret at `key`, if given. Errors never repeat it.
    #[allow(clippy::option_option, reason = "as above")]
    pub(crate) fn secret(&self, key: &str) -> Option<Option<Secret>> {
        let text = self.optional_text(key, "a secret, {env: NAME} or {file: PATH}")?;
        Some(text.map(|text| Secret::new(text.value)))
    }

    /// The path at `key`, which must be given; relative ones start from the file's directory.
    pub(crate) fn file(&self, key: &str, expected: &str) -> Option<PathBuf> {
        let text = self.text(key, expected)?;
        Some(self.reader.directory.join(text.value))
    }

    /// The choice at `key` among words, if given.
    #[allow(clippy::option_option, reason = "as above")]
    pub(crate) fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<Option<T>> {
        let list = words
            .iter()
            .map(|(word, _)| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(" or ");
        let Some(text) = self.optional_text(key, &list)? else {
            return Some(None);
        };
        let found = words.iter().find(|(word, _)| *word == text.value);
        if let Some((_, value)) = found {
            return Some(Some(*value));
        }
        let known = words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        let hint = nearest(&text.value, &known).map(|word| format!("; did you mean `{word}`?"));
        let hint = hint.unwrap_or_default();
        self.error(
            key,
            format!("expected {list}, found {}{hint}", text.shown()),
        );
        None
    }

    /// The choice at `key`, which must be given.
    pub(crate) fn required_choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let list = words
            .iter()
            .map(|(word, _)| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(" or ");
        self.required(key, &list)?;
        self.choice(key, words)?
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, key: &str, default: bool) -> Option<bool> {
        let Some(item) = self.item(key) else {
            return Some(default);
        };
        if let Node::Boolean(value) = item.node {
            return Some(*value);
        }
        item.error(format!(
            "expected true or false, found {}",
            describe(item.node)
        ));
        None
    }

    /// A whole number within `range`.
    pub(crate) fn integer<T>(&self, key: &str, default: T, range: RangeInclusive<T>) -> Option<T>
    where
        T: Copy + PartialOrd + TryFrom<i128> + std::fmt::Display,
    {
        let Some(item) = self.item(key) else {
            return Some(default);
        };
        let value = match item.node {
            Node::Integer(value) => T::try_from(*value)
                .ok()
                .filter(|value| range.contains(value)),
            _ => None,
        };
        if value.is_none() {
            let (least, most) = (range.start(), range.end());
            let found = describe(item.node);
            item.error(format!(
                "expected a whole number from {least} to {most}, found {found}"
            ));
        }
        value
    }

    /// A string that stands in the YAML itself.
    fn literal(&self, key: &str, expected: &str) -> Option<&'a str> {
        let item = self.item(key)?;
        match item.node {
            Node::String(text) if !text.is_empty() => Some(text),
            other => {
                item.error(format!("expected {expected}, found {}", describe(other)));
                None
            }
        }
    }

    /// The integer at `key`, for values that may also be written as a string.
    pub(crate) fn bare_integer(&self, key: &str) -> Option<i128> {
        match self.entries.get(key) {
            Some(Node::Integer(value)) => Some(*value),
            _ => None,
        }
    }
}

impl Text {
    /// The value as it may appear in an error.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Parses the value as an address or number.
    pub(crate) fn parse<T: std::str::FromStr>(&self) -> Option<T> {
        self.value.parse().ok()
    }
}

/// `path.key`, quoted where the key is no plain word.
pub(crate) fn join(path: &str, key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if key.is_empty() || !key.chars().all(plain) {
        return format!("{path}[{:?}]", shorten(key));
    }
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The word of `known` that `word` was probably meant to be.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let score = |known: &str| strsim::jaro_winkler(&word.to_lowercase(), known);
    let best = known.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > 0.8).then_some(*best)
}

fn unknown_key(key: &str, known: &[&str]) -> String {
    if let Some(nearest) = nearest(key, known) {
        return format!("unknown key; did you mean `{nearest}`?");
    }
    let known = known
        .iter()
        .map(|key| format!("`{key}`"))
        .collect::<Vec<_>>();
    format!("unknown key; known here: {}", known.join(", "))
}

/// What a node is, with its value where that is short.
fn describe(node: &Node) -> String {
    match node {
        Node::Boolean(value) => format!("`{value}`"),
        Node::Integer(value) => format!("the number {value}"),
        Node::Float(value) => format!("the number {value}"),
        // A key file named in the wrong place: not a character of it.
        Node::String(value) if value.starts_with("-----BEGIN") => "PEM data".to_owned(),
        Node::String(value) => format!("the string {:?}", shorten(value)),
        other => kind(other).to_owned(),
    }
}

/// What a node is.
fn kind(node: &Node) -> &'static str {
    match node {
        Node::Null => "nothing",
        Node::Boolean(_) => "a boolean",
        Node::Integer(_) | Node::Float(_) => "a number",
        Node::String(_) => "a string",
        Node::Sequence(_) => "a list",
        Node::Mapping(_) => "a table",
    }
}

/// Enough of a string to recognise it.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The content of a small text file without its one last newline.
fn read_value_file(path: &Path) -> Result<String, String> {
    let length = std::fs::metadata(path)
        .map_err(|error| error.to_string())?
        .len();
    if length > VALUE_FILE_BYTES {
        return Err(format!(
            "it has {length} bytes, more than {VALUE_FILE_BYTES}"
        ));
    }
    let mut text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
