#!/usr/bin/env python3
"""An hour at 60 % of what the service can take: every timer is verified, and nothing may grow.

First the capacity: registrations over NDJSON as fast as answers come, each timer firing a second or two
later while others are registered; the lesser of what is registered and what is fired a second. Then
segments of half a minute at the load, one after the other on the same server, in a namespace each, which
is removed behind it. After each: quantiles of latency and lateness, refusals, memory, disk.

Ends with 1 if a timer did not fire as promised, if the second half of the run holds 10 % more memory or
disk than the first fifth did at the most, or if the median p99 of lateness has doubled by the last fifth
(and is beyond 20 ms). A run of fewer than ten segments decides only the first.

    STORMWHEEL=target/release/stormwheel benches/soak/soak.py                 an hour and a minute
    STORMWHEEL=target/release/stormwheel benches/soak/soak.py --minutes 1 --segment 5
"""

import argparse
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1] / "durable"))
import common  # noqa: E402

DUE = ["--lead", "1s", "--due-over", "2s"]
GROWTH_MAX, LATENESS_MAX, LATENESS_MS, SEGMENTS_MIN = 1.10, 2.0, 20, 10


def capacity(timers):
    """What the service takes and fires a second, everything synced."""
    with common.folder("capacity") as home, common.Server(home) as server:
        report = server.bench("--closed", "--timers", str(timers), *DUE)
    return min(report["operations_per_second"], report["fires_per_second"])


def segment(server, home, rate, seconds):
    cpu, began = server.cpu_seconds(), common.MARK()
    report = server.bench("--rate", str(int(rate)), "--duration", f"{seconds}s", *DUE)
    refused = sum(one["operations"] for one in report["errors"].values())
    return {"operations": report["operations"], "refused": refused, "fires": report["fires"],
            "request_latency": report["request_latency"], "fire_lateness": report["fire_lateness"],
            "server_cores": (server.cpu_seconds() - cpu) / (common.MARK() - began),
            "memory_bytes": server.memory_bytes(), "disk_bytes": common.disk_bytes(home / "data")}


def faults(segments):
    """What has grown that should not, in words; of a few segments nothing is said."""
    if len(segments) < SEGMENTS_MIN:
        return []
    fifth = max(1, len(segments) // 5)
    first, second_half, last = segments[:fifth], segments[len(segments) // 2:], segments[-fifth:]
    found = []
    for field in ("memory_bytes", "disk_bytes"):
        before = max(one[field] for one in first)
        after = common.median([one[field] for one in second_half])
        if after > GROWTH_MAX * before:
            found.append(f"{field}: {before:,} at first, {after:,.0f} in the second half")
    before, after = (common.median([one["fire_lateness"]["p99_ms"] for one in some])
                     for some in (first, last))
    if after > max(LATENESS_MAX * before, LATENESS_MS):
        found.append(f"p99 of lateness: {before:.2f} ms at first, {after:.2f} ms at last")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--load", type=float, default=0.6, help="part of the capacity")
    parser.add_argument("--rate", type=float, help="timers a second instead")
    parser.add_argument("--segment", type=int, default=30, help="seconds")
    parser.add_argument("--peak-timers", type=int, default=5_000_000, help="to find the capacity with")
    parser.add_argument("--json", help="file for the findings; default: standard output")
    args = parser.parse_args()

    peak = None if args.rate else capacity(args.peak_timers)
    rate = args.rate or args.load * peak
    common.say(f"{rate:,.0f} timers a second" + (f", of {peak:,.0f}" if peak else ""))
    segments = []
    with common.folder("soak") as home, common.Server(home) as server:
        over = common.MARK() + 60 * args.minutes
        while common.MARK() < over:
            segments.append(segment(server, home, rate, args.segment))
            one = segments[-1]
            common.say(f"{len(segments):4}: {one['fires']:,} fires, {one['refused']:,} refused, lateness p99 "
                       f"{one['fire_lateness']['p99_ms']:.2f} ms, {one['memory_bytes'] / 2**20:,.0f} MiB, "
                       f"disk {one['disk_bytes'] / 2**20:,.0f} MiB, {one['server_cores']:.2f} cores")
    found = faults(segments)
    late = [one["fire_lateness"] for one in segments]
    common.table("Soak", ["", "first", "median", "last", "most"], [
        [name, *(f"{of(values):,.2f}" for of in
                 (lambda v: v[0], common.median, lambda v: v[-1], max))]
        for name, values in (
            ("lateness p50 ms", [one["p50_ms"] for one in late]),
            ("lateness p99 ms", [one["p99_ms"] for one in late]),
            ("lateness max ms", [one["max_ms"] for one in late]),
            ("memory MiB", [one["memory_bytes"] / 2**20 for one in segments]),
            ("disk MiB", [one["disk_bytes"] / 2**20 for one in segments]))])
    common.finish(args, {"soak": segments, "rate": rate, "capacity": peak, "faults": found})
    if found:
        sys.exit("\n".join(found))
    common.say(f"{sum(one['fires'] for one in segments):,} timers, each fired as promised")


if __name__ == "__main__":
    main()
