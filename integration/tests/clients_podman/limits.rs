//! Resources and file systems: set at the start, changed on a running container, enforced.

use anyhow::{Result, ensure};
use integration::cases;
use integration::client::lifecycle::{tmpfs_with_options, volume_is_filled_from_the_image};
use integration::client::{Case, Test, lacks_resource_capability};

pub(crate) const CASES: [Case; 16] = cases![
    memory_and_cpus,
    memory_is_enforced,
    pids_limit,
    update_changes_limits,
    stats_of_a_running_container,
    limits_of_the_distribution,
    ulimits,
    read_only_root,
    tmpfs_with_options,
    tmpfs_takes_the_image_files,
    bind_read_only_and_read_write,
    volume_is_filled_from_the_image,
    device_with_access,
    root_file_system_from_a_folder,
    copy_into_and_out,
    mount_options_of_volumes,
];

fn memory_and_cpus(t: &Test<'_>) -> Result<()> {
    let script =
        "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.shares cpuset/cpuset.cpus";
    t.prints(
        "run --rm --memory 64m --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 bb sh -c",
        script,
        "67108864\n50000\n512\n0",
    )
}

fn memory_is_enforced(t: &Test<'_>) -> Result<()> {
    let command = "run --name {} --memory 16m --memory-swap 16m bb sh -c";
    t.run(command, "x=$(head -c 100m /dev/zero | tr '\\0' x); echo survived")?.code(137).map(drop)
}

fn pids_limit(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --pids-limit 8 bb cat /sys/fs/cgroup/pids/pids.max", "", "8")
}

fn update_changes_limits(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 1000", "")?;
    t.ok("update --memory 100m --cpus 0.25 --cpuset-cpus 0 --cpu-shares 256 {}", "")?;
    let script =
        "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpuset/cpuset.cpus cpu/cpu.shares";
    t.prints("exec {} sh -c", script, "104857600\n25000\n0\n256")
}

fn stats_of_a_running_container(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} --memory 64m bb sleep 1000", "")?;
    let text = t.ok("stats --no-stream --no-reset --format {{.PIDs}}/{{.MemUsage}} {}", "")?;
    ensure!(text.starts_with("1/") && text.contains("67.11MB"), "{text}");
    Ok(())
}

fn limits_of_the_distribution(t: &Test<'_>) -> Result<()> {
    let command = "run --rm --ulimit nofile=1048576:1048576 bb sh -c";
    if lacks_resource_capability()? {
        let done = t.run(command, "ulimit -n")?;
        ensure!((125..=127).contains(&done.code) && !done.out.contains("1048576"), "{done:?}");
        return Ok(());
    }
    t.prints(command, "ulimit -n", "1048576")
}

fn ulimits(t: &Test<'_>) -> Result<()> {
    // With any limit given, podman raises the number of processes unless that is given too.
    let command = "run --rm --ulimit nofile=64:128 --ulimit core=0 --ulimit nproc=4096:32768 bb sh -c";
    t.prints(command, "ulimit -Sn; ulimit -Hn; ulimit -c", "64\n128\n0")
}

fn read_only_root(t: &Test<'_>) -> Result<()> {
    let script = "touch /file 2>&1 | grep -c Read-only; echo x > /tmp/file && cat /tmp/file";
    t.prints("run --rm --read-only bb sh -c", script, "1\nx")
}

fn tmpfs_takes_the_image_files(t: &Test<'_>) -> Result<()> {
    let script = "cat /data/from-image; grep -c '^tmpfs /data tmpfs' /proc/mounts";
    t.prints("run --rm --tmpfs /data bb sh -c", script, "image\n1")
}

fn bind_read_only_and_read_write(t: &Test<'_>) -> Result<()> {
    let folder = t.folder()?.display().to_string();
    let script = "echo inside > /rw/file; cat /ro/file; touch /ro/other 2>&1 | grep -c Read-only";
    t.prints(&format!("run --rm -v {folder}:/rw -v {folder}:/ro:ro bb sh -c"), script, "inside\n1")
}

fn device_with_access(t: &Test<'_>) -> Result<()> {
    let script = "(: < /dev/mine) && echo read; (: > /dev/mine) 2>&1 | grep -c 'not permitted'";
    t.prints("run --rm --device /dev/fuse:/dev/mine:r bb sh -c", script, "read\n1")
}

fn root_file_system_from_a_folder(t: &Test<'_>) -> Result<()> {
    let root = t.cell.dir.join("image/root");
    t.prints(&format!("run --rm --read-only --rootfs {} cat /data/from-image", root.display()), "", "image")
}

fn copy_into_and_out(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 1000", "")?;
    let file = t.folder()?.join("file");
    std::fs::write(&file, "copied\n")?;
    t.ok(&format!("cp {} {{}}:/tmp/file", file.display()), "")?;
    t.prints("exec {} cat /tmp/file", "", "copied")
}

fn mount_options_of_volumes(t: &Test<'_>) -> Result<()> {
    let folder = t.folder()?.display().to_string();
    let script = "grep ' /v ' /proc/mounts | cut -d' ' -f4 | tr , '\\n' | grep -cE '^(nosuid|nodev|noexec)$'";
    t.prints(&format!("run --rm -v {folder}:/v:nosuid,nodev,noexec bb sh -c"), script, "3")
}
