#!/usr/bin/env python3
"""Durable registration over HTTP, beside redis with appendfsync always.

Both answer once it is on disk. In turns, several rounds, on the same machine and the same disk:
batches of 5,000 over two connections (NDJSON, Arrow) beside pipelines of 5,000 ZADD over two; single
requests over 64 connections beside single ZADD over 64.

    STORMWHEEL=target/release/stormwheel benches/durable/registration.py
"""

import argparse
import csv
import io
import subprocess

import common

BATCH, CONNECTIONS, SINGLES = 5000, 2, 64


class Redis(common.Process):
    def __init__(self, home):
        self.port = common.free_port()
        settings = {"port": self.port, "bind": "127.0.0.1", "dir": home, "save": "",
                    "appendonly": "yes", "appendfsync": "always"}
        command = ["redis-server"]
        for key, value in settings.items():
            command += [f"--{key}", str(value)]
        super().__init__(command, home, "redis")
        while self.cli("ping").strip() != "PONG":
            self.check()

    def cli(self, *args):
        command = ["redis-cli", "-p", str(self.port), *args]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def zadd(self, count, connections, pipeline):
        """Adds so many of a range so wide that nearly all are new, as timers of a set are."""
        command = ["redis-benchmark", "-p", str(self.port), "-c", str(connections),
                   "-P", str(pipeline), "-n", str(count), "-r", "1000000000", "--csv",
                   "zadd", "timers", "17672256__rand_int__", "key-__rand_int__"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows = csv.reader(io.StringIO(done.stdout))
        *_, last = (row for row in rows if len(row) > 1)
        self.cli("flushall")
        # Columns: test, rps, latency avg, min, p50, p95, p99, max.
        return {"per_second": float(last[1]), "p50_ms": float(last[4]), "p99_ms": float(last[6])}


def stormwheel(home, format_, count, connections, due_over):
    with common.Server(home) as server:
        report = server.bench("--closed", "--format", format_, "--timers", str(count),
                              "--batch", str(BATCH), "--connections", str(connections),
                              "--lead", "10s", "--due-over", due_over)
    latency = report["request_latency"]
    return {"per_second": report["operations_per_second"],
            "p50_ms": latency["p50_ms"], "p99_ms": latency["p99_ms"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--timers", type=int, default=3_000_000, help="of each batch run")
    parser.add_argument("--singles", type=int, default=300_000, help="of each single run")
    parser.add_argument("--due-over", default="10s")
    parser.add_argument("--json", help="file for the findings; default: standard output")
    args = parser.parse_args()
    common.need({"redis-server": "redis-server", "redis-benchmark": "redis-tools"})

    runs = {
        "stormwheel ndjson": lambda home: stormwheel(
            home, "ndjson", args.timers, CONNECTIONS, args.due_over),
        "stormwheel arrow": lambda home: stormwheel(
            home, "arrow", args.timers, CONNECTIONS, args.due_over),
        "redis pipelined": lambda home: redis(home, args.timers, CONNECTIONS, BATCH),
        "stormwheel single": lambda home: stormwheel(
            home, "single", args.singles, SINGLES, args.due_over),
        "redis single": lambda home: redis(home, args.singles, SINGLES, 1),
    }
    found = {name: [] for name in runs}
    for round_ in range(args.rounds):
        for name, run in runs.items():
            common.say(f"round {round_ + 1} of {args.rounds}: {name}")
            with common.folder("registration") as home:
                found[name].append(run(home))

    def middle(name, field):
        return common.median([run[field] for run in found[name]])

    rows = []
    for name in runs:
        beside = "redis single" if name.endswith("single") else "redis pipelined"
        ratio = common.median(
            [one["per_second"] / other["per_second"] for one, other in zip(found[name], found[beside])])
        all_ = [run["per_second"] for run in found[name]]
        rows.append([name, f"{middle(name, 'per_second'):,.0f}", f"{min(all_):,.0f}",
                     f"{max(all_):,.0f}", f"{middle(name, 'p50_ms'):.2f}",
                     f"{middle(name, 'p99_ms'):.2f}", f"{ratio:.2f}"])
    common.table(f"Durable registrations a second, median of {args.rounds} rounds",
                 ["", "per second", "least", "most", "p50 ms", "p99 ms", "ratio to redis"], rows)
    common.finish(args, {"registration": found})


def redis(home, count, connections, pipeline):
    with Redis(home) as server:
        return server.zadd(count, connections, pipeline)


if __name__ == "__main__":
    main()
