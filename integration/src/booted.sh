# Boots systemd as the first process of namespaces, on the machine's own v1 hierarchies.
#
# usage: sh -c SCRIPT booted OPTIONS GROUP...
# OPTIONS are words for systemd's command line; each GROUP is a folder that is to be the top of its hierarchy inside.
set -eu
if [ "${INSIDE:-}" != yes ]; then
    options=$1
    shift
    KNOWN=
    for group in "$@"; do
        echo 0 >"$group/cgroup.procs"
        KNOWN="$KNOWN $(basename "$(dirname "$group")") "
    done
    export INSIDE=yes KNOWN
    exec unshare --mount --uts --ipc --net --pid --cgroup --fork --kill-child sh -c "$SCRIPT" booted "$options"
fi
options=$1
mount --make-rprivate /
mount -t proc proc /proc
# Read-only: udevd does not start then, and nothing of the machine can be changed through it.
mount -t sysfs -o ro sysfs /sys
mount -t tmpfs -o mode=755 cgroups /sys/fs/cgroup
while IFS=: read -r _ controllers _; do
    case $controllers in
    '') continue ;;
    name=*) name=${controllers#name=} mounted=none,$controllers ;;
    *) name=$controllers mounted=$controllers ;;
    esac
    # One that another test has mounted for itself would stay for as long as groups are left in it.
    case $KNOWN in *" $name "*) ;; *) continue ;; esac
    mkdir "/sys/fs/cgroup/$name"
    mount -t cgroup -o "$mounted" cgroup "/sys/fs/cgroup/$name"
done </proc/self/cgroup
mount -t tmpfs -o mode=755 dev /dev
mkdir /dev/pts /dev/shm
while read -r name minor major; do
    mknod -m 666 "/dev/$name" c "$major" "$minor"
done <<NODES
null 3 1
zero 5 1
full 7 1
random 8 1
urandom 9 1
tty 0 5
NODES
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts /dev/pts
ln -s pts/ptmx /dev/ptmx
ln -s /proc/self/fd /dev/fd
: >/dev/console
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/systemd/system /run/dbus
# A bus and nothing else: what the machine has installed does not start.
cat >/run/systemd/system/booted.target <<UNIT
[Unit]
DefaultDependencies=no
Requires=dbus.socket
After=dbus.socket
AllowIsolate=yes
UNIT
cat >/run/systemd/system/dbus.socket <<UNIT
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
UNIT
cat >/run/systemd/system/dbus.service <<UNIT
[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only
UNIT
# shellcheck disable=SC2086
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd systemd.unit=booted.target systemd.log_target=null $options
