//! `skep`: an OCI runtime. All of it is in the library of this package.

use std::process::ExitCode;

#[global_allocator]
static HEAP: sys::heap::Heap = sys::heap::Heap::new();

fn main() -> ExitCode {
    ExitCode::from(cli::run::main(std::env::args_os()))
}
