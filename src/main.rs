//! The `causeway` binary: everything it does is in the library's [`causeway::cli`].

use std::process::ExitCode;

/// Static binaries would otherwise have musl's allocator, whose one lock all threads share.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    causeway::cli::main()
}
