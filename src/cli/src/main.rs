//! `skep`: an OCI runtime. All of it is in the library of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cli::run::main(std::env::args_os()))
}
