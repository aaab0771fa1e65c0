//! What the files say. Rendering is pure: what the host says, and what the container may and uses, comes in.

/// Memory of a container, bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Most that it may use; the host's where it has no limit.
    pub limit: u64,
    /// What it uses, with files that are cached.
    pub usage: u64,
    /// Most that may be swapped out.
    pub swap_limit: u64,
    /// What is.
    pub swap_used: u64,
    /// Parts of it by the names of `memory.stat` on cgroup v2.
    pub parts: Parts,
}

/// Parts of the memory, bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts {
    /// Files that are cached, with shared memory.
    pub file: u64,
    /// Shared memory.
    pub shmem: u64,
    /// Memory of no file.
    pub anon: u64,
    /// Lists of the kernel.
    pub active_anon: u64,
    /// As above.
    pub inactive_anon: u64,
    /// As above.
    pub active_file: u64,
    /// As above.
    pub inactive_file: u64,
    /// As above.
    pub unevictable: u64,
    /// Files that are mapped.
    pub mapped: u64,
    /// To be written.
    pub dirty: u64,
    /// Being written.
    pub writeback: u64,
    /// Of the kernel, to be given back when needed.
    pub slab_reclaimable: u64,
    /// Of the kernel.
    pub slab_unreclaimable: u64,
}

/// `/proc/meminfo`: of what the host has the lines say what the container has, and 0 where nobody counts it for a container.
#[must_use]
pub fn render_meminfo(host: &str, memory: &Memory) -> String {
    let of_host = |name: &str| {
        let line = host.lines().find(|line| line.split(':').next() == Some(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0)
    };
    let kib = |bytes: u64| bytes / 1024;
    let parts = &memory.parts;
    let total = kib(memory.limit).min(of_host("MemTotal"));
    let free = total.saturating_sub(kib(memory.usage)).min(of_host("MemFree"));
    let back = kib(parts.active_file + parts.inactive_file + parts.slab_reclaimable);
    let available = (total.saturating_sub(kib(memory.usage)) + back).min(of_host("MemAvailable")).min(total);
    let swap = kib(memory.swap_limit).min(of_host("SwapTotal"));
    let mut text = String::with_capacity(host.len());
    for line in host.lines() {
        let name = line.split(':').next().unwrap_or_default();
        let value = match name {
            "MemTotal" => total,
            "MemFree" => free,
            "MemAvailable" => available,
            "Cached" => kib(parts.file),
            "Active" => kib(parts.active_anon + parts.active_file),
            "Inactive" => kib(parts.inactive_anon + parts.inactive_file),
            "Active(anon)" => kib(parts.active_anon),
            "Inactive(anon)" => kib(parts.inactive_anon),
            "Active(file)" => kib(parts.active_file),
            "Inactive(file)" => kib(parts.inactive_file),
            "Unevictable" => kib(parts.unevictable),
            "SwapTotal" => swap,
            "SwapFree" => swap.saturating_sub(kib(memory.swap_used)),
            "Dirty" => kib(parts.dirty),
            "Writeback" => kib(parts.writeback),
            "AnonPages" => kib(parts.anon),
            "Mapped" => kib(parts.mapped),
            "Shmem" => kib(parts.shmem),
            "KReclaimable" | "SReclaimable" => kib(parts.slab_reclaimable),
            "SUnreclaim" => kib(parts.slab_unreclaimable),
            "Slab" => kib(parts.slab_reclaimable + parts.slab_unreclaimable),
            // Of the machine, and the same for all.
            _ if name.starts_with("Huge") || name.starts_with("DirectMap") || name == "VmallocTotal" => {
                text.push_str(line);
                text.push('\n');
                continue;
            }
            _ => 0,
        };
        text.push_str(&format!("{:<15} {value:>8} kB\n", format!("{name}:")));
    }
    text
}

/// `/proc/cpuinfo`: the blocks of these processors, numbered anew.
#[must_use]
pub fn render_cpuinfo(host: &str, cpus: &[usize]) -> String {
    let number = |block: &str| -> Option<usize> {
        let line = block.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == "processor"))?;
        line.split(':').nth(1)?.trim().parse().ok()
    };
    let mut text = String::new();
    let mut next = 0;
    for block in host.split("\n\n").filter(|block| !block.trim().is_empty()) {
        match number(block) {
            Some(cpu) if cpus.contains(&cpu) => {
                let renumbered = |line: &str| match line.split_once(':') {
                    Some((name, _)) if name.trim() == "processor" => format!("{name}: {next}\n"),
                    _ => format!("{line}\n"),
                };
                text.extend(block.lines().map(renumbered));
                text.push('\n');
                next += 1;
            }
            Some(_) => {}
            // What some machines say of themselves after their processors.
            None => text.push_str(&format!("{}\n", block.trim_end())),
        }
    }
    text
}

/// What a container has computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Time {
    /// For its programs, hundredths of a second.
    pub user: u64,
    /// In the kernel, hundredths of a second.
    pub system: u64,
    /// Since it began, hundredths of a second.
    pub uptime: u64,
}

/// Tasks of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tasks {
    /// That run or wait for a processor.
    pub running: usize,
    /// That wait for a disk.
    pub blocked: usize,
    /// All.
    pub all: usize,
}

/// `/proc/stat`: time that was used is spread over the processors evenly, and what is left was idle. `now` is the time,
/// seconds since 1970.
#[must_use]
pub fn render_stat(cpus: usize, time: Time, tasks: Tasks, now: u64) -> String {
    let count = u64::try_from(cpus.max(1)).unwrap_or(1);
    let line = |name: &str, of: u64| {
        let (user, system) = (time.user / of, time.system / of);
        let idle = (time.uptime * count / of).saturating_sub(user + system);
        format!("{name} {user} 0 {system} {idle} 0 0 0 0 0 0\n")
    };
    let mut text = line("cpu ", 1);
    for cpu in 0..count {
        text.push_str(&line(&format!("cpu{cpu}"), count));
    }
    let began = now.saturating_sub(time.uptime / 100);
    text.push_str(&format!(
        "intr 0\nctxt 0\nbtime {began}\nprocesses {}\nprocs_running {}\nprocs_blocked {}\nsoftirq 0\n",
        tasks.all, tasks.running, tasks.blocked
    ));
    text
}

/// Means of how many tasks ran or waited, over one, five and fifteen minutes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load(pub [f64; 3]);

impl Load {
    /// Lets some seconds pass in which so many tasks ran or waited.
    pub fn advance(&mut self, seconds: f64, active: f64) {
        for (value, span) in self.0.iter_mut().zip([60.0, 300.0, 900.0]) {
            let keep = (-seconds / span).exp();
            *value = *value * keep + active * (1.0 - keep);
        }
    }

    /// `/proc/loadavg`. Nobody knows the last pid of another pid namespace: it is 0.
    #[must_use]
    pub fn render(&self, tasks: Tasks) -> String {
        let [one, five, fifteen] = self.0;
        format!("{one:.2} {five:.2} {fifteen:.2} {}/{} 0\n", tasks.running, tasks.all)
    }
}

/// `/sys/devices/system/cpu/online`.
#[must_use]
pub fn render_online(cpus: usize) -> String {
    if cpus > 1 { format!("0-{}\n", cpus - 1) } else { "0\n".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "MemTotal:       24000000 kB\nMemFree:        10000000 kB\nMemAvailable:   20000000 kB\n\
                        Buffers:          500000 kB\nCached:          3000000 kB\nSwapTotal:       1000 kB\n\
                        SwapFree:        1000 kB\nHugePages_Total:       0\nHugepagesize:       2048 kB\n";

    fn line(text: &str, name: &str) -> Option<String> {
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
    }

    #[test]
    fn memory_is_what_the_limit_leaves() {
        let parts = Parts { file: 8 << 20, inactive_file: 4 << 20, active_file: 2 << 20, ..Parts::default() };
        let memory = Memory { limit: 64 << 20, usage: 24 << 20, swap_limit: 512 << 10, swap_used: 1024, parts };
        let text = render_meminfo(HOST, &memory);
        let has = |name: &str, value: &str| assert_eq!(line(&text, name).as_deref(), Some(value), "{text}");
        has("MemTotal", "65536 kB");
        has("MemFree", "40960 kB");
        has("MemAvailable", "47104 kB");
        has("Buffers", "0 kB");
        has("Cached", "8192 kB");
        has("SwapTotal", "512 kB");
        has("SwapFree", "511 kB");
        has("HugePages_Total", "0");
        // Without a limit it is the host's, and what is free there.
        let text = render_meminfo(HOST, &Memory { limit: u64::MAX, usage: 1 << 30, ..Memory::default() });
        assert_eq!(line(&text, "MemTotal").as_deref(), Some("24000000 kB"));
        assert_eq!(line(&text, "MemFree").as_deref(), Some("10000000 kB"));
    }

    #[test]
    fn processors_are_numbered_anew() {
        let host = "processor\t: 0\nmodel\t: a\n\nprocessor\t: 1\nmodel\t: b\n\nprocessor\t: 2\nmodel\t: c\n\n";
        let text = render_cpuinfo(host, &[1, 2]);
        assert_eq!(text, "processor\t: 0\nmodel\t: b\n\nprocessor\t: 1\nmodel\t: c\n\n");
        assert_eq!((render_online(1), render_online(3)), ("0\n".to_owned(), "0-2\n".to_owned()));
    }

    #[test]
    fn what_is_not_used_is_idle() {
        let time = Time { user: 100, system: 50, uptime: 1000 };
        let text = render_stat(2, time, Tasks { running: 1, blocked: 0, all: 9 }, 1_000_000);
        let first: Vec<&str> = text.lines().take(3).collect();
        assert_eq!(
            first,
            ["cpu  100 0 50 1850 0 0 0 0 0 0", "cpu0 50 0 25 925 0 0 0 0 0 0", "cpu1 50 0 25 925 0 0 0 0 0 0"]
        );
        assert!(text.contains("btime 999990\n") && text.contains("procs_running 1\n"), "{text}");
    }

    #[test]
    fn load_follows_what_runs() {
        let mut load = Load::default();
        load.advance(600.0, 2.0);
        assert!(load.0[0] > 1.99 && load.0[1] > 1.7 && load.0[2] > 0.9 && load.0[2] < 1.0, "{load:?}");
        load.advance(60.0, 0.0);
        assert_eq!(load.render(Tasks { running: 0, blocked: 0, all: 3 }).split(' ').next(), Some("0.74"));
    }
}
