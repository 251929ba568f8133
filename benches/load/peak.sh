#!/bin/sh
# Peak registration: NDJSON and Arrow over one pair of connections, single requests over 64.
set -e
bench() { "${STORMWHEEL:-stormwheel}" bench --closed --lead 5s --due-over 10s "$@"; }
bench --format ndjson --timers 3000000 "$@"
bench --format arrow --timers 5000000 "$@"
bench --format single --timers 500000 --connections 64 "$@"
