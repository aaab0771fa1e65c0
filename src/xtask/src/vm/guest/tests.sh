#!/bin/bash
# Runs test programs one after the other. `tests` lists them with the seconds that each may take; what one prints is in
# out/NAME.log, and a line on the console says how it ended.
set -a
. ./environment
set +a
while read -r name seconds; do
    begin=$SECONDS
    timeout --kill-after=10 "$seconds" "./$name" --show-output --test-threads="$TEST_THREADS" ${FILTER:+"$FILTER"} \
        >"out/$name.log" 2>&1
    code=$?
    echo "$code" >"out/$name.code"
    echo "TESTS-ENDED $name $code $((SECONDS - begin))"
done <tests
exit 0
