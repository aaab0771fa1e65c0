//! `skep-monitor NAME FOLDER [--attach]`: the monitor of one container. `--view GROUP PLACE` serves the files that tell it of itself.
//! All of it is in the library of this package.
//!
//! `skep` starts it; FOLDER has its orders. The first line that it writes says whether the container runs: `ok`, or `error`
//! and why not. NAME is for people who read a list of processes.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, _, folder, flag, group, place] = &args[..]
        && flag == "--view"
    {
        return finish(monitor::view::main(std::path::Path::new(folder), group, std::path::Path::new(place)));
    }
    let (folder, attach) = match &args[..] {
        [_, _, folder] => (folder, false),
        [_, _, folder, flag] if flag == "--attach" => (folder, true),
        _ => {
            monitor::start::tell("error: usage: skep-monitor NAME FOLDER [--attach]");
            return ExitCode::from(2);
        }
    };
    finish(monitor::start::main(std::path::Path::new(folder), attach))
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            monitor::start::tell(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
