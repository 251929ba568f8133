#!/usr/bin/env python3
"""What the service takes while nothing happens, how fast it is back, and how fast fires leave it.

1. An empty server: resident memory.
2. Timers that are due tomorrow: what each takes of memory, and the processor time of doing nothing.
3. A checkpoint, `kill -9`, a start: seconds to the first fire, of a timer that fell due meanwhile.
4. Registrations a second, durable, by the number of operations in a request.
5. Fires that can be read already, as NDJSON over one connection: how many a second.

    STORMWHEEL=target/release/stormwheel benches/performance/service.py
"""

import argparse
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).parent
sys.path += [str(HERE.parent / "durable"), str(HERE.parent / "compare")]
import checkpoint  # noqa: E402
import common  # noqa: E402
import compare  # noqa: E402
import servers  # noqa: E402

QUIET = ["checkpoint.interval=0s", "checkpoint.over=0s"]
SIZES = {"ndjson": [1, 10, 100, 1000, 5000, 20_000], "arrow": [10, 100, 1000, 5000, 20_000]}


def measure_idle(count, seconds):
    with common.folder("idle") as home, common.Server(home) as server:
        time.sleep(1)
        empty = server.memory_bytes()
        bodies = checkpoint.bodies(count, checkpoint.now_ms() + 24 * checkpoint.HOUR_MS)
        common.send_batches(server, bodies)
        # What there is to write down is written down.
        checkpoint.checkpoint(server)
        time.sleep(5)
        memory, cpu, began = server.memory_bytes(), server.cpu_seconds(), common.MARK()
        time.sleep(seconds)
        busy = (server.cpu_seconds() - cpu) / (common.MARK() - began)
    return {"empty_bytes": empty, "timers": count, "bytes_a_timer": (memory - empty) / count,
            "busy": busy, "seconds": seconds}


def measure_restart(count):
    class Nothing:
        tail_mib = tail_payload = 0

    with common.folder("restart") as home, common.Server(home, *QUIET) as server:
        bodies = checkpoint.bodies(count, checkpoint.now_ms() + 24 * checkpoint.HOUR_MS)
        common.send_batches(server, bodies)
        return {"timers": count, **checkpoint.measure_restart(server, home, QUIET, Nothing)}


def measure_sizes(scale, wait):
    found = {}
    for format_, sizes in SIZES.items():
        for size in sizes:
            # About as long for each: small requests make fewer timers.
            timers = max(int(scale * min(size, 1000) ** 0.7), size, 100)
            kind = ["--format", format_, "--batch", str(size)] if size > 1 else ["--format", "single"]
            with common.folder("sizes") as home, common.Server(home) as server:
                report = server.bench("--closed", *kind, "--connections", "2" if size > 1 else "64",
                                      "--timers", str(timers), "--lead", wait, "--due-over", wait)
            found.setdefault(format_, []).append([size, report["operations_per_second"]])
    return found


def measure_outflow(count):
    with common.folder("outflow") as home, servers.Stormwheel(home, "synced") as server:
        work = compare.Work(count)
        compare.send(server, compare.requests(server.register, work.registered()))
        server.set_clock(servers.BEGIN + 2 * compare.HOUR_MS)
        line, taken, size = server.connect(), 0, 0
        cpu, began = server.cpu_seconds(), common.MARK()
        line.send(b"GET /v1/namespaces/work/outputs HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        while taken < count:
            some = line.some()
            taken, size = taken + some.count(b"{"), size + len(some)
        seconds = common.MARK() - began
        return {"fires": count, "per_second": count / seconds, "bytes_a_fire": size / count,
                "server_cpu_us": 1e6 * (server.cpu_seconds() - cpu) / count}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timers", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=int, default=30, help="of doing nothing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small numbers, only to see that it runs")
    parser.add_argument("--json", help="file for the findings; default: standard output")
    args = parser.parse_args()
    fires, singles = 2_000_000, 20_000
    if args.quick:
        args.timers, args.seconds, args.rounds, fires, singles = 20_000, 1, 1, 20_000, 200

    common.say("an empty server, and one that waits for tomorrow")
    found = {"idle": measure_idle(args.timers, args.seconds), "restart": [], "sizes": [], "outflow": []}
    for round_ in range(args.rounds):
        common.say(f"round {round_ + 1} of {args.rounds}")
        found["restart"] += [measure_restart(count) for count in (args.timers // 10, args.timers)]
        found["sizes"].append(measure_sizes(singles, "1s" if args.quick else "5s"))
        found["outflow"].append(measure_outflow(fires))
    show(found)
    common.finish(args, {"service": found})


def show(found):
    idle = found["idle"]
    common.table("At rest", ["", ""], [
        ["empty, resident", f"{idle['empty_bytes'] / 2**20:.1f} MiB"],
        [f"with {idle['timers']:,} timers, each", f"{idle['bytes_a_timer']:.1f} B"],
        ["of a core, doing nothing", f"{100 * idle['busy']:.2f} %"]])
    common.table("Start to the first fire", ["timers", "seconds"],
                 [[f"{one['timers']:,}", f"{one['first_fire_seconds']:.3f}"] for one in found["restart"]])
    common.table("Registrations a second, by operations in a request", ["", "size", "per second"],
                 [[format_, f"{size:,}", f"{rate:,.0f}"] for one in found["sizes"]
                  for format_, rates in one.items() for size, rate in rates])
    common.table("Fires read", ["", "per second", "server CPU us"],
                 [["NDJSON", f"{one['per_second']:,.0f}", f"{one['server_cpu_us']:.2f}"]
                  for one in found["outflow"]])


if __name__ == "__main__":
    main()
