//! `skep-manager`: the verbs of `skep` for containers that are defined once. All of it is in the library of this package.

use std::process::ExitCode;

use sys::heap::Heap;

#[global_allocator]
static HEAP: Heap = Heap::new();

fn main() -> ExitCode {
    manager::run::main(std::env::args_os())
}
