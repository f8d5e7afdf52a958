//! Templates in homes and prefixes: `{home}`, `{user}`, `{certificate}`, `{attribute.NAME}`.

use super::{Account, path::check_segment};

/// What stands behind `attribute.` in a template.
const ATTRIBUTE: &str = "attribute.";

/// Whether `template` is a relative path with known templates and no segment that could become `.` or
/// `..`. `{home}` is known where `with_home` says so.
///
/// # Errors
/// What is wrong with it.
pub fn check(template: &str, with_home: bool) -> Result<(), String> {
    let mut plain = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        plain.push_str(before);
        let name = after.split_once('}').map(|(name, _)| name);
        let known = match name {
            Some("home") => with_home,
            Some("user" | "certificate") => true,
            Some(name) => name.strip_prefix(ATTRIBUTE).is_some_and(is_attribute_name),
            None => false,
        };
        let Some((_, behind)) = after.split_once('}').filter(|_| known) else {
            let home = if with_home { "{home}, " } else { "" };
            return Err(format!(
                "the templates are {home}{{user}}, {{certificate}} and {{attribute.NAME}}"
            ));
        };
        rest = behind;
    }
    plain.push_str(rest);
    if plain.contains('}') {
        return Err("a `}` without its `{`".to_owned());
    }
    // A home may be empty: `.{home}` would then be the segment `.`.
    if plain
        .split('/')
        .any(|segment| matches!(segment, "." | ".."))
    {
        return Err("a segment of dots and a template may become `.` or `..`".to_owned());
    }
    Ok(())
}

/// Whether `home` is a relative path, perhaps with templates; the empty one is the mount's own
/// directory.
///
/// # Errors
/// What is wrong with it.
pub fn check_home(home: &str) -> Result<(), String> {
    if home.is_empty() {
        return Ok(());
    }
    if home.starts_with('/') {
        let problem = "expected a relative path: the mount's prefix decides where it starts";
        return Err(problem.to_owned());
    }
    if home.chars().any(char::is_control) {
        return Err("a home has no control character".to_owned());
    }
    if home
        .split('/')
        .any(|segment| matches!(segment, "" | "." | ".."))
    {
        return Err("a home has no empty, `.` or `..` segment".to_owned());
    }
    check(home, false)
}

/// Whether a name may stand in `{attribute.NAME}`.
pub(super) fn is_attribute_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    !name.is_empty() && name.chars().all(word)
}

/// Replaces all templates of a mount's prefix in one pass, so that a name like `{home}` is not
/// expanded again. `None` when the outcome could leave the place the template meant.
pub(super) fn expand_prefix(prefix: &str, account: &Account) -> Option<String> {
    let expanded = expand(prefix, &|name| {
        if name == "home" {
            Value::Path(expand(&account.home, &|name| one(name, account)))
        } else {
            one(name, account)
        }
    })?;
    let safe = segments(&expanded).all(|segment| check_segment(segment).is_ok());
    safe.then(|| segments(&expanded).collect::<Vec<_>>().join("/"))
}

/// The segments of a prefix or key.
pub(super) fn segments(prefix: &str) -> impl Iterator<Item = &str> {
    prefix.split('/').filter(|segment| !segment.is_empty())
}

/// What a name in braces stands for.
enum Value {
    /// No template: the text stays.
    Literal,
    /// One segment, or a part of one; `None` if the account has no such thing.
    Segment(Option<String>),
    /// Segments; may be empty.
    Path(Option<String>),
}

fn one(name: &str, account: &Account) -> Value {
    match name {
        "user" => Value::Segment(Some(account.name.clone())),
        "certificate" => Value::Segment(account.certificate.clone()),
        _ => match name.strip_prefix(ATTRIBUTE) {
            Some(name) => Value::Segment(account.attributes.get(name).cloned()),
            None => Value::Literal,
        },
    }
}

fn expand(template: &str, value: &dyn Fn(&str) -> Value) -> Option<String> {
    let mut expanded = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        expanded.push_str(before);
        let named = after.split_once('}');
        let (text, behind) = match named.map(|(name, behind)| (value(name), behind)) {
            Some((Value::Segment(segment), behind)) => {
                let segment = segment?;
                check_segment(&segment).ok()?;
                (segment, behind)
            }
            Some((Value::Path(path), behind)) => {
                let path = path?;
                let safe = path.is_empty() || path.split('/').all(|s| check_segment(s).is_ok());
                (safe.then_some(path)?, behind)
            }
            Some((Value::Literal, _)) | None => ("{".to_owned(), after),
        };
        expanded.push_str(&text);
        rest = behind;
    }
    expanded.push_str(rest);
    Some(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_templates_pass() {
        for (template, good) in [
            ("", true),
            ("a/{home}/b", true),
            ("{user}-{certificate}/{attribute.site_1}", true),
            ("{attribute.}", false),
            ("{attribute.a b}", false),
            ("{name}", false),
            ("{user", false),
            ("user}", false),
            (".{home}", false),
            ("a/..{user}", false),
            ("{{user}}", false),
        ] {
            assert_eq!(check(template, true).is_ok(), good, "{template}");
        }
        assert!(check("{home}", false).is_err());
        for (home, good) in [
            ("", true),
            ("a/{user}", true),
            ("/a", false),
            ("a//b", false),
        ] {
            assert_eq!(check_home(home).is_ok(), good, "{home}");
        }
    }

    #[test]
    fn values_come_from_the_account_or_nothing_does() {
        let mut account = Account::new("bob");
        account.home = "sites/{attribute.site}/{user}".to_owned();
        assert_eq!(expand_prefix("{home}", &account), None);
        account
            .attributes
            .insert("site".to_owned(), "bonn".to_owned());
        for (prefix, expected) in [
            ("{home}", Some("sites/bonn/bob")),
            ("x/{home}/y", Some("x/sites/bonn/bob/y")),
            ("{attribute.site}-{user}", Some("bonn-bob")),
            ("{certificate}", None),
            ("{attribute.other}", None),
        ] {
            assert_eq!(
                expand_prefix(prefix, &account).as_deref(),
                expected,
                "{prefix}"
            );
        }
        account.certificate = Some("plc7".to_owned());
        assert_eq!(
            expand_prefix("{certificate}", &account).as_deref(),
            Some("plc7")
        );
        for evil in ["..", "a/b", "", "a\nb"] {
            account
                .attributes
                .insert("site".to_owned(), evil.to_owned());
            assert_eq!(expand_prefix("{home}", &account), None, "{evil:?}");
        }
        // What comes from outside is not expanded again.
        account
            .attributes
            .insert("site".to_owned(), "{certificate}".to_owned());
        let expanded = expand_prefix("{attribute.site}", &account);
        assert_eq!(expanded.as_deref(), Some("{certificate}"));
    }
}
