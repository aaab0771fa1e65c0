//! `skep-monitor NAME FOLDER [--attach]`: the monitor of one container. All of it is in the library of this package.
//!
//! `skep` starts it; FOLDER has its orders. The first line that it writes says whether the container runs: `ok`, or `error`
//! and why not. NAME is for people who read a list of processes.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let (folder, attach) = match &args[..] {
        [_, _, folder] => (folder, false),
        [_, _, folder, flag] if flag == "--attach" => (folder, true),
        _ => {
            monitor::start::tell("error: usage: skep-monitor NAME FOLDER [--attach]");
            return ExitCode::from(2);
        }
    };
    match monitor::start::main(std::path::Path::new(folder), attach) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            monitor::start::tell(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
