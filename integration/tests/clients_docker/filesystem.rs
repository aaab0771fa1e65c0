//! The root file system, volumes, temporary file systems, devices, and what is masked.

use std::process::Command;

use anyhow::{Result, ensure};
use integration::cases;
use integration::client::lifecycle::{tmpfs_with_options, volume_is_filled_from_the_image};
use integration::client::{Case, Test};

pub(crate) const CASES: [Case; 20] = cases![
    read_only_root,
    read_only_root_with_tmpfs,
    tmpfs_with_options,
    tmpfs_mount_with_a_size,
    bind_read_write,
    bind_read_only,
    bind_one_file,
    bind_into_proc_is_refused,
    bind_slave_sees_new_mounts,
    bind_private_sees_none,
    bind_shared_shows_mounts,
    volume_is_filled_from_the_image,
    volumes_from_another_container,
    working_directory_is_made,
    shm_size,
    default_devices,
    device_with_access,
    device_rules,
    masked_and_read_only_paths,
    copy_into_a_running_container,
];

fn read_only_root(t: &Test<'_>) -> Result<()> {
    t.fails("run --rm --read-only bb touch /file", "", 1, "read-only file system")?;
    t.prints("run --rm --read-only bb cat /data/from-image", "", "image")
}

fn read_only_root_with_tmpfs(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --read-only --tmpfs /tmp bb sh -c", "echo x > /tmp/file && cat /tmp/file", "x")
}

fn tmpfs_mount_with_a_size(t: &Test<'_>) -> Result<()> {
    let script = "dd if=/dev/zero of=/t/file bs=64k count=32 2>&1 | grep -c 'No space left'; stat -c %a /t";
    t.prints("run --rm --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770 bb sh -c", script, "1\n1770")
}

fn bind_read_write(t: &Test<'_>) -> Result<()> {
    let folder = t.folder()?;
    t.ok(&format!("run --rm -v {}:/v bb sh -c", folder.display()), "echo inside > /v/file")?;
    ensure!(std::fs::read_to_string(folder.join("file"))? == "inside\n", "another text");
    Ok(())
}

fn bind_read_only(t: &Test<'_>) -> Result<()> {
    let folder = t.folder()?;
    std::fs::write(folder.join("file"), "outside\n")?;
    let script = "cat /v/file; touch /v/other 2>&1 | grep -c Read-only";
    t.prints(&format!("run --rm -v {}:/v:ro bb sh -c", folder.display()), script, "outside\n1")
}

fn bind_one_file(t: &Test<'_>) -> Result<()> {
    let file = t.folder()?.join("file");
    std::fs::write(&file, "one\n")?;
    t.prints(&format!("run --rm -v {}:/etc/new/deep:ro bb cat /etc/new/deep", file.display()), "", "one")
}

fn bind_into_proc_is_refused(t: &Test<'_>) -> Result<()> {
    let folder = t.folder()?;
    let done = t.run(&format!("run --rm -v {}:/proc/x bb true", folder.display()), "")?;
    // Docker takes "no such file or directory" in the runtime's message for a missing command.
    ensure!([125, 127].contains(&done.code) && done.err.contains("/proc"), "{done:?}");
    Ok(())
}

/// Gives `body` a folder that is a shared mount point of the cell and has a folder `sub`; unmounts both whatever happens.
fn with_shared_folder<T>(t: &Test<'_>, body: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    let folder = t.folder()?.display().to_string();
    run("mount", &["--bind", &folder, &folder])?;
    let result = run("mount", &["--make-shared", &folder])
        .and_then(|()| Ok(std::fs::create_dir(format!("{folder}/sub"))?))
        .and_then(|()| body(&folder));
    let unmounted = run("umount", &["--recursive", &folder]);
    let result = result?;
    unmounted?;
    Ok(result)
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output()?;
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Starts a container with this propagation, mounts a tmpfs below its volume, and tells whether it shows there.
fn sees_new_mount(t: &Test<'_>, propagation: &str) -> Result<bool> {
    with_shared_folder(t, |folder| {
        t.ok(&format!("run -d --name {{}} -v {folder}:/v:{propagation} bb sleep 1000"), "")?;
        run("mount", &["-t", "tmpfs", "case", &format!("{folder}/sub")])?;
        std::fs::write(format!("{folder}/sub/file"), "x")?;
        let seen = t.run("exec {} test -e /v/sub/file", "")?;
        t.ok("rm -f {}", "")?;
        Ok(seen.code == 0)
    })
}

fn bind_slave_sees_new_mounts(t: &Test<'_>) -> Result<()> {
    ensure!(sees_new_mount(t, "rslave")?, "the mount does not show");
    Ok(())
}

fn bind_private_sees_none(t: &Test<'_>) -> Result<()> {
    ensure!(!sees_new_mount(t, "rprivate")?, "the mount shows");
    Ok(())
}

fn bind_shared_shows_mounts(t: &Test<'_>) -> Result<()> {
    with_shared_folder(t, |folder| {
        let command = format!("run --rm --cap-add SYS_ADMIN -v {folder}:/v:rshared bb mount -t tmpfs case /v/sub");
        t.ok(&command, "")?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        ensure!(mounts.contains(&format!(" {folder}/sub ")), "the mount does not show on the host");
        Ok(())
    })
}

fn volumes_from_another_container(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} -v /shared bb sh -c", "echo x > /shared/file; sleep 1000")?;
    t.prints("run --rm --volumes-from {} bb sh -c", "until cat /shared/file; do sleep 0.1; done 2> /dev/null", "x")
}

fn working_directory_is_made(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm -w /new/folder bb pwd", "", "/new/folder")
}

fn shm_size(t: &Test<'_>) -> Result<()> {
    t.prints("run --rm --shm-size 8m bb sh -c", "df -k /dev/shm | tail -1 | awk '{print $2}'", "8192")
}

fn default_devices(t: &Test<'_>) -> Result<()> {
    let script = "cd /dev; for d in null zero full random urandom tty; do test -c $d || echo no $d; done
        for l in fd stdin stdout stderr ptmx; do test -L $l || echo no $l; done
        test -d shm && test -d mqueue && test -d pts || echo folders; stat -c %a:%t:%T null";
    t.prints("run --rm bb sh -c", script, "666:1:3")
}

fn device_with_access(t: &Test<'_>) -> Result<()> {
    // Not one of the devices that every container may use.
    let script = "(: < /dev/mine) && echo read; (: > /dev/mine) 2>&1 | grep -c 'not permitted'";
    t.prints("run --rm --device /dev/fuse:/dev/mine:r bb sh -c", script, "read\n1")
}

fn device_rules(t: &Test<'_>) -> Result<()> {
    // Opening is what the rules govern; without a driver an allowed open fails in another way.
    let script = "mknod /tmp/d c 10 229 && (: < /tmp/d) 2>&1 | grep -c 'not permitted'";
    t.run("run --rm bb sh -c", script)?.ok()?;
    let words = ["run", "--rm", "--device-cgroup-rule", "c 10:* rmw", "bb", "sh", "-c", script];
    let done = t.words(&words)?;
    ensure!(done.out == "0", "the device is refused: {done:?}");
    Ok(())
}

fn masked_and_read_only_paths(t: &Test<'_>) -> Result<()> {
    let script = "cat /proc/keys | wc -c; ls /proc/acpi /sys/firmware 2>/dev/null | grep -v : | wc -w
        echo 1 2>/dev/null > /proc/sys/kernel/panic || echo sys; test -w /proc/sysrq-trigger -a -c /proc/sysrq-trigger || echo sysrq
        mkdir /sys/fs/cgroup/cpu/x 2>/dev/null || echo cgroup; mkdir /sys/x 2>/dev/null || echo sysfs";
    t.prints("run --rm bb sh -c", script, "0\n0\nsys\nsysrq\ncgroup\nsysfs")
}

fn copy_into_a_running_container(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 1000", "")?;
    let file = t.folder()?.join("file");
    std::fs::write(&file, "copied\n")?;
    t.ok(&format!("cp {} {{}}:/tmp/file", file.display()), "")?;
    t.prints("exec {} cat /tmp/file", "", "copied")
}
