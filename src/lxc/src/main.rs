//! `skep-lxc`: LXC's command lines. All of it is in the library of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    lxc_face::main(std::env::args_os())
}
