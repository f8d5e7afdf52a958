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

use super::{
    ConfigError, ConfigErrors, Secret,
    record::{Kind, Place, ROOT, Record, Records, Way},
    yaml::Node,
};

/// Longest file that `{file: PATH}` may name: it holds one secret, not a disk image.
const VALUE_FILE_BYTES: u64 = 64 << 10;

/// What stands for a secret wherever a configuration is shown.
pub(crate) const MASK: &str = "***";
/// Stands for every name where there is no file.
const EVERY: &str = "*";

/// What all tables of one file share.
pub(crate) struct Reader<'a> {
    /// The file's absolute directory, which relative paths start from.
    directory: PathBuf,
    environment: &'a dyn Fn(&str) -> Option<String>,
    /// The text is somebody else's: it must not name our variables and files.
    foreign: bool,
    errors: RefCell<Vec<ConfigError>>,
    records: Records,
    /// There is no file: every question is asked that could be, see [`Reader::exploring`].
    exploring: Option<usize>,
}

/// One mapping with known keys.
pub(crate) struct Table<'a> {
    reader: &'a Reader<'a>,
    path: String,
    place: Place,
    entries: BTreeMap<&'a str, &'a Node>,
}

/// One item of a sequence or value of a free-form mapping, with its path.
pub(crate) struct Item<'a> {
    reader: &'a Reader<'a>,
    path: String,
    place: Place,
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
            records: Records::default(),
            exploring: None,
        }
    }

    /// The same reader, which notes what it is asked.
    pub(crate) fn recording(self) -> Self {
        Self {
            records: Records::kept(),
            ..self
        }
    }

    /// A reader without a file that is asked everything which any file could lead to: tables and lists are
    /// there, choices are another one in each `pass`, other values are absent. What is asked is noted in
    /// `records`, which go from pass to pass; mistakes are of no interest.
    pub(crate) fn exploring(pass: usize, records: Records) -> Self {
        Self {
            directory: PathBuf::new(),
            environment: &|_| None,
            foreign: false,
            errors: RefCell::default(),
            records,
            exploring: Some(pass),
        }
    }

    /// What was asked.
    pub(crate) fn into_records(self) -> Records {
        self.records
    }

    /// A reader for a text that another system sent: `{env: NAME}` and `{file: PATH}` are mistakes.
    pub(crate) fn foreign() -> Self {
        Self {
            directory: PathBuf::new(),
            environment: &|_| None,
            foreign: true,
            errors: RefCell::default(),
            records: Records::default(),
            exploring: None,
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
            place: ROOT,
            node,
        }
        .table(known)
    }

    /// `value` if nothing was wrong, else every mistake.
    pub(crate) fn finish<T>(self, value: Option<T>, file: &Path) -> Result<T, ConfigErrors> {
        self.finish_recorded(value, file).map(|(value, _)| value)
    }

    /// The same, and what was asked.
    pub(crate) fn finish_recorded<T>(
        self,
        value: Option<T>,
        file: &Path,
    ) -> Result<(T, Vec<Record>), ConfigErrors> {
        let mut errors = self.errors.into_inner();
        match value {
            Some(value) if errors.is_empty() => Ok((value, self.records.into_inner())),
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
        let place = self.table_place(known);
        let entries = self.entries("a table of keys")?;
        let mut table = Table {
            reader: self.reader,
            path: self.path.clone(),
            place,
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

    /// Notes that this is a table of these keys; where they are.
    fn table_place(&self, known: &[&str]) -> Place {
        let records = &self.reader.records;
        let pass = self.reader.exploring.unwrap_or_default();
        let place = self.place;
        records.kind(place, Kind::Table { one_of: false });
        records.note(place, |record| {
            for key in known {
                if !record.keys.iter().any(|noted| noted == key) {
                    record.keys.push((*key).to_owned());
                }
            }
            record.seen.insert(pass);
        });
        place
    }

    /// The choice at `key` of a mapping, and the mapping as what it is by this choice.
    pub(crate) fn tagged<T: Copy>(
        &self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<(T, Self)> {
        let chosen = self.tag(key, words);
        let records = &self.reader.records;
        let (word, value) = if let Some(pass) = self.reader.exploring {
            *words.get(pass % words.len())?
        } else {
            let chosen = chosen?;
            let given = self.peek_key(key);
            let known = words.iter().find(|(word, _)| Some(*word) == given);
            // By way of `{env: NAME}` the word is not in the file; any of the same meaning will do.
            (known.map_or(words[0].0, |(word, _)| word), chosen)
        };
        let place = records.go(self.place, Way::Variant(key, word));
        let at = records.go(place, Way::Key(key.to_owned()));
        records.note(at, |record| {
            record.value = Some(Node::String(word.to_owned()));
        });
        let item = Self {
            reader: self.reader,
            path: self.path.clone(),
            place,
            node: self.node,
        };
        Some((value, item))
    }

    /// The string at `key` of a mapping in the text itself.
    fn peek_key(&self, key: &str) -> Option<&'a str> {
        let Node::Mapping(entries) = self.node else {
            return None;
        };
        entries
            .iter()
            .find_map(|(name, value)| match (name, value) {
                (Node::String(name), Node::String(value)) if name == key => Some(value.as_str()),
                _ => None,
            })
    }

    fn tag<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
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
        let scratch = self.reader.records.go(self.place, Way::Variant(key, ""));
        Table {
            reader: self.reader,
            path: self.path.clone(),
            place: scratch,
            entries,
        }
        .required_choice(key, words)
    }

    /// Notes which words a string may be; whoever reads it sees to that.
    pub(crate) fn words<'w>(&self, words: impl IntoIterator<Item = &'w str>) {
        let records = &self.reader.records;
        records.kind(self.place, Kind::Words);
        records.note(self.place, |record| {
            for word in words {
                if !record.words.iter().any(|known| known == word) {
                    record.words.push(word.to_owned());
                }
            }
        });
    }

    /// The item as a string that is not empty.
    pub(crate) fn text(&self, expected: &str) -> Option<Text> {
        self.note_text(Kind::Text { empty: false }, expected);
        let text = self.any_text(expected)?;
        if text.value.is_empty() {
            self.error(format!("empty: expected {expected}"));
            return None;
        }
        Some(text)
    }

    /// The item as a secret that is not empty. Errors never repeat it.
    pub(crate) fn secret(&self) -> Option<Secret> {
        let expected = "a secret, {env: NAME} or {file: PATH}";
        self.note_text(Kind::Secret, expected);
        if self.reader.exploring.is_some() {
            return None;
        }
        let text = self.any_text(expected)?;
        if text.value.is_empty() {
            self.error(format!("empty: expected {expected}"));
            return None;
        }
        Some(Secret::new(text.value))
    }

    /// Notes a string and, unless it is a secret, its value as it stands in the file.
    fn note_text(&self, kind: Kind, expected: &str) {
        let secret = kind == Kind::Secret;
        self.reader.records.kind(self.place, kind);
        let value = match self.node {
            Node::String(_) if secret => Some(Node::String(MASK.to_owned())),
            Node::Mapping(_) => Some(self.reference()),
            Node::String(_) => Some(self.node.clone()),
            _ => None,
        };
        self.reader.records.note(self.place, |record| {
            record.expected.get_or_insert_with(|| expected.to_owned());
            record.value = value;
        });
    }

    /// `{env: NAME}` or `{file: PATH}`, with a path that does not depend on where the text lies.
    fn reference(&self) -> Node {
        let Node::Mapping(entries) = self.node else {
            return Node::Null;
        };
        let whole = |(key, value): &(Node, Node)| match (key, value) {
            (Node::String(name), Node::String(path)) if name == "file" => {
                let path = self.reader.directory.join(path);
                (key.clone(), Node::String(path.display().to_string()))
            }
            _ => (key.clone(), value.clone()),
        };
        Node::Mapping(entries.iter().map(whole).collect())
    }

    /// Whether the item is a mapping that has none of `keys`.
    pub(crate) fn is_table_without(&self, keys: &[&str]) -> bool {
        if let Some(pass) = self.reader.exploring {
            return pass % 2 == 1;
        }
        let Node::Mapping(entries) = self.node else {
            return false;
        };
        !entries
            .iter()
            .any(|(key, _)| matches!(key, Node::String(key) if keys.contains(&key.as_str())))
    }

    /// Notes the node as the value that counts.
    fn note_value(&self) {
        let value = Some(self.node.clone());
        self.reader
            .records
            .note(self.place, |record| record.value = value);
    }

    fn integer<T>(&self, range: &RangeInclusive<T>) -> Option<T>
    where
        T: Copy + PartialOrd + TryFrom<i128> + std::fmt::Display,
    {
        let value = match self.node {
            Node::Integer(value) => T::try_from(*value)
                .ok()
                .filter(|value| range.contains(value)),
            _ => None,
        };
        if value.is_some() {
            self.note_value();
            return value;
        }
        let (least, most) = (range.start(), range.end());
        let found = describe(self.node);
        self.error(format!(
            "expected a whole number from {least} to {most}, found {found}"
        ));
        None
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
        let records = &self.reader.records;
        let scratch = Self {
            reader: self.reader,
            path: self.path.clone(),
            // Not a kind of the value: every string may be one.
            place: records.go(self.place, Way::Variant("", "")),
            node: self.node,
        };
        let table = scratch.table(&["env", "file"])?;
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

    /// The items of a list.
    fn list(&self, expected: &str) -> Option<Vec<Item<'a>>> {
        let records = &self.reader.records;
        records.kind(self.place, Kind::List);
        let at = |(index, node)| Item {
            reader: self.reader,
            path: format!("{}[{index}]", self.path),
            place: records.go(self.place, Way::Item(index)),
            node,
        };
        if self.reader.exploring.is_some() {
            return Some(vec![at((0, &Node::Null))]);
        }
        let Node::Sequence(nodes) = self.node else {
            let found = describe(self.node);
            self.error(format!("expected {expected}, found {found}"));
            return None;
        };
        // Those of a default are gone.
        records.note(self.place, |record| record.value = None);
        Some(nodes.iter().enumerate().map(at).collect())
    }

    /// The values of a mapping whose keys are names of the operator's choice.
    pub(crate) fn names(&self) -> Option<Vec<(&'a str, Item<'a>)>> {
        self.reader.records.kind(self.place, Kind::Names);
        if self.reader.exploring.is_some() {
            let item = Item {
                reader: self.reader,
                path: join(&self.path, EVERY),
                place: self
                    .reader
                    .records
                    .go(self.place, Way::Name(EVERY.to_owned())),
                node: &Node::Null,
            };
            return Some(vec![(EVERY, item)]);
        }
        let mut items = self.entries("a table of names")?;
        for (name, item) in &mut items {
            item.place = self
                .reader
                .records
                .go(self.place, Way::Name((*name).to_owned()));
        }
        Some(items)
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
                place: self.place,
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
        let place = self.place_of(key);
        let node = match self.reader.exploring {
            Some(_) => &Node::Null,
            None => *self.entries.get(key)?,
        };
        Some(Item {
            reader: self.reader,
            path: self.path_of(key),
            place,
            node,
        })
    }

    fn place_of(&self, key: &str) -> Place {
        self.reader.records.go(self.place, Way::Key(key.to_owned()))
    }

    /// Notes what counts where `key` is not given.
    pub(crate) fn default(&self, key: &str, default: Node) {
        let given = self.has(key);
        self.reader.records.note(self.place_of(key), |record| {
            if !given {
                record.value = Some(default.clone());
            }
            record.default = Some(default);
        });
    }

    /// Which of these words the exploration looks at now; `None` where there is a file.
    pub(crate) fn explored<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let pass = self.reader.exploring?;
        // A build without any service of OpenDAL has no words.
        let turn = (pass / 2).checked_rem(words.len())?;
        words.get(turn).map(|(_, value)| *value)
    }

    /// The only key that is given of those that the table may hold.
    pub(crate) fn only_one(&self, keys: &[&'static str]) -> Option<&'static str> {
        self.reader.records.note(self.place, |record| {
            record
                .kinds
                .retain(|kind| !matches!(kind, Kind::Table { .. }));
            record.kinds.push(Kind::Table { one_of: true });
        });
        if let Some(pass) = self.reader.exploring {
            return keys.get(pass / 2 % keys.len()).copied();
        }
        let mut given = keys.iter().filter(|key| self.has(key));
        let only = given.next().copied();
        only.filter(|_| given.next().is_none())
    }

    /// The value of `key`; its absence is a mistake.
    pub(crate) fn required(&self, key: &str, expected: &str) -> Option<Item<'a>> {
        let pass = self.reader.exploring.unwrap_or_default();
        self.reader.records.note(self.place_of(key), |record| {
            record.demanded.insert(pass);
        });
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

    /// The table at `key`, an empty one if it is not given.
    pub(crate) fn section(&self, key: &str, known: &[&str]) -> Option<Table<'a>> {
        let item = self.item(key).unwrap_or_else(|| Item {
            reader: self.reader,
            path: self.path_of(key),
            place: self.place_of(key),
            node: &Node::Null,
        });
        item.table(known)
    }

    /// The items of the list at `key`; none if it is not given.
    pub(crate) fn optional_list(&self, key: &str, expected: &str) -> Option<Vec<Item<'a>>> {
        self.items(key, expected).map(Option::unwrap_or_default)
    }

    /// The items of the list at `key`, if it is given.
    #[allow(clippy::option_option, reason = "as below")]
    pub(crate) fn items(&self, key: &str, expected: &str) -> Option<Option<Vec<Item<'a>>>> {
        match self.item(key) {
            Some(item) => item.list(expected).map(Some),
            None => Some(None),
        }
    }

    /// The items of the list at `key`, which must be given.
    pub(crate) fn list(&self, key: &str, expected: &str) -> Option<Vec<Item<'a>>> {
        self.required(key, expected)?.list(expected)
    }

    /// The string at `key`, which must be given and not empty.
    pub(crate) fn text(&self, key: &str, expected: &str) -> Option<Text> {
        let given = self.required(key, expected).is_some();
        let text = self.optional_text(key, expected)?;
        text.filter(|_| given)
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
        self.note_integer(key, &range);
        match self.item(key).filter(|_| self.reader.exploring.is_none()) {
            Some(item) => item.integer(&range).map(Some),
            None => Some(None),
        }
    }

    /// The string at `key`. The outer `None` is a mistake, the inner one its absence.
    #[allow(
        clippy::option_option,
        reason = "a mistake and an absence are different things"
    )]
    pub(crate) fn optional_text(&self, key: &str, expected: &str) -> Option<Option<Text>> {
        let kind = Kind::Text { empty: false };
        let Some(text) = self.text_of(key, kind, expected)? else {
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
        self.text_of(key, Kind::Text { empty: true }, expected)
    }

    #[allow(clippy::option_option, reason = "as above")]
    fn text_of(&self, key: &str, kind: Kind, expected: &str) -> Option<Option<Text>> {
        let Some(item) = self.item(key) else {
            return Some(None);
        };
        item.note_text(kind, expected);
        if self.reader.exploring.is_some() {
            return Some(None);
        }
        item.any_text(expected).map(Some)
    }

    /// The secret at `key`, if given. Errors never repeat it.
    #[allow(clippy::option_option, reason = "as above")]
    pub(crate) fn secret(&self, key: &str) -> Option<Option<Secret>> {
        let expected = "a secret, {env: NAME} or {file: PATH}";
        let text = self.text_of(key, Kind::Secret, expected)?;
        if text.as_ref().is_some_and(|text| text.value.is_empty()) {
            self.error(key, format!("empty: expected {expected}"));
            return None;
        }
        Some(text.map(|text| Secret::new(text.value)))
    }

    /// The string at `key`, which must be given; it may hold a secret and is shown to nobody.
    pub(crate) fn secret_text(&self, key: &str, expected: &str) -> Option<Text> {
        self.required(key, expected)?;
        self.text_of(key, Kind::Secret, expected)?
    }

    /// The path at `key`, which must be given; relative ones start from the file's directory.
    pub(crate) fn file(&self, key: &str, expected: &str) -> Option<PathBuf> {
        let text = self.text(key, expected)?;
        Some(self.whole(key, &text))
    }

    /// The path at `key`, if given.
    #[allow(clippy::option_option, reason = "as above")]
    pub(crate) fn optional_file(&self, key: &str, expected: &str) -> Option<Option<PathBuf>> {
        let text = self.optional_text(key, expected)?;
        Some(text.map(|text| self.whole(key, &text)))
    }

    /// A path that does not depend on where the file lies.
    fn whole(&self, key: &str, text: &Text) -> PathBuf {
        let path = self.reader.directory.join(&text.value);
        self.reader.records.note(self.place_of(key), |record| {
            if matches!(record.value, Some(Node::String(_))) {
                record.value = Some(Node::String(path.display().to_string()));
            }
        });
        path
    }

    /// The choice at `key` among words, `default` if it is not given.
    pub(crate) fn choice_or<T: Copy + PartialEq>(
        &self,
        key: &str,
        words: &[(&str, T)],
        default: T,
    ) -> Option<T> {
        let named = words.iter().find(|(_, value)| *value == default);
        if let Some((word, _)) = named {
            self.default(key, Node::String((*word).to_owned()));
        }
        Some(self.choice(key, words)?.unwrap_or(default))
    }

    /// The choice at `key` among words, if given.
    #[allow(clippy::option_option, reason = "as above")]
    pub(crate) fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<Option<T>> {
        let list = words
            .iter()
            .map(|(word, _)| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(" or ");
        if let Some(item) = self.item(key) {
            item.words(words.iter().map(|(word, _)| *word));
        }
        if let Some(value) = self.explored(words) {
            return Some(Some(value));
        }
        let Some(item) = self.item(key) else {
            return Some(None);
        };
        item.note_text(Kind::Words, &list);
        let text = item.any_text(&list)?;
        let found = words.iter().find(|(word, _)| *word == text.value);
        if let Some((_, value)) = found {
            return Some(Some(*value));
        }
        if text.value.is_empty() {
            self.error(key, format!("empty: expected {list}"));
            return None;
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
        self.default(key, Node::Boolean(default));
        self.reader.records.kind(self.place_of(key), Kind::Boolean);
        let Some(item) = self.item(key).filter(|_| self.reader.exploring.is_none()) else {
            return Some(default);
        };
        if let Node::Boolean(value) = item.node {
            item.note_value();
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
        self.note_integer(key, &range);
        if let Ok(default) = default.to_string().parse() {
            self.default(key, Node::Integer(default));
        }
        match self.item(key).filter(|_| self.reader.exploring.is_none()) {
            Some(item) => item.integer(&range),
            None => Some(default),
        }
    }

    fn note_integer<T: std::fmt::Display>(&self, key: &str, range: &RangeInclusive<T>) {
        let bound = |value: &T| value.to_string().parse().unwrap_or_default();
        let (least, most) = (bound(range.start()), bound(range.end()));
        let kind = Kind::Integer { least, most };
        self.reader.records.kind(self.place_of(key), kind);
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
    pub(crate) fn bare_integer(&self, key: &str, range: &RangeInclusive<i128>) -> Option<i128> {
        self.note_integer(key, range);
        match self.entries.get(key) {
            Some(Node::Integer(value)) => {
                let value = *value;
                self.reader.records.note(self.place_of(key), |record| {
                    record.value = Some(Node::Integer(value));
                });
                Some(value)
            }
            _ => None,
        }
    }

    /// A list at `key`, or one word in its place; `true` for the word.
    pub(crate) fn is_word(&self, key: &str, word: &str) -> bool {
        if let Some(item) = self.item(key) {
            item.words([word]);
        }
        let is_word = self.peek(key) == Some(word);
        if is_word {
            self.reader.records.note(self.place_of(key), |record| {
                record.value = Some(Node::String(word.to_owned()));
            });
        }
        is_word
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
