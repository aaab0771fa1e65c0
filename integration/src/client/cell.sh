#!/bin/bash
# Makes the cell that a client runs in, in three stages that exec each other; see cell.rs.
#
#   cell.sh enter DIR HUGETLB GROUP... -- COMMAND...   joins the groups, leaves the host's mounts
#   cell.sh inside DIR -- COMMAND...                   pid 1's child: private /proc, /sys, /run, /etc, /var, /root
#   cell.sh return DIR                                 empties and releases the hugetlb hierarchy of a cell that ended
set -eu -o pipefail
stage=$1 dir=$2
shift 2

mount_hugetlb() {
    mkdir -p "$dir/hugetlb"
    mount -t cgroup -o hugetlb hugetlb "$dir/hugetlb"
}

case $stage in
enter)
    hugetlb=$1
    shift
    groups=()
    while [ "$1" != -- ]; do
        groups+=("$1")
        shift
    done
    shift
    if [ "${CELL_STAGE:-}" != private ]; then
        # One re-entry: the hugetlb mount must be made in the host's cgroup namespace, but be seen by nobody else.
        CELL_STAGE=private exec unshare --mount --propagation private -- \
            bash "$0" enter "$dir" "$hugetlb" "${groups[@]}" -- "$@"
    fi
    unset CELL_STAGE
    if [ "$hugetlb" = yes ]; then
        mount_hugetlb
        mkdir "$dir/hugetlb/${dir##*/}"
        groups+=("$dir/hugetlb/${dir##*/}")
    fi
    for group in "${groups[@]}"; do
        echo $$ >"$group/cgroup.procs"
    done
    exec unshare --mount --net --pid --uts --ipc --cgroup --fork --kill-child --propagation private -- \
        tini -s -- bash "$0" inside "$dir" -- "$@"
    ;;
inside)
    shift
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t tmpfs -o mode=755 cell /sys/fs/cgroup
    while IFS=: read -r _ controllers _; do
        case $controllers in
        "") at=unified type=cgroup2 options=rw ;;
        name=*) at=${controllers#name=} type=cgroup options=none,$controllers ;;
        *) at=$controllers type=cgroup options=$controllers ;;
        esac
        mkdir "/sys/fs/cgroup/$at"
        mount -t "$type" -o "$options" "$at" "/sys/fs/cgroup/$at"
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
    mount_hugetlb
    find "$dir/hugetlb/${dir##*/}" -depth -type d -exec rmdir {} \;
    umount "$dir/hugetlb"
    ;;
esac
