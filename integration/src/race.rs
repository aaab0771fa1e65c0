//! Hostile neighbours: threads that change a tree while a runtime works in it, for as long as they live.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// How long a racing test attacks.
pub const ATTACK: Duration = Duration::from_secs(4);

/// A thread that repeats a step until it is dropped.
#[derive(Debug)]
pub struct Attacker {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Attacker {
    /// Starts repeating `step` at full speed.
    pub fn new(mut step: impl FnMut() + Send + 'static) -> Attacker {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop_seen, count) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            while !stop_seen.load(Ordering::Relaxed) {
                step();
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Attacker { stop, rounds, thread: Some(thread) }
    }

    /// Exchanges two paths again and again (`renameat2` with RENAME_EXCHANGE). While a path is missing it goes on.
    pub fn swapping(a: &Path, b: &Path) -> Attacker {
        let (a, b): (PathBuf, PathBuf) = (a.to_owned(), b.to_owned());
        Attacker::new(move || match renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE) {
            // EBUSY: one of them is a mount point just now. ENOENT: the runtime removed or has not made it yet.
            Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::BUSY) => {}
            Err(e) => panic!("exchange {} and {}: {e}", a.display(), b.display()),
        })
    }

    /// How often the step was done.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the attacker panicked");
        }
    }
}

/// Repeats `attempt` with its number for the length of an attack, at least three times. Says how often.
pub fn attack(mut attempt: impl FnMut(u32)) -> u32 {
    let until = Instant::now() + ATTACK;
    let mut count = 0;
    while count < 3 || Instant::now() < until {
        attempt(count);
        count += 1;
    }
    count
}
