//! The runtime under test inside a docker container: what a build service or a test machine does.

use std::path::Path;

use anyhow::{Result, ensure};
use integration::bundle::{Bundle, default_spec};
use integration::cases;
use integration::client::{Case, Done, Test};
use serde_json::json;

pub(crate) const CASES: [Case; 6] = cases![
    runtime_inside,
    runtime_inside_with_own_cgroup_namespace,
    runtime_inside_with_the_machine_s_cgroups,
    runtime_inside_read_only_cgroups,
    runtime_inside_with_user_namespace,
    runtime_inside_with_user_namespace_below_a_covered_proc,
];

/// Makes the cgroup file systems writable, as a privileged container has them.
const WRITABLE: &str = "for at in /sys/fs/cgroup/*; do mount -o remount,bind,rw $at; done; ";

/// Runs the inner container, then tells what it left. Other cases run at the same time, so its name has the case's in it,
/// and groups of theirs may go while find(1) looks at them, which it takes for a failure.
const RUN: &str = "/runtime --root /tmp/state run --bundle /bundle inner-{} && ls /tmp/state && \
                   { find /sys/fs/cgroup/*/ -type d -name inner-{} 2>/dev/null; true; }";

/// Gives the inner container a user namespace, with ids that this machine's root has.
fn with_user_namespace(bundle: Bundle) -> Bundle {
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    bundle.namespace("user", None).set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map)
}

/// Runs a shell script in a container that has the runtime, its libraries and a bundle whose container says hello.
///
/// Mounting needs CAP_SYS_ADMIN, bringing the loopback device up CAP_NET_ADMIN. Not `--privileged`: a machine whose root
/// lacks a capability refuses that.
fn run(t: &Test<'_>, options: &[&str], script: &str, change: fn(Bundle) -> Bundle) -> Result<Done> {
    let dir = t.folder()?;
    let bundle = Bundle { id: "inner".to_owned(), dir: dir.clone(), spec: default_spec() }
        .sh("echo hello from $(hostname); grep :memory: /proc/self/cgroup | grep -o '[^/]*$'")
        .without_namespace("cgroup");
    change(bundle).write();
    let mut volumes = vec![
        format!("--volume={}:/runtime:ro", t.cell.runtime.path.display()),
        format!("--volume={}:/bundle", dir.display()),
        format!("--volume={}:/bundle/rootfs", t.cell.dir.join("image/root").display()),
    ];
    let libraries = ["/lib", "/lib64"].iter().filter(|path| Path::new(path).is_dir());
    volumes.extend(libraries.map(|path| format!("--volume={path}:{path}:ro")));
    let mut words = vec!["run", "--rm", "--name={}", "--network=none", "--security-opt=seccomp=unconfined"];
    words.extend(["--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN"]);
    words.extend(volumes.iter().map(String::as_str));
    words.extend(options);
    words.extend(["bb", "sh", "-c", script]);
    t.words(&words)
}

fn runs(t: &Test<'_>, options: &[&str], script: &str) -> Result<()> {
    let got = run(t, options, script, |bundle| bundle)?.ok()?;
    ensure!(got == format!("hello from skep-test\ninner-{}", t.name), "it printed {got:?}");
    Ok(())
}

/// The paths in `/proc/self/cgroup` begin with the docker container's group, and so do the mounts.
fn runtime_inside(t: &Test<'_>) -> Result<()> {
    runs(t, &["--cgroupns=host"], &format!("{WRITABLE}{RUN}"))
}

fn runtime_inside_with_own_cgroup_namespace(t: &Test<'_>) -> Result<()> {
    runs(t, &["--cgroupns=private"], &format!("{WRITABLE}{RUN}"))
}

fn runtime_inside_with_the_machine_s_cgroups(t: &Test<'_>) -> Result<()> {
    runs(t, &["--cgroupns=host", "--volume=/sys/fs/cgroup:/sys/fs/cgroup"], RUN)
}

/// Docker's default. Limits could not apply, so it is an error that names the path, and not a container without limits.
fn runtime_inside_read_only_cgroups(t: &Test<'_>) -> Result<()> {
    let script = "/runtime --root /tmp/state run --bundle /bundle inner-{}; echo ended with $?; ls /tmp/state";
    let done = run(t, &["--cgroupns=host"], script, |bundle| bundle)?;
    let said = done.err.to_lowercase();
    ensure!(done.out == "ended with 1" && said.contains("read-only file system"), "{done:?}");
    ensure!(said.contains("/sys/fs/cgroup/"), "no path in: {said}");
    Ok(())
}

fn runtime_inside_with_user_namespace(t: &Test<'_>) -> Result<()> {
    let options = ["--cgroupns=host", "--security-opt=systempaths=unconfined"];
    let got = run(t, &options, &format!("{WRITABLE}{RUN}"), with_user_namespace)?.ok()?;
    ensure!(got == format!("hello from skep-test\ninner-{}", t.name), "it printed {got:?}");
    Ok(())
}

/// Docker covers parts of `/proc`, and the kernel lets a new user namespace see no more of it by a mount of its own.
fn runtime_inside_with_user_namespace_below_a_covered_proc(t: &Test<'_>) -> Result<()> {
    let script = format!(
        "{WRITABLE} /runtime --root /tmp/state run --bundle /bundle inner-{{}}; echo ended with $?; \
                          ls /tmp/state; find /sys/fs/cgroup/*/ -type d -name inner-{{}}"
    );
    let done = run(t, &["--cgroupns=host"], &script, with_user_namespace)?;
    ensure!(done.out == "ended with 1" && done.err.contains("proc"), "{done:?}");
    ensure!(done.err.to_lowercase().contains("operation not permitted"), "{done:?}");
    Ok(())
}
