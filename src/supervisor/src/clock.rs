//! The time: since boot for decisions, since 1970 for people.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::state::Ms;

/// Time since boot. It goes on where a wall clock is set.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
    uptime: Duration,
}

impl Clock {
    /// Reads it once; from then on it is counted.
    ///
    /// # Errors
    /// /proc/uptime cannot be read.
    pub fn read() -> Result<Clock> {
        let text = std::fs::read_to_string("/proc/uptime").context("cannot read /proc/uptime")?;
        let seconds = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
        let uptime = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(Clock { began: Instant::now(), uptime: uptime.context("/proc/uptime has no number")? })
    }

    /// Milliseconds since boot.
    #[must_use]
    pub fn now(&self) -> Ms {
        Ms::try_from((self.uptime + self.began.elapsed()).as_millis()).unwrap_or(Ms::MAX)
    }

    /// When a time since boot is, for timers.
    #[must_use]
    pub fn instant(&self, at: Ms) -> Instant {
        Instant::now() + Duration::from_millis(at.saturating_sub(self.now()))
    }
}

/// The number of this boot.
///
/// # Errors
/// The kernel does not tell.
pub fn read_boot() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    std::fs::read_to_string(path).map(|id| id.trim().to_owned()).with_context(|| format!("cannot read {path}"))
}

/// Milliseconds since 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
