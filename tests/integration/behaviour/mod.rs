//! One suite of behaviours over every backend, on real stand-ins: O1–O30 and S46–S49 of the
//! conformance list, and what else a client does with files.
//!
//! A row is one behaviour, a column one backend. A cell is `yes`, or `refused: …` where the server
//! refused in words and changed nothing; which refusals are due is written down here, so that a new one
//! fails as a lost one does. The table stands in `docs/storage.md`, which each column compares with
//! itself; `./tests/behaviour --write-docs` writes it.

mod directories;
mod files;
mod hostile;
mod place;
mod refusing;
mod uploads;

use std::{
    env,
    fmt::Write as _,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use serde_json::json;

pub(crate) use self::place::{Bench, Place};
use crate::{
    check::{Checked, outcomes, refused},
    harness::Reply,
};

/// What a behaviour came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// As the list demands.
    Yes,
    /// Refused with this text, and nothing was changed.
    Refused(String),
    /// There is no such thing on this backend.
    Absent(&'static str),
}

impl Cell {
    /// A refusal as it must be: permanent, in words, before any data.
    #[track_caller]
    fn refused(reply: &Reply) -> Self {
        assert!(
            [502, 504, 550, 552, 553].contains(&reply.code),
            "no refusal: {reply}"
        );
        Self::Refused(format!("{} {}", reply.code, &reply.text()[4..]))
    }

    fn text(&self) -> String {
        match self {
            Self::Yes => "yes".to_owned(),
            Self::Refused(text) => format!("refused: {text}"),
            Self::Absent(why) => format!("none: {why}"),
        }
    }
}

/// One behaviour.
pub(crate) struct Row {
    id: &'static str,
    what: &'static str,
    run: fn(&mut Bench<'_>) -> Cell,
}

/// Defines the rows of a file.
macro_rules! rows {
    ($($row:ident: $what:literal,)+) => {
        pub(super) const ROWS: &[super::Row] = &[$(
            super::Row { id: stringify!($row), what: $what, run: $row },
        )+];
    };
}
use rows;

fn all_rows() -> impl Iterator<Item = &'static Row> {
    [files::ROWS, uploads::ROWS, directories::ROWS, hostile::ROWS]
        .into_iter()
        .flatten()
}

const CANNOT: &str = "553 Not possible on this storage";
const NO_TIMES: &str = "550 This storage keeps no times";
const NO_SPACE: &str = "550 This storage does not say";

/// Every refusal there is: the rows, the places, the words.
const REFUSALS: &[(&[&str], &[&str], &str)] = &[
    (
        &["o3_rename_a_directory"],
        &["s3-ceph", "s3-moto", "gcs", "azblob"],
        CANNOT,
    ),
    (
        &[
            "o1_rename",
            "o2_rename_onto_a_file",
            "o3_rename_a_directory",
            "o28_after_a_rename",
            "o19_append",
            "o20_restart_an_upload",
        ],
        &["gcs-unftp"],
        CANNOT,
    ),
    (
        &["o5_set_time"],
        &["s3-ceph", "s3-moto", "gcs", "gcs-unftp", "azblob"],
        NO_TIMES,
    ),
    (
        &["avbl"],
        &["s3-ceph", "s3-moto", "gcs", "gcs-unftp", "azblob"],
        NO_SPACE,
    ),
];

fn expected(row: &str, place: &str) -> Option<&'static str> {
    REFUSALS
        .iter()
        .find(|(rows, places, _)| rows.contains(&row) && places.contains(&place))
        .map(|(_, _, text)| *text)
}

/// Runs every row on one backend.
fn column(place: Place) {
    let store = place.store();
    let server = Place::server(&store);
    let mut cells = Vec::new();
    let mut wrong = Vec::new();
    for row in all_rows() {
        let run = || (row.run)(&mut Bench::new(place, &store, &server, row.id));
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(cell) => {
                let due = expected(row.id, place.name());
                if let Cell::Refused(text) = &cell
                    && due != Some(text.as_str())
                {
                    wrong.push(format!("{}: refused ({text}), due was {due:?}", row.id));
                }
                if cell == Cell::Yes && due.is_some() {
                    wrong.push(format!("{}: done, though {due:?} was due", row.id));
                }
                cells.push((row, cell.text()));
            }
            Err(panic) => {
                let why = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied());
                wrong.push(format!("{}: {}", row.id, why.unwrap_or("panic")));
                cells.push((row, "WRONG".to_owned()));
            }
        }
    }
    for (row, cell) in &cells {
        println!("{:10} {:32} {cell}", place.name(), row.id);
    }
    assert!(wrong.is_empty(), "{}:\n{}", place.name(), wrong.join("\n"));
    if let Ok(directory) = env::var("CAUSEWAY_BEHAVIOUR_DIR") {
        let mut lines = String::new();
        for (row, cell) in &cells {
            writeln!(lines, "{}\t{}\t{cell}", row.id, row.what).unwrap();
        }
        fs::write(Path::new(&directory).join(place.name()), lines).unwrap();
        return;
    }
    let documented = documented(place.name());
    for (row, cell) in &cells {
        let found = documented.iter().find(|(id, _)| id == row.id);
        assert_eq!(
            found.map(|(_, cell)| cell),
            Some(cell),
            "{} of {} in docs/storage.md: run ./tests/behaviour --write-docs",
            row.id,
            place.name()
        );
    }
}

/// The column of a backend in the documentation: row and cell.
fn documented(place: &str) -> Vec<(String, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/storage.md");
    let text = fs::read_to_string(file).unwrap();
    let table = text
        .split("<!-- behaviour -->")
        .nth(1)
        .expect("the table between two comments `behaviour`");
    let mut rows = table
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(str::trim)
                .collect::<Vec<_>>()
        });
    let header = rows.next().expect("a header");
    let column = header
        .iter()
        .position(|name| *name == place)
        .unwrap_or_else(|| panic!("a column {place}"));
    rows.filter(|cells| cells.len() > column)
        .map(|cells| (cells[0].to_owned(), cells[column].to_owned()))
        .collect()
}

/// The table's rows are the list's items: none is missing.
#[test]
fn every_item_of_the_list_has_one_row() {
    for id in (1..=30)
        .map(|n| format!("o{n}_"))
        .chain((46..=49).map(|n| format!("s{n}_")))
    {
        let found = all_rows().filter(|row| row.id.starts_with(&id)).count();
        assert_eq!(found, 1, "rows of {id}");
    }
    for (rows, places, _) in REFUSALS {
        for row in *rows {
            assert!(all_rows().any(|known| known.id == *row), "no row {row}");
        }
        for place in *places {
            assert!(
                Place::ALL.iter().any(|known| known.name() == *place),
                "no place {place}"
            );
        }
    }
}

#[test]
fn fs() {
    column(Place::Fs);
}

/// `causeway check` finds each stand-in good and leaves nothing there; in front of one that refuses every
/// change it names what is missing as the provider does.
#[test]
#[ignore = "needs the stand-ins: run by ./tests/behaviour"]
fn check_tries_every_stand_in() {
    const AZURE: &str =
        "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write (SAS: c and w)";
    for (place, step, missing) in [
        (Place::S3Moto, "PutObject", "s3:PutObject"),
        (Place::Gcs, "write", "storage.objects.create"),
        (Place::GcsUnftp, "write", "storage.objects.create"),
        (Place::Azblob, "write", AZURE),
    ] {
        let store = place.store();
        let mut backend = store.backend();
        if place == Place::S3Moto {
            // Every condition is tried, and obeyed. The SDK cannot read moto's list of parts.
            backend["provider"] = json!("aws");
        }
        let (code, report) = Checked::new(backend.clone()).without_resume().run(&[]);
        assert_eq!(code, Some(0), "{}: {report:#}", place.name());
        let bad = outcomes(&report)
            .into_iter()
            .find(|(_, outcome)| !["done", "left_out"].contains(&outcome.as_str()));
        assert_eq!(bad, None, "{}", place.name());
        assert!(
            store.files().is_empty(),
            "{}: {:?}",
            place.name(),
            store.files()
        );
        assert!(store.open_uploads().is_empty(), "{}", place.name());

        let endpoint = store.endpoint();
        let rest = endpoint.trim_start_matches("http://");
        let (host, path) = rest
            .split_once('/')
            .map_or((rest, String::new()), |(host, path)| {
                (host, format!("/{path}"))
            });
        let proxy = refusing::start(host.to_owned(), "403 Forbidden");
        backend["endpoint"] = json!(format!("http://{proxy}{path}"));
        let (code, report) = Checked::new(backend).without_resume().run(&[]);
        assert_eq!(code, Some(1), "{}: {report:#}", place.name());
        let expected = (step.to_owned(), vec![missing.to_owned()]);
        assert!(
            refused(&report).contains(&expected),
            "{}: {report:#}",
            place.name()
        );
    }
}

#[test]
#[ignore = "minutes, and needs the stand-ins: run by ./tests/behaviour"]
fn s3_ceph() {
    column(Place::S3Ceph);
}

#[test]
#[ignore = "minutes, and needs the stand-ins: run by ./tests/behaviour"]
fn s3_moto() {
    column(Place::S3Moto);
}

#[test]
#[ignore = "minutes, and needs the stand-ins: run by ./tests/behaviour"]
fn gcs() {
    column(Place::Gcs);
}

#[test]
#[ignore = "minutes, and needs the stand-ins: run by ./tests/behaviour"]
fn gcs_unftp() {
    column(Place::GcsUnftp);
}

#[test]
#[ignore = "minutes, and needs the stand-ins: run by ./tests/behaviour"]
fn azblob() {
    column(Place::Azblob);
}

#[test]
fn memory() {
    column(Place::Memory);
}
