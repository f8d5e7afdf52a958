//! `causeway completions` and `causeway man`: made of the arguments themselves.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use clap_complete::Shell;

use super::Failure;

/// Prints what a shell completes arguments with.
pub(super) fn completions(shell: Shell, mut command: clap::Command) -> Result<(), Failure> {
    // Into memory first: the generator takes a closed pipe for a mistake of its own.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "causeway", &mut text);
    io::stdout().lock().write_all(&text)?;
    Ok(())
}

/// Writes a manual page for every command into a directory.
pub(super) fn man(directory: &Path, command: clap::Command) -> Result<(), Failure> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command, directory)?;
    Ok(())
}
