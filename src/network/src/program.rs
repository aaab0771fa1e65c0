//! Other programs, which get a text and answer with one.

use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Where programs that are started look for others.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes that are read at once: what a pipe holds.
const CHUNK: usize = 64 * 1024;

/// Starts a program with nothing of our environment, and with what `prepare` adds. One that has not ended when `limit` is
/// over is killed.
///
/// Its input is a file in memory, so that nobody waits for it to be read. What it has written when it ends is its answer,
/// also where a program that it has started holds its pipes.
///
/// # Errors
/// `TimedOut` for one that was killed; else why it could not be started or read.
pub(crate) fn run(path: &str, input: &[u8], limit: Duration, prepare: impl FnOnce(&mut Command)) -> Result<Output> {
    let end = Instant::now() + limit;
    let mut command = Command::new(path);
    command.env_clear().env("PATH", PATH);
    prepare(&mut command);
    let input = sys::memory::data_file("program-input", input).map_err(failed)?;
    let mut child = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    match collect(&child, end) {
        Ok([stdout, stderr]) => Ok(Output { status: child.wait()?, stdout, stderr }),
        Err(error) => {
            // Not waited for yet: the id is still the program's.
            child.kill()?;
            child.wait()?;
            Err(match error.kind() {
                ErrorKind::TimedOut => {
                    Error::new(ErrorKind::TimedOut, format!("has not ended after {limit:?} and was killed"))
                }
                _ => error,
            })
        }
    }
}

/// Reads both outputs until the program has ended.
fn collect(child: &Child, end: Instant) -> Result<[Vec<u8>; 2]> {
    let process = sys::process::pidfd_open(child.id().cast_signed()).map_err(failed)?;
    let mut outputs = [Vec::new(), Vec::new()];
    let mut open: Vec<(usize, BorrowedFd<'_>)> = Vec::new();
    open.extend(child.stdout.as_ref().map(|pipe| (0, pipe.as_fd())));
    open.extend(child.stderr.as_ref().map(|pipe| (1, pipe.as_fd())));
    let mut buffer = vec![0; CHUNK];
    loop {
        let left_ms = sys::process::left_ms(end);
        if left_ms == 0 {
            return Err(ErrorKind::TimedOut.into());
        }
        let fds: Vec<BorrowedFd<'_>> = open.iter().map(|(_, pipe)| *pipe).chain([process.as_fd()]).collect();
        let ready = sys::process::poll_readable(&fds, Some(left_ms)).map_err(failed)?;
        let mut ended = Vec::new();
        let mut quiet = true;
        for ((output, pipe), _) in open.iter().zip(&ready).filter(|(_, ready)| ready.readable || ready.hung_up) {
            quiet = false;
            match sys::fs::read_some(*pipe, &mut buffer).map_err(failed)? {
                0 => ended.push(*output),
                count => outputs[*output].extend_from_slice(&buffer[..count]),
            }
        }
        if quiet && ready.last().is_some_and(|process| process.readable) {
            return Ok(outputs);
        }
        open.retain(|(output, _)| !ended.contains(output));
    }
}

fn failed(error: sys::Error) -> Error {
    Error::other(error)
}

/// Runs a program with a text as its input and returns what it prints.
///
/// # Errors
/// Its own words, or why it could not be started.
pub(crate) fn ask(path: &str, arguments: &[&str], input: &str, limit: Duration) -> std::result::Result<String, String> {
    let output = run(path, input.as_bytes(), limit, |command| {
        command.args(arguments);
    });
    let output = output.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(complaint(&output)),
    }
}

/// What a program wrote to its error output, in one line; how it ended where it wrote nothing.
pub(crate) fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    if said.is_empty() { output.status.to_string() } else { said }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, input: &[u8], limit: Duration) -> Result<Output> {
        run("/bin/sh", input, limit, |command| {
            command.args(["-c", script]);
        })
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let begin = Instant::now();
        for script in ["exec sleep 60", "exec sleep 60 >&- 2>&-", "while :; do echo x; done"] {
            let error = shell(script, &[b'x'; 1 << 20], Duration::from_millis(100)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{script}: {error}");
        }
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn texts_longer_than_a_pipe_go_both_ways() {
        let input = vec![b'x'; 1 << 20];
        let output = shell("tee /dev/stderr", &input, Duration::from_secs(60)).unwrap();
        assert!(output.status.success() && output.stdout == input && output.stderr == input);
        // Who was started and goes on has nothing more to say.
        let (begin, limit) = (Instant::now(), Duration::from_secs(60));
        let output = shell("sleep 30 & echo $!", b"", limit).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(25));
        let kill = format!("kill {}", String::from_utf8(output.stdout).unwrap());
        assert!(shell(&kill, b"", limit).unwrap().status.success());
        let output = shell("echo no >&2; exit 3", &input, Duration::from_secs(60)).unwrap();
        assert_eq!((output.status.code(), complaint(&output)), (Some(3), "no".to_owned()));
    }
}
