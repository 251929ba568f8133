#!/bin/sh
# A million timers, seven of eight cancelled right after; only the eighth may fire.
exec "${STORMWHEEL:-stormwheel}" bench --closed --workload cancel --timers 1000000 --due-over 10s "$@"
