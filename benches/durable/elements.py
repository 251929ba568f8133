#!/usr/bin/env python3
"""Durable elements over HTTP, for a namespace that runs an operator.

`deduplicate` sees every element and lets out the first of each key, which the load generator verifies.
Both formats in turns, several rounds: batches of 5,000 over two connections, each sent when the one
before it has been answered, which it is once its elements are on disk. Server and load generator share
the machine: the targets are for two cores in all.

    STORMWHEEL=target/release/stormwheel benches/durable/elements.py
"""

import argparse

import common

BATCH, CONNECTIONS = 5000, 2
# Elements a second.
TARGETS = {"ndjson": 600_000, "arrow": 1_500_000}


def elements(home, format_, args):
    settings = [f"shards={args.shards}"] if args.shards else []
    with common.Server(home, *settings) as server:
        report = server.bench("--workload", "elements", "--format", format_,
                              "--timers", str(args.elements), "--keys", str(args.keys),
                              "--batch", str(BATCH), "--connections", str(CONNECTIONS))
        busy = server.cpu_seconds()
    latency = report["request_latency"]
    return {"per_second": report["elements_per_second"], "p50_ms": latency["p50_ms"],
            "p99_ms": latency["p99_ms"], "server_cpu_seconds": busy,
            "generator_cpu_seconds": report["cpu_seconds"],
            "verified_keys": report["verification"]["came"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--elements", type=int, default=3_000_000, help="of each run")
    parser.add_argument("--keys", type=int, default=300_000)
    parser.add_argument("--shards", type=int, help="default: as many as the server chooses")
    parser.add_argument("--json", help="file for the findings; default: standard output")
    args = parser.parse_args()

    found = {format_: [] for format_ in TARGETS}
    for round_ in range(args.rounds):
        for format_, runs in found.items():
            common.say(f"round {round_ + 1} of {args.rounds}: {format_}")
            with common.folder("elements") as home:
                runs.append(elements(home, format_, args))

    rows = []
    for format_, runs in found.items():
        rates = [run["per_second"] for run in runs]
        middle = {field: common.median([run[field] for run in runs]) for field in runs[0]}
        rows.append([format_, f"{middle['per_second']:,.0f}", f"{min(rates):,.0f}",
                     f"{max(rates):,.0f}", f"{TARGETS[format_]:,}", f"{middle['p50_ms']:.2f}",
                     f"{middle['p99_ms']:.2f}", f"{middle['server_cpu_seconds']:.1f}",
                     f"{middle['generator_cpu_seconds']:.1f}"])
    common.table(f"Durable elements a second, median of {args.rounds} rounds",
                 ["", "per second", "least", "most", "target", "p50 ms", "p99 ms", "server CPU s",
                  "generator CPU s"], rows)
    common.finish(args, {"elements": found, "targets": TARGETS})


if __name__ == "__main__":
    main()
