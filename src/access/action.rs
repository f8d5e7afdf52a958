//! [`Action`]: what can be done with a path, and [`Actions`], a set of them.

use std::fmt;

/// What a command wants to do with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// See that it is there: LIST, NLST, MLSD, MLST, SIZE, MDTM.
    List,
    /// RETR, HASH and its kin.
    Read,
    /// STOR of a new name.
    Write,
    /// STOR or RNTO over an existing name.
    Overwrite,
    /// APPE, REST+STOR.
    Append,
    /// RNFR, RNTO.
    Rename,
    /// DELE.
    Delete,
    /// MKD.
    MakeDirectory,
    /// RMD.
    RemoveDirectory,
    /// MFMT, MFF, MDTM with a time, SITE UTIME.
    SetTime,
}

impl Action {
    /// Every action, with the word that grants use for it.
    pub const WORDS: [(&'static str, Self); 10] = [
        ("list", Self::List),
        ("read", Self::Read),
        ("write", Self::Write),
        ("overwrite", Self::Overwrite),
        ("append", Self::Append),
        ("rename", Self::Rename),
        ("delete", Self::Delete),
        ("mkdir", Self::MakeDirectory),
        ("rmdir", Self::RemoveDirectory),
        ("set-time", Self::SetTime),
    ];

    /// Whether the action can change the store.
    pub fn changes(self) -> bool {
        !matches!(self, Self::List | Self::Read)
    }

    /// The word that grants use for it.
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize].0
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// A set of actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions(u16);

impl Actions {
    /// No action.
    pub const NONE: Self = Self(0);

    /// Every action.
    pub fn all() -> Self {
        Action::WORDS.iter().map(|(_, action)| *action).collect()
    }

    /// Whether `action` is in the set.
    pub fn contains(self, action: Action) -> bool {
        self.0 & action.bit() != 0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        let join = |set, action: Action| set | action.bit();
        Self(actions.into_iter().fold(0, join))
    }
}

/// `list, read`, `all` or `nothing`.
impl fmt::Display for Actions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::all() {
            return formatter.write_str("all");
        }
        let words: Vec<_> = Action::WORDS
            .iter()
            .filter(|(_, action)| self.contains(*action))
            .map(|(word, _)| *word)
            .collect();
        if words.is_empty() {
            return formatter.write_str("nothing");
        }
        formatter.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_where_their_actions_are() {
        for (word, action) in Action::WORDS {
            assert_eq!(action.word(), word);
            let alone: Actions = [action].into_iter().collect();
            assert!(alone.contains(action) && Actions::all().contains(action));
            assert!(!Actions::NONE.contains(action));
            assert_eq!(alone.to_string(), word);
        }
        assert_eq!(Actions::all().to_string(), "all");
        assert_eq!(Actions::NONE.to_string(), "nothing");
    }
}
