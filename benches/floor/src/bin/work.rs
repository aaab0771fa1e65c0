//! Work that a container's program may do, the same inside and outside: `work KIND ARG…`.
//!
//! It measures itself, so that the start of a container's process is not in the figures, and prints two numbers: nanoseconds of wall
//! time, and of user and system time. Static, so that it runs on any root file system.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Instant;

use nix::sys::personality;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

const MIB: usize = 1024 * 1024;
/// What is written, read and sent at a time, in bytes.
const PIECE: usize = 64 * 1024;
/// The buffers that are copied: more than the caches that one processor has for itself.
const COPIED: usize = 16 * MIB;
/// What a write before each flush has, in bytes.
const BLOCK: usize = 4096;

const USAGE: &str = "\
usage: work loop MILLIONS            arithmetic
       work copy MIB                 memory to memory
       work write FILE MIB           pieces of 64 KiB and one flush; FILE is removed
       work flush FILE COUNT         4 KiB and a flush each time; FILE is removed
       work read FILE COUNT          all of FILE, so often
       work getppid COUNT            a system call without arguments
       work personality COUNT        one whose argument a filter looks at
       work receive ADDRESS:PORT     takes streams one after another, until it is ended
       work send ADDRESS:PORT MIB    sends one and waits until all of it has come";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match perform(&words) {
        Ok((wall, cpu)) => {
            println!("{wall} {cpu}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: work {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// Does the work and returns nanoseconds of wall time, and of user and system time.
fn perform(words: &[&str]) -> io::Result<(u128, i64)> {
    let number = |text: &str| text.parse::<usize>().map_err(|_| io::Error::other(format!("{text:?} is no number")));
    match words {
        ["loop", millions] => {
            let count = number(millions)? * 1_000_000;
            timed(|| {
                count_up(count);
                Ok(())
            })
        }
        ["copy", mib] => copy(number(mib)?),
        ["write", file, mib] => and_remove(file, write(file, number(mib)?)),
        ["flush", file, count] => and_remove(file, flush(file, number(count)?)),
        ["read", file, count] => {
            let count = number(count)?;
            timed(|| (0..count).try_for_each(|_| read(file)))
        }
        ["getppid", count] => {
            let count = number(count)?;
            timed(|| {
                (0..count).for_each(|_| _ = black_box(std::os::unix::process::parent_id()));
                Ok(())
            })
        }
        ["personality", count] => {
            let count = number(count)?;
            timed(|| (0..count).try_for_each(|_| personality::get().map(drop).map_err(io::Error::from)))
        }
        ["receive", address] => receive(address),
        ["send", address, mib] => send(address, number(mib)?),
        _ => Err(io::Error::other(USAGE)),
    }
}

fn timed(work: impl FnOnce() -> io::Result<()>) -> io::Result<(u128, i64)> {
    let cpu = own_cpu()?;
    let start = Instant::now();
    work()?;
    let wall = start.elapsed();
    Ok((wall.as_nanos(), own_cpu()? - cpu))
}

fn own_cpu() -> io::Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok((usage.user_time() + usage.system_time()).num_nanoseconds())
}

/// xorshift: each step needs the one before, so that nothing of it can be left out.
fn count_up(count: usize) {
    let mut state = black_box(88_172_645_463_325_252_u64);
    for _ in 0..count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    black_box(state);
}

fn copy(mib: usize) -> io::Result<(u128, i64)> {
    let from = vec![1_u8; COPIED];
    let mut to = vec![2_u8; COPIED];
    timed(|| {
        for _ in 0..mib * MIB / COPIED {
            to.copy_from_slice(black_box(&from));
            black_box(&mut to);
        }
        Ok(())
    })
}

fn write(path: &str, mib: usize) -> io::Result<(u128, i64)> {
    let piece = vec![3_u8; PIECE];
    timed(|| {
        let mut file = File::create(path)?;
        (0..mib * MIB / PIECE).try_for_each(|_| file.write_all(&piece))?;
        file.sync_all()
    })
}

fn flush(path: &str, count: usize) -> io::Result<(u128, i64)> {
    let block = vec![4_u8; BLOCK];
    let mut file = File::create(path)?;
    timed(|| {
        (0..count).try_for_each(|_| {
            file.write_all(&block)?;
            file.sync_all()
        })
    })
}

fn and_remove<T>(path: &str, outcome: io::Result<T>) -> io::Result<T> {
    fs::remove_file(path)?;
    outcome
}

fn read(path: &str) -> io::Result<()> {
    let mut piece = vec![0_u8; PIECE];
    let mut file = File::open(path)?;
    while file.read(&mut piece)? > 0 {}
    Ok(())
}

/// Never returns unless it fails.
fn receive(address: &str) -> io::Result<(u128, i64)> {
    let listener = TcpListener::bind(address)?;
    let mut piece = vec![0_u8; PIECE];
    loop {
        let (mut stream, _) = listener.accept()?;
        while stream.read(&mut piece)? > 0 {}
        // The sender may be gone; the next one has a connection of its own.
        if let Err(error) = stream.write_all(b"!") {
            eprintln!("a sender does not listen: {error}");
        }
    }
}

fn send(address: &str, mib: usize) -> io::Result<(u128, i64)> {
    let piece = vec![5_u8; PIECE];
    let mut stream = TcpStream::connect(address)?;
    timed(|| {
        (0..mib * MIB / PIECE).try_for_each(|_| stream.write_all(&piece))?;
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.read_exact(&mut [0])
    })
}
