//! Where users come from, and what counts with other replicas: the files of each, and whether somebody
//! answers there as a login needs it.

use std::time::SystemTime;

use super::{super::Failure, report::Report};
use crate::{auth, config::Config, validity::Validity};

pub(super) fn look(config: &Config, online: bool, report: &mut Report) -> Result<(), Failure> {
    let mistakes = auth::check_files(config);
    let is_sound = mistakes.is_empty();
    for mistake in mistakes {
        report.mistake("sources", mistake);
    }
    let now = SystemTime::now();
    for certificate in auth::shown_certificates(config) {
        if let Some(words) = Validity::of(certificate.not_after, now).words() {
            let (section, file) = (certificate.section, certificate.file.display());
            report.warn(
                "sources",
                format!("{section}.client_certificate_file {file} {words}"),
            );
        }
    }
    if !online || !is_sound {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for finding in runtime.block_on(auth::check_online(config)) {
        match finding {
            Ok(text) => report.line(text),
            Err(text) => report.problem("sources", text),
        }
    }
    Ok(())
}
