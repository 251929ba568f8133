#!/bin/sh
# Ten thousand namespaces with ten timers each: what the server takes for them, and the first fire.
exec "${STORMWHEEL:-stormwheel}" bench --workload namespaces --namespaces 10000 --due-over 10s "$@"
