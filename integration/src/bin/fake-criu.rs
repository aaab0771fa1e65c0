//! Speaks CRIU's protocol on its standard input and does nothing else: what the runtime asks for is written down, and the
//! answers are those of a CRIU that fails. It shows how failures are handled, and proves nothing about saving or restoring.
//!
//! `FAKE_CRIU` is `old`, `fails` or `dies`; `FAKE_CRIU_LOG` a file that gets a line for each option of a request:
//! `DUMP 10 dump.log`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail, ensure};

use integration::protobuf::{Fields, Message, Value};

const DUMP: u64 = 1;
const RESTORE: u64 = 2;
const NOTIFY: u64 = 6;
const FEATURE_CHECK: u64 = 9;
const VERSION: u64 = 10;

fn main() -> Result<()> {
    let manner = std::env::var("FAKE_CRIU").context("FAKE_CRIU")?;
    let stdin = std::io::stdin();
    while let Some(request) = read(stdin.as_fd())? {
        let kind = request.given_number(1).context("a request without a type")?;
        let options = request.message(2)?;
        write_down(kind, &options)?;
        let answer = match (kind, manner.as_str()) {
            (VERSION, "old") => response(kind, true).message(10, &Message::new().number(1, 2).number(2, 12)),
            (VERSION, _) => response(kind, true).message(10, &Message::new().number(1, 4).number(2, 2)),
            // Neither feature is there.
            (FEATURE_CHECK, _) => response(kind, true).message(8, &Message::new().number(1, 0).number(2, 0)),
            (DUMP | RESTORE, "fails") => {
                tell_of_a_point(stdin.as_fd())?;
                write_log(kind, &options)?;
                response(kind, false).number(7, 22)
            }
            (DUMP, "dies") => return freeze(&options),
            other => bail!("request {other:?} was not expected"),
        };
        rustix::io::write(stdin.as_fd(), answer.encoded())?;
    }
    Ok(())
}

/// The beginning of every answer: what was asked for, and whether it was done.
fn response(kind: u64, success: bool) -> Message {
    Message::new().number(1, kind).number(2, success.into())
}

fn read(socket: BorrowedFd<'_>) -> Result<Option<Fields>> {
    let mut bytes = vec![0; 65_536];
    let length = rustix::io::read(socket, &mut bytes)?;
    if length == 0 { Ok(None) } else { Fields::parse(&bytes[..length]).map(Some) }
}

/// A notification, which has to be answered.
fn tell_of_a_point(socket: BorrowedFd<'_>) -> Result<()> {
    let told = response(NOTIFY, true).message(5, &Message::new().bytes(1, "pre-dump"));
    rustix::io::write(socket, told.encoded())?;
    let answer = read(socket)?.context("the notification was not answered")?;
    match (answer.number(1), answer.number(3)) {
        (NOTIFY, 1) => Ok(()),
        other => bail!("answer to a notification: {other:?}"),
    }
}

/// The log, in the folder whose descriptor the runtime names: its own number of it.
fn write_log(kind: u64, options: &Fields) -> Result<()> {
    let folder = options.given_number(17).or(options.given_number(1)).context("no folder for the log")?;
    let parent = rustix::process::getppid().context("no parent")?;
    let name = if kind == DUMP { "dump.log" } else { "restore.log" };
    let path = format!("/proc/{}/fd/{folder}/{name}", parent.as_raw_nonzero());
    std::fs::write(&path, "(00.1) Version: 4.2\n(00.2) Error (criu/fake.c:7): fake: no such luck\n").context(path)
}

/// As a CRIU that is killed in the middle of a dump leaves the container.
fn freeze(options: &Fields) -> Result<()> {
    let group = options.text(44);
    ensure!(!group.is_empty(), "no group to freeze");
    let legacy = format!("{group}/freezer.state");
    match std::fs::exists(&legacy)? {
        true => std::fs::write(legacy, "FROZEN")?,
        false => std::fs::write(format!("{group}/cgroup.freeze"), "1")?,
    }
    Ok(())
}

fn write_down(kind: u64, options: &Fields) -> Result<()> {
    let path = std::env::var("FAKE_CRIU_LOG").context("FAKE_CRIU_LOG")?;
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    let name = match kind {
        DUMP => "DUMP",
        RESTORE => "RESTORE",
        _ => "OTHER",
    };
    for (field, value) in options.iter() {
        let value = match value {
            Value::Number(number) => number.to_string(),
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).escape_debug().to_string(),
        };
        writeln!(file, "{name} {field} {value}")?;
    }
    Ok(())
}
