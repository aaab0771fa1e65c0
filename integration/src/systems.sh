# Makes the root file systems of the tests for whole systems, of Debian's packages: one small installation, and a copy of it
# for each init, whose files are hard links to those of the first.
#
# usage: sh -eu systems.sh FOLDER    the folder is not there yet
folder=$1
suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
# How this machine reaches its mirrors.
set -- --mode=root --variant=minbase --format=directory --skip=cleanup/apt/lists
apt-config dump | grep '^Acquire::.*::Proxy' >"$folder.proxy" || :
while read -r line; do
    set -- "$@" "--aptopt=${line%;}"
done <"$folder.proxy"
rm "$folder.proxy"
mkdir "$folder"
prepare() { # name
    # A login at the console needs no password.
    chroot "$folder/$1" passwd -q -d root
    rm -f "$folder/$1/etc/machine-id" "$folder/$1/etc/hostname"
    cp -L /etc/resolv.conf "$folder/$1/etc/resolv.conf"
}
mmdebstrap "$@" --include=login "$suite" "$folder/base"
prepare base

add() { # name, base, package...
    root=$folder/$1
    base=$2
    shift 2
    cp -al "$folder/$base" "$root"
    # Nothing is started. What a package writes to in place is not a link any more.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    cp -a --remove-destination "$folder/$base/var/log" "$root/var"
    unshare --mount sh -euc '
        mount -t proc proc "$1/proc"
        root=$1
        shift
        export DEBIAN_FRONTEND=noninteractive
        exec chroot "$root" apt-get -q -y --no-install-recommends -o APT::Sandbox::User=root \
            -o Acquire::Check-Valid-Until=false install "$@"
    ' add "$root" "$@" </dev/null
    rm "$root/usr/sbin/policy-rc.d"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
}
add systemd base systemd-sysv dbus
add sysvinit base sysvinit-core
add openrc base sysvinit-core openrc
add runit base runit-init
add s6 base s6
add busybox base busybox

# The newest systemd that there is. The release changes every day: it may just not be installable, and a mirror may lag behind.
newest() {
    mmdebstrap "$@" '--aptopt=Acquire::Check-Valid-Until "false"' --include=login,passwd sid "$folder/newest-base" &&
        (set -e; prepare newest-base; add newest newest-base systemd-sysv dbus)
}
newest "$@" || rm -rf --one-file-system "$folder/newest"

# The supervisor alone is no init: this one starts nothing but a shell at the console.
mkdir -p "$folder/s6/etc/s6/shell" "$folder/s6/etc/s6/.s6-svscan"
printf '#!/bin/sh\nexec setsid -c sh -i </dev/console >/dev/console 2>&1\n' >"$folder/s6/etc/s6/shell/run"
printf '#!/bin/sh\nexit 0\n' >"$folder/s6/etc/s6/.s6-svscan/finish"
chmod 755 "$folder/s6/etc/s6/shell/run" "$folder/s6/etc/s6/.s6-svscan/finish"
# The service folder is written to.
printf '#!/bin/sh\ncp -r /etc/s6 /run/service\nexec s6-svscan /run/service\n' >"$folder/s6/sbin/init"
chmod 755 "$folder/s6/sbin/init"
ln -s /bin/busybox "$folder/busybox/sbin/init"
printf '::respawn:-/bin/sh\n' >"$folder/busybox/etc/inittab"
