//! Speaks CRIU's protocol on its standard input and does nothing else: what the runtime asks for is written down, and the
//! answers are those of a CRIU that fails. It shows how failures are handled, and proves nothing about saving or restoring.
//!
//! `FAKE_CRIU` is `old`, `fails` or `dies`; `FAKE_CRIU_LOG` a file that gets a line for each option of a request:
//! `DUMP 10 dump.log`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail};

const DUMP: u64 = 1;
const RESTORE: u64 = 2;
const NOTIFY: u64 = 6;
const FEATURE_CHECK: u64 = 9;
const VERSION: u64 = 10;

/// A field of a message: its number, and its value as a number or as bytes.
type Field = (u64, u64, Vec<u8>);

fn main() -> Result<()> {
    let manner = std::env::var("FAKE_CRIU").context("FAKE_CRIU")?;
    let stdin = std::io::stdin();
    while let Some(request) = read(stdin.as_fd())? {
        let kind = number(&request, 1).context("a request without a type")?;
        let options = request.iter().find(|field| field.0 == 2).map(|field| fields(&field.2)).transpose()?;
        let options = options.unwrap_or_default();
        write_down(kind, &options)?;
        let answer = match (kind, manner.as_str()) {
            (VERSION, "old") => vec![0x08, 10, 0x10, 1, 0x52, 4, 0x08, 2, 0x10, 12],
            (VERSION, _) => vec![0x08, 10, 0x10, 1, 0x52, 4, 0x08, 4, 0x10, 2],
            // Neither feature is there.
            (FEATURE_CHECK, _) => vec![0x08, 9, 0x10, 1, 0x42, 4, 0x08, 0, 0x10, 0],
            (DUMP | RESTORE, "fails") => {
                tell_of_a_point(stdin.as_fd())?;
                write_log(kind, &options)?;
                vec![0x08, u8::try_from(kind)?, 0x10, 0, 0x38, 22]
            }
            (DUMP, "dies") => return freeze(&options),
            other => bail!("request {other:?} was not expected"),
        };
        rustix::io::write(stdin.as_fd(), &answer)?;
    }
    Ok(())
}

fn read(socket: BorrowedFd<'_>) -> Result<Option<Vec<Field>>> {
    let mut bytes = vec![0; 65_536];
    let length = rustix::io::read(socket, &mut bytes)?;
    if length == 0 { Ok(None) } else { fields(&bytes[..length]).map(Some) }
}

/// A notification, which has to be answered.
fn tell_of_a_point(socket: BorrowedFd<'_>) -> Result<()> {
    rustix::io::write(socket, b"\x08\x06\x10\x01\x2a\x0a\x0a\x08pre-dump")?;
    let answer = read(socket)?.context("the notification was not answered")?;
    match (number(&answer, 1), number(&answer, 3)) {
        (Some(NOTIFY), Some(1)) => Ok(()),
        other => bail!("answer to a notification: {other:?}"),
    }
}

/// The log, in the folder whose descriptor the runtime names: its own number of it.
fn write_log(kind: u64, options: &[Field]) -> Result<()> {
    let folder = number(options, 17).or(number(options, 1)).context("no folder for the log")?;
    let parent = rustix::process::getppid().context("no parent")?;
    let name = if kind == DUMP { "dump.log" } else { "restore.log" };
    let path = format!("/proc/{}/fd/{folder}/{name}", parent.as_raw_nonzero());
    std::fs::write(&path, "(00.1) Version: 4.2\n(00.2) Error (criu/fake.c:7): fake: no such luck\n").context(path)
}

/// As a CRIU that is killed in the middle of a dump leaves the container.
fn freeze(options: &[Field]) -> Result<()> {
    let group = options.iter().find(|field| field.0 == 44).context("no group to freeze")?;
    let group = String::from_utf8(group.2.clone())?;
    let legacy = format!("{group}/freezer.state");
    match std::fs::exists(&legacy)? {
        true => std::fs::write(legacy, "FROZEN")?,
        false => std::fs::write(format!("{group}/cgroup.freeze"), "1")?,
    }
    Ok(())
}

fn write_down(kind: u64, options: &[Field]) -> Result<()> {
    let path = std::env::var("FAKE_CRIU_LOG").context("FAKE_CRIU_LOG")?;
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    let name = match kind {
        DUMP => "DUMP",
        RESTORE => "RESTORE",
        _ => "OTHER",
    };
    for (field, value, bytes) in options {
        let text = String::from_utf8_lossy(bytes);
        let value = if bytes.is_empty() { value.to_string() } else { text.escape_debug().to_string() };
        writeln!(file, "{name} {field} {value}")?;
    }
    Ok(())
}

fn number(fields: &[Field], wanted: u64) -> Option<u64> {
    fields.iter().find(|field| field.0 == wanted).map(|field| field.1)
}

/// The fields of a message that has varints and lengths only.
fn fields(mut bytes: &[u8]) -> Result<Vec<Field>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let value = varint(&mut bytes)?;
        let inner = match key & 7 {
            0 => Vec::new(),
            2 => {
                let (inner, rest) =
                    bytes.split_at_checked(usize::try_from(value)?).context("a length beyond the end")?;
                bytes = rest;
                inner.to_vec()
            }
            other => bail!("wire type {other}"),
        };
        found.push((key >> 3, value, inner));
    }
    Ok(found)
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().context("a number without an end")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number of more than 64 bits")
}
