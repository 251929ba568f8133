#!/usr/bin/env python3
"""Stormwheel beside what else keeps timers on a disk: Redis, PostgreSQL, beanstalkd.

The same work for each, in turns, several rounds, each time a server of its own on a folder of its own:

- register: so many timers, due within an hour, over two connections, 5,000 in a request;
- heartbeat: each is put off to another time, in another order;
- drain: all of them are due at once and are read by a client, as far as the server has that;
- storm: as many, at one millisecond, drained.

For each: timers a second by the clock, and microseconds of the server's processor time for one, with
children; and what a timer takes of memory and disk once it is registered. The client is the same
little one for all (servers.py) and its own time is told: where it comes near the clock's, the rate is
the client's. Each server is asked in its own best way; what it does not do stands with its class.

    STORMWHEEL=target/release/stormwheel benches/compare/compare.py          some 20 minutes
    STORMWHEEL=target/release/stormwheel benches/compare/compare.py --quick  within a minute, says little

Installs redis-server, postgresql and beanstalkd where they are missing. Files go below $TMPDIR.
"""

import argparse
import random
import threading
import time

import servers
from servers import BEGIN, PACKAGES, TARGETS, common, pieces

BATCH, CONNECTIONS = 5000, 2
HOUR_MS = 3_600_000
PHASES = ["register", "heartbeat", "drain", "storm"]
FIRST = "stormwheel synced"


class Work:
    """Keys in two orders, and times for them."""

    def __init__(self, count):
        self.keys = [b"%015d" % n for n in range(count)]
        chance = random.Random(7)
        chance.shuffle(self.keys)
        self.other = self.keys[:]
        chance.shuffle(self.other)

    @staticmethod
    def timers(keys, at):
        return [(key, at(int(key))) for key in keys]

    def registered(self):
        return self.timers(self.keys, lambda n: BEGIN + 1000 + n * 7919 % HOUR_MS)

    def pushed_back(self):
        return self.timers(self.other, lambda n: BEGIN + HOUR_MS + 1000 + n * 104_729 % HOUR_MS)

    def storm(self):
        return self.timers(self.keys, lambda _: BEGIN + 4 * HOUR_MS)


def at_once(count, work):
    """Does something in so many threads, until all are done or one has failed."""
    failed = []

    def guarded():
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            failed.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def send(server, requests):
    """Sends requests that are made already, each once the one before it has been answered."""
    lock, left = threading.Lock(), iter(requests)

    def work():
        line = server.connect()
        while True:
            with lock:
                request = next(left, None)
            if request is None:
                return
            server.exchange(line, request)

    at_once(CONNECTIONS, work)


def drain(server, now, count):
    """Takes out all that is due, and gives when how many were there: (seconds, fires)."""
    lock, total, seen_at, began = threading.Lock(), 0, [], common.MARK()

    def seen(some):
        nonlocal total
        with lock:
            total += some
            seen_at.append((common.MARK() - began, total))

    lines = [server.connect() for _ in range(server.drain_connections)]
    at_once(len(lines), lambda: server.drain(lines.pop(), now, count, seen))
    if total != count:
        raise SystemExit(f"{total} timers came out, {count} were due")
    return thinned(seen_at)


def thinned(points, most=200):
    step = max(1, len(points) // most)
    return points[::step] + ([points[-1]] if (len(points) - 1) % step else [])


def measured(server, count, work):
    """What some work took, in all and for each."""
    own, cpu, began = time.process_time(), server.cpu_seconds(), common.MARK()
    timeline = work()
    wall = common.MARK() - began
    found = {"count": count, "seconds": wall, "per_second": count / wall,
             "server_cpu_us": 1e6 * (server.cpu_seconds() - cpu) / count,
             "client_cpu_us": 1e6 * (time.process_time() - own) / count}
    if timeline:
        found["timeline"] = timeline
    return found


def requests(make, timers):
    return [make(piece) for piece in pieces(timers, BATCH)]


def run(make, home, count):
    """All the work, for one server."""
    with make(home) as server:
        count = max(int(count * server.share), 1000)
        work, found = Work(count), {}
        memory, disk = server.memory_bytes(), server.disk_bytes(home)
        ready = requests(server.register, work.registered())
        found["register"] = measured(server, count, lambda: send(server, ready))
        if server.tells_memory:
            found["memory_bytes"] = (server.memory_bytes() - memory) / count
        if disk is not None:
            found["disk_bytes"] = (server.disk_bytes(home) - disk) / count
        ready = requests(server.heartbeat, work.pushed_back())
        found["heartbeat"] = measured(server, count, lambda: send(server, ready))
        server.settle()
        if isinstance(server, servers.Beanstalkd):
            # Long enough for all to be there before the first is due.
            delay = int(3 * found["register"]["seconds"]) + 2
            server.clear()
            ready = [server.register(piece, delay) for piece in pieces(work.storm(), BATCH)]
            send(server, ready)
            server.await_due(count)
        else:
            now = BEGIN + 3 * HOUR_MS
            found["drain"] = measured(server, count, lambda: drain(server, now, count))
            server.settle()
            send(server, requests(server.register, work.storm()))
        now = BEGIN + 5 * HOUR_MS
        found["storm"] = measured(server, count, lambda: drain(server, now, count))
    return found


def middle(runs, phase, field):
    values = [run[phase][field] for run in runs if phase in run]
    return common.median(values) if values else None


def show(found, rounds):
    head = [""]
    for phase in PHASES:
        head += [f"{phase}/s", "CPU us"]
    rows = []
    for name, runs in found.items():
        row = [name]
        for phase in PHASES:
            rate, cpu = middle(runs, phase, "per_second"), middle(runs, phase, "server_cpu_us")
            row += ["-", "-"] if rate is None else [f"{rate:,.0f}", f"{cpu:.2f}"]
        row += [f"{common.median([run[field] for run in runs]):.0f}" if field in runs[0] else "-"
                for field in ("memory_bytes", "disk_bytes")]
        rows.append(row)
    common.table(f"Timers a second, server's CPU for each, bytes a timer; median of {rounds} rounds",
                 [*head, "memory B", "disk B"], rows)
    if FIRST in found:
        rows = [[name] + [ratio(found, name, phase, field) for phase in PHASES
                          for field in ("per_second", "server_cpu_us")]
                for name in found if name != FIRST]
        common.table(f"{FIRST}: how many times the rate, how many times less CPU", head, rows)


def ratio(found, name, phase, field):
    """The median over the rounds of the ratio in each."""
    ratios = [first[phase][field] / other[phase][field]
              for first, other in zip(found[FIRST], found[name])
              if phase in other and first[phase][field] and other[phase][field]]
    if not ratios:
        return "-"
    value = common.median(ratios)
    return f"{value:.2f}" if field == "per_second" else f"{1 / value:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timers", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="names of servers, with commas: " + ", ".join(TARGETS))
    parser.add_argument("--quick", action="store_true", help="10,000 timers, one round")
    parser.add_argument("--json", help="file for the findings; default: standard output")
    args = parser.parse_args()
    if args.quick:
        args.timers, args.rounds = 10_000, 1
    chosen = [name.strip() for name in args.only.split(",")] if args.only else list(TARGETS)
    if unknown := [name for name in chosen if name not in TARGETS]:
        parser.error(f"unknown: {', '.join(unknown)}")
    kinds = {name.split()[0] for name in chosen}
    common.need({command: package for command, package in PACKAGES.items()
                 if package.removesuffix("-server") in kinds})

    found = {name: [] for name in chosen}
    for round_ in range(args.rounds):
        for name, runs in found.items():
            common.say(f"round {round_ + 1} of {args.rounds}: {name}")
            with common.folder("compare") as home:
                runs.append(run(TARGETS[name][0], home, args.timers))
    show(found, args.rounds)
    common.finish(args, {"compare": found, "timers": args.timers, "rounds": args.rounds,
                         "durable": {name: TARGETS[name][1] for name in chosen}})


if __name__ == "__main__":
    main()
