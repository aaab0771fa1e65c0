# In a privileged container: a docker of its own whose runtime is the one that runs this container.
set -eu
trap '[ $? = 0 ] || cat /run/dockerd.log >&2' EXIT
dockerd --data-root /run/data --exec-root /run/docker --pidfile /run/docker.pid --host unix:///run/docker.sock \
    --bridge none --iptables=false --storage-driver vfs \
    --default-runtime test --add-runtime test=/runtime >/run/dockerd.log 2>&1 &
daemon=$!
tries=0
until docker version >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] && kill -0 $daemon
    sleep 0.2
done
docker load --quiet --input /image.tar >/dev/null
docker run --rm --network none bb echo hello
docker run --rm --network none --memory 64m bb cat /sys/fs/cgroup/memory/memory.limit_in_bytes
docker run --detach --network none --name inner bb sleep 1000 >/dev/null
docker exec inner echo exec
docker rm --force inner >/dev/null
echo "groups left: $(find /sys/fs/cgroup/*/docker -mindepth 1 -type d)"
echo "states left: $(ls /run/docker/runtime-*/moby)"
kill $daemon
wait $daemon
