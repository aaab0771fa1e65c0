#!/bin/bash
# Makes the cell that a client runs in, in three stages that exec each other; see cell.rs.
#
#   cell.sh enter DIR EXTRA GROUP... -- COMMAND...   joins the groups, leaves the host's mounts
#   cell.sh inside DIR -- COMMAND...                 pid 1's child: private /proc, /sys, /run, /etc, /var, /root
#   cell.sh return DIR EXTRA                         empties and releases the extra hierarchies of a cell that ended
#
# EXTRA lists, by their controllers and with blanks between, the hierarchies that are not mounted under /sys/fs/cgroup.
set -eu -o pipefail
stage=$1 dir=$2
shift 2

# Mounts the v1 hierarchy of these controllers (or of this name) on a folder.
mount_v1() {
    local options=$1
    case $options in name=*) options=none,$options ;; esac
    mkdir -p "$2"
    mount -t cgroup -o "$options" "$1" "$2"
}

case $stage in
enter)
    extra=$1
    shift
    groups=()
    while [ "$1" != -- ]; do
        groups+=("$1")
        shift
    done
    shift
    if [ "${CELL_STAGE:-}" != private ]; then
        # One re-entry: extra hierarchies must be mounted in the host's cgroup namespace, but be seen by nobody else.
        CELL_STAGE=private exec unshare --mount --propagation private -- \
            bash "$0" enter "$dir" "$extra" "${groups[@]}" -- "$@"
    fi
    unset CELL_STAGE
    for controllers in $extra; do
        mount_v1 "$controllers" "$dir/extra/$controllers"
        mkdir "$dir/extra/$controllers/${dir##*/}"
        groups+=("$dir/extra/$controllers/${dir##*/}")
    done
    for group in "${groups[@]}"; do
        echo $$ >"$group/cgroup.procs"
    done
    # The hierarchies of the cell, by the folder that each has under /sys/fs/cgroup.
    printf '%s\n' $extra | sed 's/^name=//' >"$dir/joined"
    printf '%s\n' "${groups[@]}" | cut -d/ -f5 >>"$dir/joined"
    exec unshare --mount --net --pid --uts --ipc --cgroup --fork --kill-child --propagation private -- \
        tini -s -- bash "$0" inside "$dir" -- "$@"
    ;;
inside)
    shift
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t tmpfs -o mode=755 cell /sys/fs/cgroup
    while IFS=: read -r _ controllers _; do
        # A hierarchy that another program makes meanwhile, and in which this cell has no group, stays out of reach.
        at=/sys/fs/cgroup/${controllers#name=}
        [ -n "$controllers" ] || at=/sys/fs/cgroup/unified
        grep -qxF "${at##*/}" "$dir/joined" || continue
        if [ -n "$controllers" ]; then
            mount_v1 "$controllers" "$at"
        else
            mkdir "$at"
            mount -t cgroup2 unified "$at"
        fi
    done </proc/self/cgroup
    mount -t tmpfs -o mode=1777 cell /dev/shm
    mount -t tmpfs -o mode=755 cell /run
    mkdir -p /run/lock
    for top in etc var root; do
        mkdir -p "$dir/upper/$top" "$dir/work/$top"
        chmod --reference="/$top" "$dir/upper/$top"
        mount -t overlay -o "lowerdir=/$top,upperdir=$dir/upper/$top,workdir=$dir/work/$top" cell "/$top"
    done
    hostname cell
    ip link set lo up
    cd "$dir"
    exec "$@"
    ;;
return)
    mount --make-rprivate /
    for controllers in $1; do
        mount_v1 "$controllers" "$dir/extra/$controllers"
        top=$dir/extra/$controllers/${dir##*/}
        [ ! -d "$top" ] || find "$top" -depth -type d -exec rmdir {} \;
        umount "$dir/extra/$controllers"
    done
    ;;
esac
