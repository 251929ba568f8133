#!/usr/bin/env bash
# Makes docs/images/dashboard.svg anew: a real server under a mixed load of some three minutes, a real
# Prometheus beside it, and the dashboard's own queries drawn by render.py.
set -euo pipefail
cd "$(dirname "$0")/.."

server_port=${SERVER_PORT:-7480}
prometheus_port=${PROMETHEUS_PORT:-9480}
server=http://127.0.0.1:$server_port
folder=$(mktemp -d)
started=()

finish() {
    for process in "${started[@]}"; do
        kill -KILL "$process" 2>/dev/null || true
    done
    wait
    rm -rf "$folder"
}
trap finish EXIT

wait_for() {
    until curl -sf -o "$folder/answer" "$1"; do
        sleep 0.2
    done
}

command -v prometheus >/dev/null || { echo "picture: apt-get install prometheus" >&2; exit 1; }
if [ -z "${STORMWHEEL:-}" ]; then
    cargo build --release -p stormwheel-server
    STORMWHEEL=$(realpath "${CARGO_TARGET_DIR:-target}")/release/stormwheel
fi

sed -e "s/127.0.0.1:7400/127.0.0.1:$server_port/" -e 's/scrape_interval: 5s/scrape_interval: 1s/' \
    -e "s|rules/|$PWD/dashboards/rules/|" dashboards/prometheus.yml >"$folder/prometheus.yml"
(cd "$folder" && exec "$STORMWHEEL" serve --listen "127.0.0.1:$server_port" 2>"$folder/server.log") &
started+=($!)
prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/data" \
    --web.listen-address="127.0.0.1:$prometheus_port" 2>"$folder/prometheus.log" &
started+=($!)
wait_for "$server/readyz"
wait_for "http://127.0.0.1:$prometheus_port/-/ready"
begin=$(date +%s)

bench() {
    "$STORMWHEEL" bench --server "$server" "$@"
}

# Timers for later, from a minute to a day and a half ahead, and some that wait for a watermark.
for batch in $(seq 1 40); do
    awk -v batch="$batch" 'BEGIN {
        srand(batch)
        for (i = 0; i < 5000; i++) {
            printf "{\"op\":\"register\",\"key\":\"later-%d-%d\",", batch, i
            if (i % 5) printf "\"after\":\"%ds\"}\n", exp(4.1 + rand() * 7.7)
            else printf "\"at\":%d,\"domain\":\"event\"}\n", i
        }
    }' | curl -sf -o "$folder/answer" --data-binary @- \
        -H 'content-type: application/x-ndjson' "$server/v1/timers/batch"
done
# A few mistakes, for the panel of refusals.
mistakes() {
    while sleep 0.5; do
        curl -s -o "$folder/mistake" -X PUT "$server/v1/keys/k/timers/t" -d '{"affter":"2s"}' || true
        curl -s -o "$folder/mistake" "$server/v1/keys/nobody/timers/nothing" || true
    done
}
mistakes &
started+=($!)
bench --rate 10000 --duration 110s --due-over 40s --batch 500 &
steady=$!
started+=("$steady")
sleep 20
bench --workload heartbeat --keys 50000 --timers 450000 --rate 30000 --due-over 10s
bench --workload storm --closed --timers 300000 --lead 5s
bench --workload cancel --closed --timers 200000 --due-over 20s --lead 5s
bench --format single --rate 1000 --duration 15s --due-over 10s --connections 8
wait "$steady"

minutes=$(awk "BEGIN { print ($(date +%s) - $begin) / 60 }")
dashboards/render.py --prometheus "http://127.0.0.1:$prometheus_port" --minutes "$minutes" \
    --rate-interval 5s
