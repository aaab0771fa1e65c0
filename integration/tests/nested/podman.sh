# In a privileged container: podman, whose runtime is the one that runs this container.
set -eu
podman() {
    command podman --root /run/graph --runroot /run/podman --storage-driver vfs --runtime /runtime \
        --cgroup-manager cgroupfs --events-backend file "$@"
}
limits="--ulimit nofile=1024:20000 --ulimit nproc=4096:32768"
podman load --quiet --input /image.tar >/dev/null
podman run --rm --network none $limits bb echo hello
podman run --rm --network none $limits --memory 64m bb cat /sys/fs/cgroup/memory/memory.limit_in_bytes
podman run --detach --network none $limits --name inner bb sleep 1000 >/dev/null
podman exec inner echo exec
podman rm --force --time 0 inner >/dev/null
echo "groups left: $(find /sys/fs/cgroup -type d -name 'libpod-*')"
