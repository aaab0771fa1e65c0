//! Containers inside a whole system: run by docker, by podman and by the runtime under test, without a registry.

use std::path::Path;

use integration::defined::{Defined, text};
use integration::host::{end_hidden_hierarchies, within};
use integration::requires::Need;
use integration::systems::services;
use integration::{Sandbox, case_with};
use std::time::Duration;

const NEEDS: [Need; 2] = [Need::Skep, Need::Services];

/// An image with a busybox, in the archive that the engines import; the limit of a container, on v1 or v2.
const IMAGE: &str = "set -e
mkdir -p /tmp/image/bin
cp /bin/busybox /tmp/image/bin
for name in sh echo cat sleep; do ln -s busybox /tmp/image/bin/$name; done
printf '#!/bin/sh\\ncat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max\\n' \
    >/tmp/image/bin/limit
chmod 755 /tmp/image/bin/limit
tar -C /tmp/image -cf /tmp/image.tar .";

const DOCKER: &str = "set -e
docker import /tmp/image.tar bb >/dev/null
docker run --rm bb echo hello
docker run --rm --memory 64m bb limit
docker run --detach --name inner bb sleep 1000 >/dev/null
docker exec inner echo exec
docker rm --force inner >/dev/null
docker info --format '{{.Driver}}'";

const PODMAN: &str = "set -e
podman import --quiet /tmp/image.tar bb >/dev/null
podman run --rm --network none bb echo hello
podman run --rm --network none --memory 64m bb limit
podman run --detach --network none --name inner bb sleep 1000 >/dev/null
podman exec inner echo exec
podman rm --force --time 0 inner >/dev/null
podman info --format '{{.Store.GraphDriverName}}'";

/// An image, the container's own files with changes in memory, and a system in the system.
const SKEP: &str = "set -e
skep image import /tmp/image.tar --name bb:1 >/dev/null
skep create one --from bb:1 --memory 64M -- sh -c 'limit; sleep 1000' >/dev/null
skep start one
skep exec one echo exec
skep stop --time 0 one
skep logs one
skep destroy one
skep create two --from host --ephemeral -- sh -c 'echo hello; sleep 1000' >/dev/null
skep start two
i=0; until skep logs two | grep -q hello || [ $i -gt 100 ]; do i=$((i + 1)); sleep 0.1; done
skep stop --time 0 two
skep logs two
skep create three --from bb:1 --init --privileged -- /bin/sleep 1000 >/dev/null
skep start three
skep exec three sh -c 'echo $PPID'
skep stop --time 0 three
skep destroy two three";

/// What a guest of the kernel's is used for, not only that it is there.
const KERNEL: &str = "set -e
keyctl session - sh -c 'keyctl print $(keyctl add user name value @s)' 2>/dev/null
mkdir /tmp/lower /tmp/upper /tmp/work /tmp/merged
echo below >/tmp/lower/file
fuse-overlayfs -o lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work /tmp/merged
cat /tmp/merged/file
echo above >/tmp/merged/file
cat /tmp/upper/file
fusermount3 -u /tmp/merged
ip tuntap add tun9 mode tun
ip address add 192.0.2.1/24 dev tun9
ip link set tun9 up
ip -brief address show tun9 | grep -o 192.0.2.1/24
su daemon -s /bin/sh -c 'exec 3<>/dev/fuse && echo opened'
unshare --user --map-root-user --pid --fork --mount-proc sh -c 'cat /proc/1/comm'";

/// The runtime under test with its helpers, as a volume: they lie beside it, or below the folder that its own is in.
fn programs(sb: &Sandbox) -> String {
    let own = sb.runtime.path.parent().expect("a folder");
    let both = own.parent().expect("a folder above");
    assert!(own.join("skep-manager").exists() || both.join("libexec").exists(), "no helpers for {own:?}");
    format!("{}:/opt/skep:ro", both.display())
}

/// Its path inside.
fn inside(sb: &Sandbox) -> String {
    let own = sb.runtime.path.parent().and_then(Path::file_name).expect("a folder");
    format!("/opt/skep/{}", text(Path::new(own)))
}

fn runs_engines(options: &[&str]) {
    case_with(&NEEDS, |sb| {
        end_hidden_hierarchies();
        let d = Defined::new(sb);
        let name = d.name("engines");
        let volume = programs(sb);
        let options = [&["--init", "--nesting", "--volume", &volume], options].concat();
        d.create_plain(&name, text(&services().expect("they are needed").join("engines")), &options).ok();
        d.call(&["start", &name]).ok();
        let up = || sb.exec_with(&name, &[], &["systemctl", "is-active", "docker"]).stdout.trim() == "active";
        assert!(within(Duration::from_secs(120), up), "docker is not up: {}", d.call(&["logs", &name]).stdout);
        sb.exec_sh(&name, IMAGE).ok();
        let limit = "67108864";
        assert_eq!(sb.exec_sh(&name, DOCKER).ok(), format!("hello\n{limit}\nexec\noverlay2"));
        assert_eq!(sb.exec_sh(&name, PODMAN).ok(), format!("hello\n{limit}\nexec\noverlay"));
        assert_eq!(
            sb.exec_sh(&name, &format!("PATH={}:$PATH\n{SKEP}", inside(sb))).ok(),
            format!("exec\n{limit}\nhello\n0")
        );
        assert_eq!(sb.exec_sh(&name, KERNEL).ok(), "value\nbelow\nabove\n192.0.2.1/24\nopened\nsh");
        assert_eq!(sb.exec_sh(&name, "systemctl --failed --plain --no-legend").ok(), "");
        d.call(&["stop", "--time", "60", &name]).ok();
        d.call(&["destroy", &name]).ok();
        assert!(!d.folder(&name).exists());
    });
}

#[test]
fn engines_run_containers_inside_a_system_with_a_user_namespace() {
    runs_engines(&[]);
}

#[test]
fn engines_run_containers_inside_a_system_without_a_user_namespace() {
    runs_engines(&["--privileged"]);
}

/// What a container of two user namespaces would take cannot be had, and it is said what can.
#[test]
fn a_system_inside_has_no_ids_to_give_away() {
    case_with(&NEEDS, |sb| {
        let d = Defined::new(sb);
        let name = d.name("outer");
        let volume = programs(sb);
        let options = ["--init", "--volume", &volume];
        d.create(&name, text(&services().expect("they are needed").join("engines")), &options, &["/bin/sleep", "1000"])
            .ok();
        d.call(&["start", &name]).ok();
        let inner = sb.exec_sh(&name, &format!("{}/skep create inner --from host --init --ephemeral", inside(sb)));
        inner.fails_saying("--privileged shares those of this one");
        d.call(&["stop", "--time", "0", &name]).ok();
    });
}
