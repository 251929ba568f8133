#!/bin/sh
# A million timers over NDJSON, due over a minute: each fires once, none early, p99 lateness in ms.
exec "${STORMWHEEL:-stormwheel}" bench --closed --workload uniform --timers 1000000 --due-over 60s "$@"
