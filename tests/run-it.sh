#!/bin/sh
# Runs the integration tests; those that fail are run once more, alone, and named at the end either way. They drive whole
# clusters of JVMs against deadlines of clients and brokers, which a machine with other work to do can miss. A defect
# fails twice; a test that needed its second run is worth a look.
# Usage: run-it.sh CARGO [cargo test arguments before --]; TEST_THREADS as in the Makefile.
set -u
cargo=$1
shift
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
{ "$cargo" test "$@" --test it -- --test-threads="${TEST_THREADS:-1}" 2>&1; echo "status $?"; } | tee "$log" | grep --line-buffered -v '^status '
[ "$(sed -n 's/^status //p' "$log" | tail -n 1)" = 0 ] && exit 0
failed=$(sed -n 's/^test \([^ ]*\) \.\.\. .*FAILED$/\1/p; s/^    \([a-z_0-9]*::[a-z_0-9:]*\)$/\1/p' "$log" | sort -u)
if [ -z "$failed" ]; then
    echo "the integration tests did not run" >&2
    exit 1
fi
echo "second run of: $failed"
# shellcheck disable=SC2086
"$cargo" test "$@" --test it -- --test-threads=1 --exact $failed
status=$?
echo "needed a second run: $failed"
exit $status
