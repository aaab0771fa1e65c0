# Makes root file systems with systemd and a service, of Debian's packages: each is a copy of the small one with systemd, whose
# files are hard links.
#
# usage: sh -eu services.sh FOLDER BASE    FOLDER is not there yet; BASE is the root file system with systemd
folder=$1
base=$2
mkdir "$folder"

# The base has no proxy or mirror of its own but what its first installation noted.
apt-config dump | grep '^Acquire::.*::Proxy' >"$folder/proxy" || :

add() { # name, package...
    root=$folder/$1
    shift
    cp -al "$base" "$root"
    # Nothing is started. What a package writes to in place is not a link any more.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    for path in var/log etc usr/share/postgresql-common; do
        [ ! -e "$base/$path" ] || cp -a --remove-destination "$base/$path/." "$root/$path"
    done
    cp "$folder/proxy" "$root/etc/apt/apt.conf.d/00-proxy"
    unshare --mount sh -euc '
        mount -t proc proc "$1/proc"
        root=$1
        shift
        export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
        chroot "$root" apt-get -q update
        exec chroot "$root" apt-get -q -y --no-install-recommends -o APT::Sandbox::User=root install "$@"
    ' add "$root" "$@" </dev/null
    rm "$root/usr/sbin/policy-rc.d" "$root/etc/apt/apt.conf.d/00-proxy"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
}
add postgres postgresql-15 procps
# Nobody has to log in to be let in by the test, on the machine's own socket and over its network.
printf 'local all all trust\nhost all all 0.0.0.0/0 trust\n' >"$folder/postgres/etc/postgresql/15/main/pg_hba.conf"
printf "listen_addresses = '*'\n" >"$folder/postgres/etc/postgresql/15/main/conf.d/test.conf"

add engines docker.io podman crun uidmap fuse-overlayfs fuse3 iproute2 iptables keyutils procps busybox-static
rm "$folder/proxy"
