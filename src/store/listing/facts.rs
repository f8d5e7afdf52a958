//! MLSD and MLST lines (RFC 3659 §7): [`Facts`] chosen by OPTS MLST, [`Permissions`], [`mlsx_line`].

use std::fmt;

use super::{Kind, timestamp::mdtm};
use crate::{
    access::{Action, Actions, StoreKey},
    store::Stat,
};

/// One fact of a line of MLSD or MLST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// `file` or `dir`; `cdir` and `pdir` are never sent.
    Type,
    /// Bytes of a file; absent for directories (H12).
    Size,
    /// Last change; absent where the store knows none.
    Modify,
    /// What this session may do with it.
    Perm,
    /// The same for the same bytes at the same place, different otherwise (I15).
    Unique,
}

impl Fact {
    /// All facts in the order in which they are announced and printed.
    pub const ALL: [Self; 5] = [
        Self::Type,
        Self::Size,
        Self::Modify,
        Self::Perm,
        Self::Unique,
    ];

    /// The fact's name, lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Size => "size",
            Self::Modify => "modify",
            Self::Perm => "perm",
            Self::Unique => "unique",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The facts that MLSD and MLST lines of one session carry; all five until OPTS MLST says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts(u8);

impl Facts {
    /// Reads the argument of OPTS MLST (RFC 3659 §7.9, F4): names ended by `;`, in any case and order.
    /// Unknown names are dropped; no name means no facts.
    pub fn parse(list: &str) -> Self {
        let named = |fact: &Fact| {
            list.split(';')
                .any(|name| name.trim().eq_ignore_ascii_case(fact.name()))
        };
        Self(
            Fact::ALL
                .into_iter()
                .filter(named)
                .fold(0, |bits, fact| bits | fact.bit()),
        )
    }

    /// No facts: lines are a space and the name.
    pub fn none() -> Self {
        Self(0)
    }

    /// Whether lines carry `fact`.
    pub fn contains(self, fact: Fact) -> bool {
        self.0 & fact.bit() != 0
    }

    /// The chosen facts in canonical order.
    pub fn iter(self) -> impl Iterator<Item = Fact> {
        Fact::ALL
            .into_iter()
            .filter(move |fact| self.contains(*fact))
    }

    /// The FEAT line: all facts, the chosen ones with a star: `MLST type*;size*;modify;` (§7.8).
    pub fn feature(self) -> String {
        Fact::ALL
            .into_iter()
            .fold("MLST ".to_owned(), |line, fact| {
                let star = if self.contains(fact) { "*" } else { "" };
                line + fact.name() + star + ";"
            })
    }
}

impl Default for Facts {
    fn default() -> Self {
        Self(
            Fact::ALL
                .into_iter()
                .fold(0, |bits, fact| bits | fact.bit()),
        )
    }
}

/// `type;size;`, as the reply to OPTS MLST repeats it; empty when there are none.
impl fmt::Display for Facts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter()
            .try_for_each(|fact| write!(formatter, "{};", fact.name()))
    }
}

/// What the `perm` fact promises for one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// What the account may do with it.
    pub actions: Actions,
    /// The entry is a mount point (or leads to one): it can be filled, not renamed or removed.
    pub fixed: bool,
}

impl Permissions {
    /// The letters of RFC 3659 §7.5.5 (H12): files of `adfrw`, directories of `cdeflmp`.
    fn letters(self, kind: Kind) -> String {
        const FILE: [(char, Action); 5] = [
            ('a', Action::Append),
            ('d', Action::Delete),
            ('f', Action::Rename),
            ('r', Action::Read),
            ('w', Action::Overwrite),
        ];
        const DIRECTORY: [(char, Action); 7] = [
            ('c', Action::Write),
            ('d', Action::RemoveDirectory),
            // What may be listed may be entered.
            ('e', Action::List),
            ('f', Action::Rename),
            ('l', Action::List),
            ('m', Action::MakeDirectory),
            ('p', Action::Delete),
        ];
        let letters = match kind {
            Kind::File => &FILE[..],
            Kind::Directory => &DIRECTORY,
        };
        let movable = |letter: char| !self.fixed || !matches!(letter, 'd' | 'f');
        letters
            .iter()
            .filter(|(letter, action)| self.actions.contains(*action) && movable(*letter))
            .map(|(letter, _)| *letter)
            .collect()
    }
}

/// One line of MLSD or MLST without indentation: `type=file;size=3;…; name` (H9, H11, H12).
///
/// `name` is the entry's name for MLSD and its full path for MLST; `key` is the entry's own key. With
/// no facts the line begins with the space.
pub fn mlsx_line(
    name: &str,
    stat: &Stat,
    key: &StoreKey,
    facts: Facts,
    permissions: Permissions,
) -> String {
    let mut line = String::new();
    for fact in facts.iter() {
        let value = match fact {
            Fact::Type => Some(match stat.kind {
                Kind::File => "file".to_owned(),
                Kind::Directory => "dir".to_owned(),
            }),
            Fact::Size => (stat.kind == Kind::File).then(|| stat.size.to_string()),
            Fact::Modify => stat.modified.map(mdtm),
            Fact::Perm => Some(permissions.letters(stat.kind)),
            Fact::Unique => Some(unique(key, stat)),
        };
        if let Some(value) = value {
            line.push_str(fact.name());
            line.push('=');
            line.push_str(&value);
            line.push(';');
        }
    }
    line.push(' ');
    line.push_str(name);
    line
}

/// The `unique` fact: backend, key and version, hashed so that it is short and tells nothing of the
/// store's layout. Must be the same in every process that serves the store, which `DefaultHasher`
/// does not promise.
fn unique(key: &StoreKey, stat: &Stat) -> String {
    let version = stat.version.as_deref().unwrap_or_default();
    // No part holds NUL, so it separates them.
    let bytes = [key.backend(), "\0", key.as_str(), "\0", version];
    // FNV-1a, 64 bits.
    let hash = bytes
        .iter()
        .flat_map(|part| part.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{hash:016x}")
}
