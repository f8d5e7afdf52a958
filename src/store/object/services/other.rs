//! Any other service of OpenDAL that is compiled in, by its name.

use opendal::Operator;
#[cfg(any(
    feature = "b2",
    feature = "cos",
    feature = "obs",
    feature = "oss",
    feature = "webhdfs"
))]
use opendal::services;

use super::super::super::{ErrorKind, Result, StoreError};
use crate::config::OpenDalBackend;

/// No root: [`super::super::keys`] says why.
pub(in super::super) fn other(backend: &OpenDalBackend) -> Result<Operator> {
    let options = backend
        .options
        .iter()
        .map(|(name, value)| (name.clone(), value.expose().to_owned()));
    let operator = compiled_in(&backend.scheme, options)
        .ok_or_else(|| StoreError::new(ErrorKind::Unsupported, "open"))?;
    let operator = operator.map_err(|error| StoreError::from_opendal("open", error))?;
    let can = operator.info().capability();
    let needed = [
        ("stat", can.stat),
        ("read", can.read),
        ("list", can.list),
        ("write", can.write),
        // A file is written in parts that become visible together.
        ("write_can_multi", can.write_can_multi),
        ("delete", can.delete),
        // Where directories are only names, a marker stands for an empty one.
        (
            "create_dir or write_can_empty",
            can.create_dir || can.write_can_empty,
        ),
    ];
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(_, can)| !can)
        .map(|(name, _)| *name)
        .collect();
    if !missing.is_empty() {
        let hint = match backend.scheme.as_str() {
            "webhdfs" => "; webhdfs needs the option atomic_write_dir",
            _ => "",
        };
        let problem = format!(
            "{} cannot serve files as it is configured: it lacks {}{hint}",
            backend.scheme,
            missing.join(", ")
        );
        return Err(StoreError::with_source(
            ErrorKind::Unsupported,
            "open",
            problem,
        ));
    }
    Ok(operator)
}

/// The service of this name, if this binary has it. No `match`: without features it would have one arm.
fn compiled_in(
    scheme: &str,
    options: impl Iterator<Item = (String, String)>,
) -> Option<opendal::Result<Operator>> {
    macro_rules! services {
        ($($feature:literal: $service:ident,)+) => {$(
            #[cfg(feature = $feature)]
            if scheme == $feature {
                return Some(Operator::from_iter::<services::$service>(options));
            }
        )+};
    }
    services! {
        "b2": B2,
        "cos": Cos,
        "obs": Obs,
        "oss": Oss,
        "webhdfs": Webhdfs,
    }
    let _ = scheme;
    drop(options);
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{BucketSettings, OPENDAL_SCHEMES, Secret, SetTime};

    fn open(scheme: &str, options: &[(&str, &str)]) -> Result<Operator> {
        let options = options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Secret::new(*value)))
            .collect::<BTreeMap<_, _>>();
        other(&OpenDalBackend {
            scheme: scheme.to_owned(),
            options,
            settings: BucketSettings {
                root: String::new(),
                part_bytes: 8 << 20,
                parts_in_flight: 2,
                rewrite_bytes: 0,
                set_time: SetTime::Refuse,
                ca_file: None,
            },
        })
    }

    /// Every scheme that the configuration takes is there, and takes each of its options.
    #[test]
    fn every_scheme_opens_with_all_its_options() {
        for (scheme, names) in OPENDAL_SCHEMES {
            let options: Vec<(&str, &str)> = names
                .iter()
                .map(|name| match *name {
                    "endpoint" => (*name, "https://store.example"),
                    "addressing_style" => (*name, "path"),
                    "atomic_write_dir" => (*name, "/.uploads/"),
                    "server_side_encryption" => (*name, "AES256"),
                    name => (name, "x"),
                })
                .collect();
            let operator = open(scheme, &options).unwrap_or_else(|error| {
                panic!("{scheme}: {error} {:?}", std::error::Error::source(&error))
            });
            assert_eq!(operator.info().scheme(), *scheme);
        }
    }

    #[cfg(feature = "webhdfs")]
    #[test]
    fn what_a_service_cannot_do_is_said_at_start() {
        let error = open("webhdfs", &[("endpoint", "http://127.0.0.1:9870")]).unwrap_err();
        let text = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            text.contains("write_can_multi") && text.contains("atomic_write_dir"),
            "{text}"
        );
    }
}
