//! Resources: set at the start, changed on a running container, and enforced.

use anyhow::{Result, ensure};
use integration::cases;
use integration::client::leftovers::remove_groups;
use integration::client::{Case, Test, lacks_resource_capability};

use crate::security::refused;

pub(crate) const CASES: [Case; 18] = cases![
    memory,
    memory_reservation_and_swappiness,
    memory_is_enforced,
    memory_without_killer,
    cpus,
    cpu_shares_and_quota,
    cpuset,
    pids_limit,
    device_rates,
    ulimits,
    ulimit_above_the_hard_limit,
    oom_score_up,
    oom_score_down,
    update_memory,
    update_cpus,
    update_pids_limit,
    update_refuses_less_than_used,
    cgroup_parent,
];

fn memory(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --memory 64m bb cat /sys/fs/cgroup/memory/memory.limit_in_bytes", "", "67108864")
}

fn memory_reservation_and_swappiness(t: &Test<'_>) -> Result<()> {
    let script = "cd /sys/fs/cgroup/memory; cat memory.soft_limit_in_bytes memory.swappiness";
    let command = "run --rm --memory 64m --memory-reservation 32m --memory-swappiness 7 bb sh -c";
    t.prints(command, script, "33554432\n7")
}

fn memory_is_enforced(t: &Test<'_>) -> Result<()> {
    let command = "run --name {} --memory 16m --memory-swap 16m bb sh -c";
    // A child is killed and the first process lives on for a second: containerd's shim drops the news of a kill when the
    // group has gone before it looks, and it has gone within a millisecond of the end of the first process.
    let script = "(x=$(head -c 100m /dev/zero | tr '\\0' x); echo survived); status=$?; sleep 1; exit $status";
    t.run(command, script)?.code(137)?;
    t.prints("inspect --format {{.State.OOMKilled}} {}", "", "true")
}

fn memory_without_killer(t: &Test<'_>) -> Result<()> {
    let command =
        "run --rm --memory 32m --oom-kill-disable bb grep oom_kill_disable /sys/fs/cgroup/memory/memory.oom_control";
    t.prints(command, "", "oom_kill_disable 1")
}

fn cpus(t: &Test<'_>) -> Result<()> {
    t.prints(
        "run --rm --cpus 0.5 bb sh -c",
        "cd /sys/fs/cgroup/cpu; cat cpu.cfs_quota_us cpu.cfs_period_us",
        "50000\n100000",
    )
}

fn cpu_shares_and_quota(t: &Test<'_>) -> Result<()> {
    let script = "cd /sys/fs/cgroup/cpu; cat cpu.shares cpu.cfs_quota_us cpu.cfs_period_us";
    t.prints("run --rm --cpu-shares 512 --cpu-quota 20000 --cpu-period 50000 bb sh -c", script, "512\n20000\n50000")
}

fn cpuset(t: &Test<'_>) -> Result<()> {
    let script = "cat /sys/fs/cgroup/cpuset/cpuset.cpus; grep Cpus_allowed_list /proc/self/status | cut -f2";
    t.prints("run --rm --cpuset-cpus 0 --cpuset-mems 0 bb sh -c", script, "0\n0")
}

fn pids_limit(t: &Test<'_>) -> Result<()> {
    let script = "cat /sys/fs/cgroup/pids/pids.max; (for i in $(seq 20); do sleep 1 & done) 2>&1 | grep -c fork";
    let got = t.run("run --rm --pids-limit 8 bb sh -c", script)?;
    ensure!(got.out.starts_with("8\n") && !got.out.ends_with("\n0"), "{got:?}");
    Ok(())
}

fn device_rates(t: &Test<'_>) -> Result<()> {
    let script =
        "cd /sys/fs/cgroup/blkio; cut -d' ' -f2 blkio.throttle.read_bps_device blkio.throttle.write_iops_device";
    let Some(disk) = whole_disk()? else {
        anyhow::bail!("no disk in /sys/block to set a rate for");
    };
    let command = format!("run --rm --device-read-bps {disk}:1mb --device-write-iops {disk}:100 bb sh -c");
    t.prints(&command, script, "1048576\n100")
}

/// The first block device of this machine that has a node in /dev.
fn whole_disk() -> Result<Option<String>> {
    for entry in std::fs::read_dir("/sys/block")? {
        let path = format!("/dev/{}", entry?.file_name().to_string_lossy());
        if std::path::Path::new(&path).exists() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn ulimits(t: &Test<'_>) -> Result<()> {
    t.prints(
        "run --rm --ulimit nofile=64:128 --ulimit core=0 bb sh -c",
        "ulimit -Sn; ulimit -Hn; ulimit -c",
        "64\n128\n0",
    )
}

fn ulimit_above_the_hard_limit(t: &Test<'_>) -> Result<()> {
    // Above the kernel's fs.nr_open no capability helps.
    let above = std::fs::read_to_string("/proc/sys/fs/nr_open")?.trim().parse::<u64>()? + 1;
    refused(t, &format!("run --rm --ulimit nofile={above}:{above} bb true"))
}

fn oom_score_up(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --oom-score-adj 500 bb cat /proc/self/oom_score_adj", "", "500")
}

fn oom_score_down(t: &Test<'_>) -> Result<()> {
    let command = "run --rm --oom-score-adj -500 bb cat /proc/self/oom_score_adj";
    if lacks_resource_capability()? {
        return refused(t, command);
    }
    t.prints(command, "", "-500")
}

fn update_memory(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} --memory 64m --memory-swap 64m bb sleep 1000", "")?;
    t.ok("update --memory 128m --memory-swap 128m {}", "")?;
    t.prints("exec {} cat /sys/fs/cgroup/memory/memory.limit_in_bytes", "", "134217728")?;
    t.ok("update --memory 32m --memory-swap 32m {}", "")?;
    t.prints("exec {} cat /sys/fs/cgroup/memory/memory.limit_in_bytes", "", "33554432")
}

fn update_cpus(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 1000", "")?;
    t.ok("update --cpus 0.25 --cpu-shares 256 --cpuset-cpus 0 {}", "")?;
    let script = "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us cpu/cpu.shares cpuset/cpuset.cpus";
    t.prints("exec {} sh -c", script, "25000\n256\n0")
}

fn update_pids_limit(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} --pids-limit 10 bb sleep 1000", "")?;
    t.ok("update --pids-limit 20 {}", "")?;
    t.prints("exec {} cat /sys/fs/cgroup/pids/pids.max", "", "20")
}

fn update_refuses_less_than_used(t: &Test<'_>) -> Result<()> {
    let command = "run -d --name {} --memory 256m --memory-swap 256m bb sh -c";
    t.ok(command, "head -c 40m /dev/zero > /dev/shm/file; echo full; sleep 1000")?;
    t.until_prints("logs {}", "full")?;
    let done = t.run("update --memory 8m --memory-swap 8m {}", "")?;
    ensure!(done.code == 1, "a limit below what is used was taken: {done:?}");
    t.prints("exec {} cat /sys/fs/cgroup/memory/memory.limit_in_bytes", "", "268435456")?;
    t.prints("inspect --format {{.State.Running}} {}", "", "true")
}

fn cgroup_parent(t: &Test<'_>) -> Result<()> {
    let id = t.ok("run -d --name {} --cgroup-parent /docker/nested bb sleep 1000", "")?;
    t.prints("exec {} sh -c", "cut -d: -f3 /proc/1/cgroup | sort -u", &format!("/docker/nested/{id}"))?;
    t.ok("rm -f {}", "")?;
    // A parent that the runtime made stays, as with the client's own.
    remove_groups("docker/nested")
}
