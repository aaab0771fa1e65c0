//! What the kernel says of a container's groups: where they are, and the values in them.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use sys::fs::{CWD, FileType, OFlags};
use sys::groups::{self, Place};

use runtime_spec::monitor::parse_cpus;

use super::render::{Memory, Parts, Tasks};

/// Most tasks that are looked at one by one.
const TASKS_MAX: usize = 4096;
/// Most groups of a container that are looked into.
const GROUPS_MAX: usize = 1024;
/// Most bytes that are read of a file of the kernel's. The longest is `/proc/cpuinfo` of a large machine.
const FILE_MAX: usize = 4 << 20;
/// Most bytes that are read of a list of tasks: what [`TASKS_MAX`] numbers take.
const LIST_MAX: usize = TASKS_MAX * 12;

/// The folders of a container's groups.
#[derive(Debug, Default)]
pub struct Groups {
    memory: Option<Place>,
    cpu: Option<Place>,
    cpuacct: Option<Place>,
    cpuset: Option<Place>,
    tasks: Option<Place>,
}

impl Groups {
    /// Finds the groups by where the first process is. It may have moved below the container's own, whose path ends with
    /// `group`.
    ///
    /// # Errors
    /// What the kernel says; the process has ended.
    pub fn find(pid: i32, group: &str) -> Result<Groups> {
        let of_process = read(&format!("/proc/{pid}/cgroup"))?;
        let mounts = read("/proc/self/mountinfo")?;
        let mounts: Vec<_> =
            sys::mountinfo::parse(&mounts).filter(|mount| mount.kind == "cgroup" || mount.kind == "cgroup2").collect();
        let place = |controller: &str| groups::find(&of_process, &mounts, controller, group).next();
        let of = |controller: &str, file: &str| {
            // On a hybrid host cgroup2 may have no controller at all.
            place(controller).filter(|place| !place.unified || get(place, file).is_some())
        };
        Ok(Groups {
            memory: of("memory", "memory.current"),
            cpu: of("cpu", "cpu.max"),
            cpuacct: of("cpuacct", "cpu.stat"),
            cpuset: of("cpuset", "cpuset.cpus.effective"),
            tasks: place("pids").or_else(|| place("memory")),
        })
    }

    /// Memory and swap.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let Some(place) = &self.memory else { return Memory { limit: u64::MAX, ..Memory::default() } };
        let stat = get(place, "memory.stat").unwrap_or_default();
        let number = |file: &str| number(place, file).unwrap_or(0);
        if place.unified {
            return Memory {
                limit: lowest(place, "memory.max"),
                usage: number("memory.current"),
                swap_limit: lowest(place, "memory.swap.max"),
                swap_used: number("memory.swap.current"),
                parts: parts(&stat, ""),
            };
        }
        let (limit, usage) = (value(&stat, "hierarchical_memory_limit"), number("memory.usage_in_bytes"));
        let both = value(&stat, "hierarchical_memsw_limit");
        let limit = limit.unwrap_or(u64::MAX);
        Memory {
            limit,
            usage,
            // Where swap is not counted there is no limit of it.
            swap_limit: both.map_or(u64::MAX, |both| both.saturating_sub(limit)),
            swap_used: value(&stat, "total_swap").unwrap_or(0),
            parts: parts(&stat, "total_"),
        }
    }

    /// The processors of the machine that the container has: those of its cpuset, and no more of them than its quota fills.
    #[must_use]
    pub fn cpus(&self) -> Vec<usize> {
        let file = |place: &Place| {
            let names = ["cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"];
            names.iter().find_map(|name| get(place, name))
        };
        let list = self.cpuset.as_ref().and_then(file);
        let list = list.or_else(|| read("/sys/devices/system/cpu/online").ok()).unwrap_or_else(|| "0".to_owned());
        let mut cpus = parse_cpus(&list);
        if let Some(whole) = self.cpu.as_ref().and_then(quota) {
            cpus.truncate(whole.max(1));
        }
        cpus
    }

    /// Time for programs and in the kernel, hundredths of a second, and both in seconds.
    #[must_use]
    pub fn time(&self) -> (u64, u64, f64) {
        let Some(place) = &self.cpuacct else { return (0, 0, 0.0) };
        if place.unified {
            let stat = get(place, "cpu.stat").unwrap_or_default();
            let micros = |name: &str| value(&stat, name).unwrap_or(0);
            let seconds = std::time::Duration::from_micros(micros("usage_usec")).as_secs_f64();
            return (micros("user_usec") / 10_000, micros("system_usec") / 10_000, seconds);
        }
        let stat = get(place, "cpuacct.stat").unwrap_or_default();
        let nanos = number(place, "cpuacct.usage").unwrap_or(0);
        let seconds = std::time::Duration::from_nanos(nanos).as_secs_f64();
        (value(&stat, "user").unwrap_or(0), value(&stat, "system").unwrap_or(0), seconds)
    }

    /// Counts the tasks by what they do.
    #[must_use]
    pub fn tasks(&self) -> Tasks {
        let of = |place: &Place| count(&place.dir, if place.unified { "cgroup.threads" } else { "tasks" });
        self.tasks.as_ref().map(of).unwrap_or_default()
    }
}

/// What a file of a group has.
fn get(place: &Place, file: &str) -> Option<String> {
    read(&format!("{}/{file}", place.dir)).ok()
}

fn number(place: &Place, file: &str) -> Option<u64> {
    get(place, file)?.trim().parse().ok()
}

/// The lowest number that this file has here or in a group above; `u64::MAX` for none.
fn lowest(place: &Place, file: &str) -> u64 {
    let mut dir = place.dir.as_str();
    let mut lowest = u64::MAX;
    while dir.len() > place.top {
        let here = read(&format!("{dir}/{file}")).ok().and_then(|text| text.trim().parse().ok());
        lowest = lowest.min(here.unwrap_or(u64::MAX));
        dir = dir.rsplit_once('/').map_or("", |(above, _)| above);
    }
    lowest
}

/// Processors that the quota fills, the last one maybe in part; `None` without one.
fn quota(place: &Place) -> Option<usize> {
    let (quota, period): (u64, u64) = if place.unified {
        let text = get(place, "cpu.max")?;
        let (quota, period) = text.trim().split_once(' ')?;
        (quota.parse().ok()?, period.parse().ok()?)
    } else {
        // -1 is none.
        (number(place, "cpu.cfs_quota_us")?, number(place, "cpu.cfs_period_us")?)
    };
    usize::try_from(quota.div_ceil(period.max(1))).ok()
}

/// Reads a file of the kernel's.
pub(super) fn read(path: &str) -> Result<String> {
    read_part(path, FILE_MAX)
}

fn read_part(path: &str, most: usize) -> Result<String> {
    let read = || -> sys::Result<Vec<u8>> {
        let file = sys::fs::open(path, OFlags::RDONLY)?;
        sys::fs::read_limited(file.as_fd(), most)
    };
    let bytes = read().with_context(|| format!("cannot read {path}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The number behind a name, at the beginning of a line.
fn value(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// v1 has other names for some, and `prefix` before those that groups below count for.
fn parts(stat: &str, prefix: &str) -> Parts {
    let of = |names: &[&str]| names.iter().find_map(|name| value(stat, &format!("{prefix}{name}"))).unwrap_or(0);
    Parts {
        file: of(&["file", "cache"]),
        shmem: of(&["shmem"]),
        anon: of(&["anon", "rss"]),
        active_anon: of(&["active_anon"]),
        inactive_anon: of(&["inactive_anon"]),
        active_file: of(&["active_file"]),
        inactive_file: of(&["inactive_file"]),
        unevictable: of(&["unevictable"]),
        mapped: of(&["file_mapped", "mapped_file"]),
        dirty: of(&["file_dirty", "dirty"]),
        writeback: of(&["file_writeback", "writeback"]),
        slab_reclaimable: of(&["slab_reclaimable"]),
        slab_unreclaimable: of(&["slab_unreclaimable"]),
    }
}

/// Counts the tasks of a group and of those below. What is gone by now is not counted.
fn count(top: &str, file: &str) -> Tasks {
    let mut tasks = Tasks::default();
    let (mut rest, mut looked) = (vec![top.to_owned()], 0);
    while let Some(dir) = rest.pop() {
        looked += 1;
        for task in read_part(&format!("{dir}/{file}"), LIST_MAX).unwrap_or_default().lines() {
            if tasks.all >= TASKS_MAX {
                return tasks;
            }
            tasks.all += 1;
            let stat = read(&format!("/proc/{task}/stat")).unwrap_or_default();
            // The name before it may have anything in it.
            match stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next()) {
                Some('R') => tasks.running += 1,
                Some('D') => tasks.blocked += 1,
                _ => {}
            }
        }
        let below = sys::fs::list(CWD, &dir).unwrap_or_default().into_iter();
        let folders = below.filter(|(_, kind)| *kind == FileType::Directory);
        // How many there are is the container's choice.
        rest.extend(
            folders.take(GROUPS_MAX.saturating_sub(looked + rest.len())).map(|(name, _)| format!("{dir}/{name}")),
        );
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_name_the_parts_of_memory() {
        let v1 = "cache 1\nrss 2\ntotal_cache 10\ntotal_rss 20\ntotal_mapped_file 30\nhierarchical_memory_limit 64\n";
        let (one, two) = (parts(v1, "total_"), parts("anon 20\nfile 10\nfile_mapped 30\n", ""));
        assert_eq!((one.file, one.anon, one.mapped), (10, 20, 30));
        assert_eq!((two.file, two.anon, two.mapped), (10, 20, 30));
        assert_eq!(value(v1, "hierarchical_memory_limit"), Some(64));
        assert_eq!(value(v1, "hierarchical"), None);
    }
}
