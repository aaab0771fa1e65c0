#!/bin/bash
# Runs test programs of the field's suites one after the other, in this machine or in the virtual one. `steps` lists them:
# suite, name, the seconds that it may take, and tests to leave out, which only crun's have. What one prints is in
# out/SUITE.NAME.tap, its exit code beside it.
set -a
. ./environment
set +a
job=$PWD
PATH=$job/shim:$PATH
runtime=$job/runtime/$RUNTIME_NAME
# The machine that is thrown away sends each result at once, so that one that dies later has told it.
port=
if [ "$LANE" != native ]; then
    port=$(dirname "$(grep -lx results /sys/class/virtio-ports/*/name)")
fi

mkdir -p shim
ln -sfn "$runtime" shim/runc

perform() { # suite, name, tests to leave out: in the folder and with the variables that the suite wants
    case $1 in
    runtime-tools)
        cd "$job/runtime-tools" || return 125
        RUNTIME=$runtime "./bin/$2"
        ;;
    runc | runc-systemd)
        cd "$job/runc/tests/integration" || return 125
        [ "$1" = runc ] || export RUNC_USE_SYSTEMD=yes
        # skep writes runc's own name in its texts when it is called so.
        RUNC=$job/shim/runc bats --formatter tap "$2.bats"
        ;;
    crun | crun-systemd)
        cd "$job/crun" || return 125
        [ "$1" = crun ] || export CGROUP_MANAGER=systemd
        OCI_RUNTIME=$runtime INIT=$job/crun/tests/init PYTHONPATH=tests python3 -c "$WITHOUT" "${@:2}"
        ;;
    esac
}
export -f perform
# One of crun's files, less some of its tests.
export WITHOUT='
import os, sys
sys.path.append(os.environ["job"] + "/python")
module = __import__(sys.argv[1])
left = {name: test for name, test in module.all_tests.items() if name not in sys.argv[2:]}
module.tests_main(left)
'
export job runtime

while read -r suite name seconds without; do
    begin=$SECONDS
    timeout --kill-after=10 "$seconds" bash -c 'perform "$@"' _ "$suite" "$name" $without >"out/$suite.$name.tap" 2>&1 </dev/null
    code=$?
    echo "$code" >"out/$suite.$name.code"
    [ -z "$port" ] || tar -C out -cf "/dev/${port##*/}" "$suite.$name.tap" "$suite.$name.code"
    echo "STEP-ENDED $suite $name $code $((SECONDS - begin))"
done <steps
exit 0
