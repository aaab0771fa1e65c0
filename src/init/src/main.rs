//! `skep-init [--] PROGRAM [ARGUMENT…]`: the first process of a container whose program was not made to be one.
//!
//! The kernel gives the first process of a pid namespace the children of all that die, and keeps every signal from it that it
//! has no handler for. Most programs reap nobody and have few handlers. This one starts the program, reaps whoever ends, passes
//! every signal on, and ends with the program: with its code, or 128 and the number of the signal that killed it. The kernel
//! then ends all other processes of the container.
//!
//! ```text
//! take all signals ──► start the program in a process group of its own, in front of the terminal if there is one
//!              │
//!   ┌──────────▼──────────┐  SIGCHLD: reap all ──► was it the program? end
//!   │ wait for one signal │
//!   └─────────────────────┘  any other: to the program
//! ```
//!
//! It holds no descriptor but its standard ones and that of the signals, of a standard input that is no terminal none, and has one thread.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use sys::Errno;
use sys::process::Exit;
use sys::signal::{self, SIGCHLD, SIGCONT};

/// Exit codes as shells have them: the program cannot be executed, it is not there.
const CANNOT: u8 = 126;
/// See [`CANNOT`].
const MISSING: u8 = 127;
/// Something else failed.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == "--") {
        words.remove(0);
    }
    let Some((program, args)) = words.split_first() else {
        return fail(FAILED, "usage: skep-init [--] PROGRAM [ARGUMENT...]");
    };
    // What comes from now on waits until it can be passed on.
    let signals = match signal::take_all() {
        Ok(signals) => signals,
        Err(error) => return fail(FAILED, &error.to_string()),
    };
    let mut command = Command::new(program);
    command.args(args).process_group(0);
    signal::unblock_in(&mut command);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let code = match error.kind() {
                ErrorKind::NotFound => MISSING,
                _ => CANNOT,
            };
            return fail(code, &format!("cannot run {}: {error}", program.to_string_lossy()));
        }
    };
    let pid = i32::try_from(child.id()).unwrap_or_default();
    match serve(pid, &signals) {
        Ok(exit) => ExitCode::from(u8::try_from(exit.shell_code()).unwrap_or(FAILED)),
        Err(error) => fail(FAILED, &error.to_string()),
    }
}

/// Passes signals on and reaps until the program has ended.
fn serve(program: i32, signals: &OwnedFd) -> sys::Result<Exit> {
    // Where it is not the first process of the namespace, orphans come to it all the same.
    if sys::process::own_pid() != 1 {
        sys::process::set_child_subreaper()?;
    }
    put_in_front(program, signals)?;
    loop {
        if let Some(exit) = reap(program)? {
            return Ok(exit);
        }
        match signal::next(signals.as_fd())? {
            SIGCHLD => {}
            signal => send(program, signal)?,
        }
    }
}

/// Gives the program the terminal: what is typed there, Ctrl-C too, is for it alone.
fn put_in_front(program: i32, signals: &OwnedFd) -> sys::Result<()> {
    let stdin = std::io::stdin();
    match sys::terminal::set_foreground(stdin.as_fd(), program) {
        Ok(()) => {}
        // What is no terminal is the program's alone: whoever writes to it is told by the kernel when that reads no more. Of
        // what is open here anything may take the place, as nobody reads it.
        Err(error) if error.is(Errno::NOTTY) => return sys::process::dup_onto(signals.as_fd(), 0),
        // It is another session's, or the program has ended already.
        Err(error) if matches!(error.errno(), Errno::PERM | Errno::BADF | Errno::SRCH | Errno::IO) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    // It may have read before, and have been stopped for it.
    send(-program, SIGCONT)
}

/// Reaps everybody who has ended. Says how the program did, if it was among them.
fn reap(program: i32) -> sys::Result<Option<Exit>> {
    let mut ended = None;
    while let Some((pid, exit)) = sys::process::reap_any()? {
        if pid == program {
            ended = Some(exit);
        }
    }
    Ok(ended)
}

/// Sends a signal to the program, which may have ended in between.
fn send(pid: i32, signal: i32) -> sys::Result<()> {
    match signal::kill(pid, signal) {
        Err(error) if !error.is(Errno::SRCH) => Err(error),
        _ => Ok(()),
    }
}

/// Tells what went wrong. Where nobody can be told, the code says it alone.
fn fail(code: u8, text: &str) -> ExitCode {
    drop(writeln!(std::io::stderr(), "skep-init: {text}"));
    ExitCode::from(code)
}
