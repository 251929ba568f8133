#!/bin/sh
# 100,000 keys pushed back ten times over; each fires only after its last push.
exec "${STORMWHEEL:-stormwheel}" bench --workload heartbeat --keys 100000 --timers 1000000 \
    --rate 200000 --due-over 5s "$@"
