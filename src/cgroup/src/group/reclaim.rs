//! Making room below a smaller memory limit, on v2.
//!
//! Where `memory.max` is set below the usage, the kernel reclaims for a while and then kills. So the reclaim is asked for
//! first, while the old limit still holds, and a limit that it does not reach is refused by the renderer.

use std::time::{Duration, Instant};

use runtime_spec::model::{Limit, Resources};
use sys::Errno;

use super::{Group, Member};
use crate::error::Result;
use crate::unified::memory_max;

/// Bytes that are asked for at once, 32 MiB, so that the bound is looked at in between. As much clean page cache took 6 to
/// 14 ms, median 8 (five times 512 MiB by `memory.force_empty` of v1, which reclaims the same way; Linux 6.18, two busy
/// cores): the bound is kept to a few hundredths of a second, and a write for each 32 MiB costs nothing beside the work.
const CHUNK: u64 = 32 << 20;

impl Group {
    /// Reclaims what a memory limit leaves no room for, within a bound, as far as there is something to reclaim.
    ///
    /// Does nothing on v1, where the kernel itself reclaims and refuses, and where `checkBeforeUpdate` asks for a judgement
    /// of the usage as it is. Limits and what is in use by then are left as they are; nothing is killed.
    ///
    /// # Errors
    /// [`crate::Error::Sys`], [`crate::Error::Parse`].
    pub fn reclaim_memory(&self, resources: &Resources, bound: Duration) -> Result<()> {
        let limit = match memory_max(resources) {
            Some(Limit::Value(limit)) if limit != 0 && !resources.memory.check_before_update => limit,
            _ => return Ok(()),
        };
        match self.member("memory").filter(|member| member.place.is_unified()) {
            Some(member) => member.reclaim_below(limit, Instant::now() + bound),
            None => Ok(()),
        }
    }
}

impl Member {
    fn reclaim_below(&self, limit: u64, deadline: Instant) -> Result<()> {
        while let Some(usage) = self.number("memory.current")?.filter(|usage| *usage >= limit) {
            let wanted = (usage - limit + 1).min(CHUNK);
            match self.write("memory.reclaim", &wanted.to_string()) {
                Ok(()) if Instant::now() < deadline => {}
                // Less was to be had than was asked for.
                Ok(()) => return Ok(()),
                Err(error) if error.is(Errno::AGAIN) || error.is(Errno::INTR) => return Ok(()),
                // KERNEL(5.19): no memory.reclaim.
                Err(error) if error.is(Errno::NOENT) => return self.reclaim_by_high(limit),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// A write to `memory.high` reclaims down to it before it returns, and never kills.
    fn reclaim_by_high(&self, limit: u64) -> Result<()> {
        let before = self.read("memory.high")?;
        let reclaimed = self.write("memory.high", &(limit - 1).to_string());
        self.write("memory.high", before.trim())?;
        Ok(reclaimed?)
    }
}
