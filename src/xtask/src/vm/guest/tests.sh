#!/bin/bash
# Runs test programs one after the other. `tests` lists them with the seconds that each may take and words of tests to leave
# out; what one prints is in out/NAME.log, and a line on the console says how it ended. Each result leaves at once: a machine that dies later has told it.
set -a
. ./environment
set +a
# Disks that were plugged in a moment ago, with root file systems.
for disk in $DISKS; do
    label=${disk%%:*}
    for ((tries = 0; tries < 300; tries++)); do
        ! blkid -L "$label" >/dev/null || break
        sleep 0.1
    done
    mkdir -p "/srv/$label"
    if ! mount -o ro "LABEL=$label" "/srv/$label"; then
        echo "TESTS-BROKEN the disk $label cannot be mounted"
        exit 1
    fi
done
port=$(dirname "$(grep -lx results /sys/class/virtio-ports/*/name)")
while read -r name seconds words; do
    begin=$SECONDS
    skips=()
    for word in $words; do
        skips+=(--skip "$word")
    done
    timeout --kill-after=10 "$seconds" "./$name" --show-output --test-threads="$TEST_THREADS" "${skips[@]}" \
        ${FILTER:+"$FILTER"} >"out/$name.log" 2>&1
    code=$?
    echo "$code" >"out/$name.code"
    tar -C out -cf "/dev/${port##*/}" "$name.log" "$name.code"
    grep -a '^test .* FAILED$' "out/$name.log" | sed "s/^test \(.*\) \.\.\. .*/TESTS-FAILED $name \1/"
    echo "TESTS-ENDED $name $code $((SECONDS - begin))"
done <tests
exit 0
