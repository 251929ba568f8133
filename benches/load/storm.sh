#!/bin/sh
# A million timers at one millisecond, probed meanwhile; another namespace fires on time.
exec "${STORMWHEEL:-stormwheel}" bench --closed --workload storm --timers 1000000 "$@"
