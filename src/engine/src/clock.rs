//! The present as RFC 3339 text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use runtime_spec::clock::{Utc, render_nanos, render_seconds};

/// Time since 1970; zero where the clock is before that.
#[must_use]
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
