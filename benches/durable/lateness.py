#!/usr/bin/env python3
"""Lateness at 50,000 fires a second, as a consumer of the stream sees it, everything synced.

    STORMWHEEL=target/release/stormwheel benches/durable/lateness.py
"""

import argparse

import common


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=50_000, help="timers a second")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--json", help="file for the findings; default: standard output")
    args = parser.parse_args()

    found = []
    for round_ in range(args.rounds):
        common.say(f"round {round_ + 1} of {args.rounds}")
        with common.folder("lateness") as home, common.Server(home) as server:
            # A narrow window behind the lead: as many fall due each second as are registered.
            report = server.bench("--rate", str(args.rate), "--duration", f"{args.seconds}s",
                                  "--lead", "1s", "--due-over", "2s")
            syncs = server.metrics()
            report["syncs"] = syncs.get("stormwheel_log_sync_duration_seconds_count")
            report["sync_seconds"] = syncs.get("stormwheel_log_sync_duration_seconds_sum")
            found.append(report)

    rows = []
    for number, report in enumerate(found, 1):
        late = report["fire_lateness"]
        sync_ms = 1000 * (report["sync_seconds"] or 0) / max(report["syncs"] or 0, 1)
        rows.append([f"round {number}", f"{report['fires_per_second']:,.0f}",
                     *(f"{late[key]:.2f}" for key in ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")),
                     f"{report['request_latency']['p99_ms']:.2f}", f"{sync_ms:.2f}"])
    middle = [common.median([run["fire_lateness"][key] for run in found]) for key in ("p50_ms", "p99_ms")]
    common.table(f"Lateness in ms; median p50 {middle[0]:.2f}, p99 {middle[1]:.2f}",
                 ["", "fires/s", "p50", "p90", "p99", "p99.9", "max", "request p99", "sync"], rows)
    common.finish(args, {"lateness": found})


if __name__ == "__main__":
    main()
