//! What the server writes besides uploads (audit trail, spool, bans), and whom its receivers are believed by.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

use rand::random;

use super::report::Report;
use crate::{config::Config, observe::authorities};

/// Whether the authorities of webhooks and of the collector can be read.
pub(super) fn look(config: &Config, report: &mut Report) {
    let webhooks = config.events.iter().flat_map(|events| &events.webhooks);
    let webhooks = webhooks.map(|hook| (format!("events.webhooks.{}", hook.name), &hook.ca_file));
    let collector = config.otlp.iter();
    let collector = collector.map(|otlp| ("telemetry.otlp".to_owned(), &otlp.ca_file));
    for (key, file) in webhooks.chain(collector) {
        let Some(file) = file else { continue };
        if let Err(error) = authorities::read(file) {
            let file = file.display();
            report.mistake("certificates", format!("{key}.ca_file {file}: {error}"));
        }
    }
}

/// Whether files and directories can be written here; nothing is left behind.
pub(super) fn try_all(config: &Config, report: &mut Report) {
    let audit = config.audit.as_ref();
    let audit = audit.and_then(|audit| Some(&audit.file.as_ref()?.path));
    let state = config.bans.state_file.as_ref();
    for (key, file) in [("audit.file", audit), ("bans.state_file", state)] {
        let Some(file) = file else { continue };
        tell(key, file, try_file(file), report);
    }
    if let Some(events) = &config.events {
        tell(
            "events.spool",
            &events.spool,
            try_directory(&events.spool),
            report,
        );
    }
}

fn tell(key: &str, path: &Path, tried: io::Result<()>, report: &mut Report) {
    if let Err(error) = tried {
        let path = path.display();
        report.problem("files", format!("{key} {path} cannot be written: {error}"));
    }
}

/// The file itself, where it is there, and its directory: it is replaced or rotated.
fn try_file(file: &Path) -> io::Result<()> {
    if fs::metadata(file).is_ok() {
        OpenOptions::new().append(true).open(file)?;
    }
    let parent = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    try_in(parent.unwrap_or(Path::new(".")))
}

/// The directory, or what it would be made in.
fn try_directory(directory: &Path) -> io::Result<()> {
    let there = directory
        .ancestors()
        .find(|path| fs::metadata(path).is_ok());
    try_in(there.unwrap_or(directory))
}

fn try_in(directory: &Path) -> io::Result<()> {
    let probe = directory.join(format!(".causeway-check.{:016x}", random::<u64>()));
    File::create_new(&probe)?;
    fs::remove_file(&probe)
}
