//! Every backend, tried: rights, conditions, and what its own settings lack.

use std::collections::BTreeMap;

use super::{
    super::Failure,
    report::{Report, Severity},
};
use crate::{
    config::{Backend, Config},
    store::{self, probe::Place},
};

/// More prefixes than these of one backend tell nothing new.
const PLACES: usize = 8;

/// Tries the backends: local directories always, everything behind a network where `online`.
pub(super) fn try_all(config: &Config, online: bool, report: &mut Report) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for (name, backend) in &config.backends {
        let (local, severity, what) = match backend {
            // A missing directory is a slip in the file.
            Backend::Fs(fs) => {
                let what = format!("backends.{name}.root {}", fs.root.display());
                (true, Severity::Mistake, what)
            }
            _ => (false, Severity::Problem, format!("backend {name}")),
        };
        if !local && !online {
            continue;
        }
        let mut places = places(config, name);
        if local {
            // One directory has one owner.
            let writes = places.iter().any(|place| place.writes);
            places = vec![Place {
                prefix: String::new(),
                writes,
            }];
        }
        let resume = config.uploads.resume;
        let mut tell = |step| report.step(name, &what, severity, step);
        let probed = store::probe::probe(backend, &config.timeouts, &places, resume, &mut tell);
        if let Err(error) = runtime.block_on(probed) {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let cause = cause.unwrap_or_else(|| error.to_string());
            report.mistake(
                "store",
                format!("backends.{name} cannot be opened: {cause}"),
            );
        } else if !local {
            let advice = async {
                let store = store::open(name, backend, &config.timeouts, None, None)?;
                store.advice().await
            };
            // What a probe could not reach has been said already.
            for advice in runtime.block_on(advice).unwrap_or_default() {
                report.warn("store", format!("backend {name}: {advice}"));
            }
        }
    }
    Ok(())
}

/// Where the mounts of the configuration put things in a backend. Templates are left open: rights end at
/// prefixes that are the same for everybody.
fn places(config: &Config, backend: &str) -> Vec<Place> {
    let mut places = BTreeMap::<String, bool>::new();
    for mount in config
        .mounts
        .iter()
        .filter(|mount| &*mount.backend == backend)
    {
        let whole = mount.prefix.split('/').filter(|part| !part.is_empty());
        let same: Vec<&str> = whole.take_while(|part| !part.contains('{')).collect();
        *places.entry(same.join("/")).or_default() |= !mount.read_only;
    }
    if places.is_empty() {
        // Mounts of users and groups may lead here.
        places.insert(String::new(), true);
    }
    let place = |(prefix, writes)| Place { prefix, writes };
    places.into_iter().map(place).take(PLACES).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn places_are_what_all_users_have_in_common() {
        let text = r#"
listeners: [{name: a, address: "127.0.0.1:0", mode: explicit}]
tls: {certificate_file: c.pem, key_file: k.pem}
users: {file: users.yaml}
backends: {disk: {type: fs, root: data}, other: {type: memory}}
mounts:
- {path: /, backend: disk}
- {path: /in, backend: disk, prefix: "devices/{user}/in"}
- {path: /out, backend: disk, prefix: "devices/{attribute.site}", read_only: true}
- {path: /patches, backend: disk, prefix: patches, read_only: true}
"#;
        let config = Config::parse(text, Path::new("/c.yaml"), &|_| None).unwrap();
        let place = |prefix: &str, writes| Place {
            prefix: prefix.to_owned(),
            writes,
        };
        assert_eq!(
            places(&config, "disk"),
            [
                place("", true),
                place("devices", true),
                place("patches", false)
            ]
        );
        assert_eq!(places(&config, "other"), [place("", true)]);
    }
}
