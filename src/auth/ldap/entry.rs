//! From an entry of the directory to a user document: pure.

use std::collections::HashMap;

use ldap3::SearchEntry;

use crate::{
    access,
    auth::{Document, document},
    config,
};

/// An entry.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) dn: String,
    /// By name in lower case: attribute descriptions have no case (RFC 4512 §2.5).
    attributes: HashMap<String, Vec<String>>,
}

impl Found {
    pub(super) fn new(entry: SearchEntry) -> Self {
        let attributes = entry.attrs.into_iter();
        Self {
            dn: entry.dn,
            attributes: attributes
                .map(|(name, values)| (name.to_ascii_lowercase(), values))
                .collect(),
        }
    }

    /// Every value of an attribute.
    pub(super) fn all(&self, attribute: &str) -> &[String] {
        let values = self.attributes.get(&attribute.to_ascii_lowercase());
        values.map_or(&[], Vec::as_slice)
    }

    fn first(&self, attribute: &str) -> Option<&String> {
        self.all(attribute).first()
    }
}

/// The attributes of a user's entry that are asked for.
pub(super) fn attributes(settings: &config::Ldap) -> Vec<&str> {
    let mut names = vec![settings.user_attribute.as_str()];
    names.extend(settings.groups.attribute.as_deref());
    names.extend(settings.home_attribute.as_deref());
    names.extend(settings.attributes.iter().map(|(_, name)| name.as_str()));
    names
}

/// The document of the user who logged in as `user` and has `found` and `groups`.
pub(super) fn document(
    settings: &config::Ldap,
    user: &str,
    found: &Found,
    groups: &[String],
) -> Result<Document, String> {
    // The directory compares names without regard to case, and we do not: ALICE must be alice here.
    let attribute = &settings.user_attribute;
    let names = found.all(attribute);
    let same = names.iter().find(|name| name.eq_ignore_ascii_case(user));
    let name = same
        .or(names.first())
        .ok_or_else(|| format!("its entry has no attribute {attribute}"))?;
    if let Some(problem) = document::name_problem(name) {
        return Err(format!("its {attribute} is no login name here: {problem}"));
    }
    let mut document = Document::new(name.clone());
    for (map_from, map_to) in &settings.groups.map {
        let is_member = groups.iter().any(|group| same_name(group, map_from));
        if is_member && !document.groups.contains(map_to) {
            document.groups.push(map_to.clone());
        }
    }
    if settings.groups.required && document.groups.is_empty() {
        return Err("it is in none of the mapped groups".to_owned());
    }
    for (name, attribute) in &settings.attributes {
        if let Some(value) = found.first(attribute) {
            let attributes = &mut document.settings.attributes;
            attributes.insert(name.clone(), value.clone());
        }
    }
    if let Some(attribute) = &settings.home_attribute {
        let home = found
            .first(attribute)
            .ok_or_else(|| format!("its entry has no attribute {attribute}"))?;
        let home = home.trim_matches('/');
        // A home from the directory is data and no template.
        let problem = if home.contains(['{', '}']) {
            Some("a home from a directory has no braces".to_owned())
        } else {
            access::check_home(home).err()
        };
        if let Some(problem) = problem {
            return Err(format!("its {attribute} is no home: {problem}"));
        }
        document.settings.home = Some(home.to_owned());
    }
    Ok(document)
}

/// Whether two names or DNs of groups are the same: case and blanks around the separators of a DN do
/// not count (RFC 4518).
fn same_name(one: &str, other: &str) -> bool {
    fn plain(name: &str) -> String {
        let parts: Vec<_> = name
            .split(',')
            .map(|part| match part.split_once('=') {
                Some((attribute, value)) => format!("{}={}", attribute.trim(), value.trim()),
                None => part.trim().to_owned(),
            })
            .collect();
        parts.join(",").to_lowercase()
    }
    plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> config::Ldap {
        config::Ldap {
            urls: vec!["ldaps://localhost".to_owned()],
            start_tls: true,
            ca_file: None,
            service: None,
            user_dn: Some("uid={user},dc=example".to_owned()),
            user_base: None,
            user_filter: "(uid={user})".to_owned(),
            user_attribute: "uid".to_owned(),
            groups: config::LdapGroups {
                attribute: Some("memberOf".to_owned()),
                map: vec![
                    (
                        "cn=Up, ou=groups,dc=example".to_owned(),
                        "uploaders".to_owned(),
                    ),
                    ("admins".to_owned(), "staff".to_owned()),
                ],
                ..config::LdapGroups::default()
            },
            attributes: vec![("site".to_owned(), "l".to_owned())],
            home_attribute: Some("homeDirectory".to_owned()),
            connections: 1,
            connect: std::time::Duration::from_secs(1),
            total: std::time::Duration::from_secs(1),
        }
    }

    fn found(values: &[(&str, &str)]) -> Found {
        let mut attributes = HashMap::<String, Vec<String>>::new();
        for (name, value) in values {
            let values = attributes.entry(name.to_ascii_lowercase()).or_default();
            values.push((*value).to_owned());
        }
        Found {
            dn: "uid=alice,dc=example".to_owned(),
            attributes,
        }
    }

    #[test]
    fn names_groups_attributes_and_home_come_from_the_entry() {
        let found = found(&[
            ("uid", "alice"),
            ("L", "berlin"),
            ("homedirectory", "/home/alice/"),
        ]);
        let groups = ["CN=up,OU=Groups,DC=example".to_owned(), "others".to_owned()];
        let document = document(&settings(), "ALICE", &found, &groups).unwrap();
        assert_eq!(document.name, "alice");
        assert_eq!(document.groups, ["uploaders"]);
        assert_eq!(document.settings.home.as_deref(), Some("home/alice"));
        assert_eq!(document.settings.attributes["site"], "berlin");
    }

    #[test]
    fn entries_that_make_no_account_are_refused() {
        for (values, reason) in [
            (&[("homeDirectory", "x")][..], "no attribute uid"),
            (&[("uid", "alice")], "no attribute homeDirectory"),
            (&[("uid", "a/b"), ("homeDirectory", "x")], "no login name"),
            (&[("uid", "alice"), ("homeDirectory", "../x")], "no home"),
            (&[("uid", "alice"), ("homeDirectory", "{user}")], "braces"),
        ] {
            let error = document(&settings(), "alice", &found(values), &[]).unwrap_err();
            assert!(error.contains(reason), "{values:?}: {error}");
        }
        let mut strict = settings();
        strict.groups.required = true;
        let found = found(&[("uid", "alice"), ("homeDirectory", "x")]);
        let error = document(&strict, "alice", &found, &["others".to_owned()]).unwrap_err();
        assert!(error.contains("none of the mapped groups"), "{error}");
        document(&strict, "alice", &found, &["ADMINS".to_owned()]).unwrap();
    }
}
