//! The `causeway` binary: everything it does is in the library's [`causeway::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    causeway::cli::main()
}
