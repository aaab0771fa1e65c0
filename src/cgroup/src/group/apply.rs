//! Writing limits, and reading the values that their order depends on.

use std::os::fd::AsFd;

use runtime_spec::guest_cgroups::GuestCgroups;
use runtime_spec::model::{Limit, Resources};
use sys::Errno;
use sys::fs::OFlags;

use super::explain::explain;
use super::{Group, LastFile, Member};
use crate::error::{Error, Result};
use crate::limit::{Absent, Current, FileWrite, LimitError};

/// v1 reports "no limit" as the largest multiple of the page size in an i64; nothing real comes near.
const LEGACY_UNLIMITED: u64 = 1 << 62;

impl Group {
    /// Performs what must be written before a task enters ([`crate::Limits::attach`]), and completes the cpuset.
    ///
    /// Ancestors of the group that have no realtime bandwidth at all are given what the group asks for, top down; one that
    /// has some keeps it, because somebody chose that number.
    ///
    /// # Errors
    /// As [`Group::apply`].
    pub fn apply_attach(&self, writes: &[FileWrite]) -> Result<()> {
        if let Some(runtime) = writes.iter().find(|write| write.file == "cpu.rt_runtime_us") {
            let period = writes.iter().find(|write| write.file == "cpu.rt_period_us");
            self.lend_realtime(&runtime.value, period.map(|write| write.value.as_str()))?;
        }
        self.apply(writes)?;
        self.inherit_cpuset()
    }

    /// Performs writes in order and stops at the first that fails.
    ///
    /// # Errors
    /// [`LimitError`]: the field, the file and the kernel's reason; for a memory limit below the usage, the numbers.
    pub fn apply(&self, writes: &[FileWrite]) -> Result<()> {
        let mut last = None;
        writes.iter().try_for_each(|write| self.apply_one(write, &mut last))
    }

    fn apply_one<'a>(&'a self, write: &'a FileWrite, last: &mut Option<LastFile<'a>>) -> Result<()> {
        let member = self.member(&write.controller).ok_or_else(|| LimitError::NoController {
            field: write.field.clone(),
            controller: write.controller.clone().into_owned(),
        })?;
        let outcome = match (member.write_on(&write.file, &write.value, last), &write.absent) {
            (Err(error), Absent::Skipped) if error.is(Errno::NOENT) => Ok(()),
            (Err(error), Absent::Instead { file, value }) if error.is(Errno::NOENT) => member.write(file, value),
            (outcome, _) => outcome,
        };
        outcome.map_err(|error| explain(member, write, error))?;
        if write.file == "cpuset.cpus.partition" { member.check_partition(write) } else { Ok(()) }
    }

    /// Reads the present values that writes of these limits depend on.
    ///
    /// # Errors
    /// [`Error::Sys`], [`Error::Parse`].
    pub fn read_current(&self, resources: &Resources) -> Result<Current> {
        let mut current = Current::default();
        let (memory, cpu) = (&resources.memory, &resources.cpu);
        let sizes = memory.limit.is_some() || memory.swap.is_some() || resources.unified.contains_key("memory.max");
        if let Some(member) = self.member("memory").filter(|_| sizes || memory.disable_oom_killer.is_some()) {
            if member.place.is_unified() {
                current.memory_limit = member.limit("memory.max")?.unwrap_or(Limit::Max);
                current.memory_usage = member.number("memory.current")?.unwrap_or(0);
            } else {
                current.memory_limit = member.limit("memory.limit_in_bytes")?.unwrap_or(Limit::Max);
                current.memory_and_swap = member.limit("memory.memsw.limit_in_bytes")?.unwrap_or(Limit::Max);
                current.memory_usage = member.number("memory.usage_in_bytes")?.unwrap_or(0);
                current.oom_killer_disabled = member.read("memory.oom_control")?.starts_with("oom_kill_disable 1");
            }
        }
        let bandwidth = cpu.quota_us.is_some() || cpu.period_us.is_some() || cpu.burst_us.is_some();
        let weight = cpu.shares.is_some() || cpu.idle.is_some();
        let realtime = cpu.realtime_runtime_us.is_some() || cpu.realtime_period_us.is_some();
        if let Some(member) = self.member("cpu").filter(|_| bandwidth || weight || realtime) {
            member.read_current_cpu(&mut current)?;
        }
        Ok(current)
    }

    /// Reads quota and period of the group; nothing where it has no such files.
    ///
    /// # Errors
    /// [`Error::Sys`], [`Error::Parse`].
    pub fn read_bandwidth(&self) -> Result<Option<(Limit, u64)>> {
        let Some(member) = self.member("cpu") else { return Ok(None) };
        let file = if member.place.is_unified() { "cpu.max" } else { "cpu.cfs_period_us" };
        if member.optional(file)?.is_none() {
            return Ok(None);
        }
        let mut current = Current::default();
        member.read_current_cpu(&mut current)?;
        Ok(Some((current.quota_us, current.period_us)))
    }

    /// Gives ancestors without realtime bandwidth as much as the group is about to get.
    fn lend_realtime(&self, runtime: &str, period: Option<&str>) -> Result<()> {
        let Some(member) = self.member("cpu").filter(|member| !member.place.is_unified()) else { return Ok(()) };
        let mount = sys::fs::open_dir(&member.place.mountpoint)?;
        for path in member.place.parents() {
            let parent = sys::fs::open_beneath(mount.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY)?;
            match sys::fs::read_text_at(parent.as_fd(), "cpu.rt_runtime_us") {
                Ok(text) if text.trim() == "0" => {}
                Ok(_) => continue,
                // The group has none either, and the write to it names the field.
                Err(error) if error.is(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let named = |error: sys::Error| {
                let path = format!("{}/{path}", member.place.mountpoint);
                sys::Error::new(format!("{} in the parent {path:?}", error.call()), error.errno())
            };
            if let Some(period) = period {
                sys::fs::write_value_at(parent.as_fd(), "cpu.rt_period_us", period).map_err(named)?;
            }
            sys::fs::write_value_at(parent.as_fd(), "cpu.rt_runtime_us", runtime).map_err(named)?;
        }
        Ok(())
    }

    /// Gives the group in the unified hierarchy to the user that is root in the container, so that it can make groups of
    /// its own: the folder and the files that the kernel says are safe to give away. Limits stay with the host.
    ///
    /// With [`GuestCgroups::All`] the v1 groups go with it: the folder and the lists of processes. A new cpuset below one gets the values
    /// that its parent has, or nothing could enter it.
    ///
    /// Spec: runtime-spec 1.3, config-linux.md, "Cgroup ownership", which never gives v1 groups away.
    ///
    /// # Errors
    /// [`Error::Sys`]. A listed file that is not there is no error.
    pub fn delegate(&self, uid: u32, which: GuestCgroups) -> Result<()> {
        for member in self.members.iter().filter(|member| which == GuestCgroups::All && !member.place.is_unified()) {
            member.give_to(uid, "cgroup.procs\ntasks\n")?;
            if member.place.has("cpuset") {
                member.write("cgroup.clone_children", "1")?;
            }
        }
        let Some(member) = self.unified_member() else { return Ok(()) };
        /// What the specification says where the kernel (before 4.15) has no list.
        const FALLBACK: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";
        let listed = match sys::fs::read_text_at(sys::fs::CWD, "/sys/kernel/cgroup/delegate") {
            Err(error) if error.is(Errno::NOENT) => FALLBACK.to_owned(),
            other => other?,
        };
        member.give_to(uid, &listed)
    }
}

impl Member {
    /// Makes a user the owner of the folder and of these files, one a line, as far as they are there.
    fn give_to(&self, uid: u32, files: &str) -> Result<()> {
        for file in std::iter::once("").chain(files.lines()) {
            // The group stays as it is: only the user changes.
            let stat = match sys::fs::stat_at(self.dir.as_fd(), if file.is_empty() { "." } else { file }) {
                Err(error) if error.is(Errno::NOENT) => continue,
                other => other?,
            };
            sys::fs::chown_at(self.dir.as_fd(), file, uid, stat.st_gid)
                .map_err(|error| self.named("chown", file, &error))?;
        }
        Ok(())
    }

    /// The kernel takes every request for a partition, and says in the same file when it cannot be had.
    fn check_partition(&self, write: &FileWrite) -> Result<()> {
        let state = self.read(&write.file)?;
        if !state.contains("invalid") {
            return Ok(());
        }
        let (file, state) = (self.path(&write.file), state.trim().to_owned());
        Err(LimitError::Partition { file, value: write.value.clone(), state }.into())
    }

    fn read_current_cpu(&self, current: &mut Current) -> Result<()> {
        current.idle = self.number("cpu.idle")? == Some(1);
        if self.place.is_unified() {
            let max = self.read("cpu.max")?;
            let (quota, period) = parse_cpu_max(&max).ok_or_else(|| self.unparsed("cpu.max", &max))?;
            (current.quota_us, current.period_us) = (quota, period);
            current.burst_us = self.number("cpu.max.burst")?.unwrap_or(0);
            return Ok(());
        }
        let signed = |file| -> Result<Option<i64>> {
            let Some(text) = self.optional(file)? else { return Ok(None) };
            text.parse().map(Some).map_err(|_| self.unparsed(file, &text))
        };
        let quota = signed("cpu.cfs_quota_us")?.and_then(|quota| u64::try_from(quota).ok());
        current.quota_us = quota.map_or(Limit::Max, Limit::Value);
        current.period_us = self.number("cpu.cfs_period_us")?.unwrap_or(current.period_us);
        current.burst_us = self.number("cpu.cfs_burst_us")?.unwrap_or(0);
        current.realtime_runtime_us = signed("cpu.rt_runtime_us")?.unwrap_or(0);
        current.realtime_period_us = self.number("cpu.rt_period_us")?.unwrap_or(current.realtime_period_us);
        Ok(())
    }

    /// A trimmed file; `None` where the kernel has no such file.
    pub(super) fn optional(&self, file: &str) -> Result<Option<String>> {
        match self.read(file) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.is(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn number(&self, file: &str) -> Result<Option<u64>> {
        let Some(text) = self.optional(file)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| self.unparsed(file, &text))
    }

    fn limit(&self, file: &str) -> Result<Option<Limit>> {
        let Some(text) = self.optional(file)? else { return Ok(None) };
        match text.parse() {
            Ok(value) if value < LEGACY_UNLIMITED => Ok(Some(Limit::Value(value))),
            Ok(_) => Ok(Some(Limit::Max)),
            Err(_) if text == "max" => Ok(Some(Limit::Max)),
            Err(_) => Err(self.unparsed(file, &text)),
        }
    }

    pub(super) fn unparsed(&self, file: &str, text: &str) -> Error {
        Error::Parse { file: self.path(file), text: text.to_owned() }
    }
}

fn parse_cpu_max(text: &str) -> Option<(Limit, u64)> {
    let (quota, period) = text.trim().split_once(' ')?;
    let quota = if quota == "max" { Limit::Max } else { Limit::Value(quota.parse().ok()?) };
    Some((quota, period.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_max_lines() {
        assert_eq!(parse_cpu_max("max 100000\n"), Some((Limit::Max, 100_000)));
        assert_eq!(parse_cpu_max("5000 10000\n"), Some((Limit::Value(5_000), 10_000)));
        assert_eq!(parse_cpu_max("5000"), None);
    }
}
