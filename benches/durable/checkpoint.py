#!/usr/bin/env python3
"""Checkpoint and restart with ten million timers.

1. Load so many far timers; a checkpoint while nothing else happens: seconds, bytes a timer.
2. Checkpoints paced over ten seconds under load (those that come by themselves: one that is asked for
   is written as fast as it can be), in turns with ten seconds of load alone: the dip of
   throughput, the slowest of single requests meanwhile, and the longest turn of a shard: while it
   takes one, it serves nobody else. Turns are told in buckets, so that the longest is "at most".
3. A log tail of 1 GiB behind the checkpoint, `kill -9`, start: seconds to readiness and to the first
   fire.

    STORMWHEEL=target/release/stormwheel benches/durable/checkpoint.py
"""

import argparse
import threading
import time

import common

LINES = 50_000
HOUR_MS = 3_600_000
PACE_SECONDS, INTERVAL_SECONDS = 10, 30
# What no turn should exceed while a checkpoint is written.
TURN_TARGET_MS = 5


def bodies(count, at, payload="", lines=LINES):
    """Registrations of one named timer for each of so many keys, due in the hour after `at`."""
    tail = f',"payload":"{payload}"}}' if payload else "}"
    for first in range(0, count, lines):
        numbers = range(first, min(first + lines, count))
        yield "\n".join(
            f'{{"op":"register","key":"device-{n:08}","name":"t","at":{at + n * 7919 % HOUR_MS}{tail}'
            for n in numbers).encode()


def now_ms():
    return time.time_ns() // 1_000_000


def checkpoint(server):
    """Takes one and waits for its end."""
    started = common.MARK()
    info = server.get_json("POST", "/v1/checkpoints?wait=10m")
    info["seconds_seen"] = common.MARK() - started
    return info


def newest(server):
    found = server.get_json("GET", "/v1/checkpoints")["checkpoints"]
    return found[0] if found else {"status": "none"}


def await_beginning(server):
    """Waits until one begins by itself, and gives its number."""
    while True:
        info = newest(server)
        if info["status"] == "running":
            return info["checkpoint"]
        time.sleep(0.02)


def await_end(server, number):
    started = common.MARK()
    while True:
        info = newest(server)
        if info["checkpoint"] != number or info["status"] != "running":
            info["seconds_seen"] = common.MARK() - started
            return info
        time.sleep(0.02)


class Load:
    """Registers without a pause, in a thread of its own, until it is stopped."""

    def __init__(self, server, count, lines):
        self.server, self.count, self.lines, self.is_over = server, count, lines, False
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        self.thread.join()

    def run(self):
        # Made beforehand: making bodies takes more than sending them. At two times in turns: what is
        # registered as it stands changes nothing, and a checkpoint would have nothing to write.
        at, half = now_ms() + 24 * HOUR_MS, self.count // 2
        ready = [body for later in (0, HOUR_MS)
                 for body in bodies(half, at + later, lines=self.lines)]

        def endless():
            while not self.is_over:
                yield from (body for body in ready if not self.is_over)

        common.send_batches(self.server, endless())


class Prober:
    """Single reads, one after the other: what a client waits while something else goes on."""

    def __init__(self, server):
        self.server, self.is_over, self.waits = server, False, []
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        self.thread.join()
        self.waits.sort()

    def run(self):
        connection, number = self.server.connect(), 0
        while not self.is_over:
            number += 1
            started = common.MARK()
            key = f"device-{number * 7919 % 10_000:08}"
            self.server.ask("GET", f"/v1/keys/{key}/timers", connection=connection)
            self.waits.append(1000 * (common.MARK() - started))
            time.sleep(0.001)

    def quantile(self, of):
        return self.waits[min(int(of * len(self.waits)), len(self.waits) - 1)]


def registered(server):
    return server.metric("stormwheel_timers_registered_total")


def rate_over(server, seconds):
    before, started = registered(server), common.MARK()
    time.sleep(seconds)
    return (registered(server) - before) / (common.MARK() - started)


def measure_dip(server, args):
    rounds = []
    with Load(server, min(args.timers, 2_000_000), args.lines):
        while registered(server) == 0:
            time.sleep(0.1)
        time.sleep(2)
        for _ in range(args.rounds):
            number = await_beginning(server)
            turns = [server.turns()]
            before, started = registered(server), common.MARK()
            with Prober(server) as beside:
                info = await_end(server, number)
            rate = (registered(server) - before) / (common.MARK() - started)
            turns.append(server.turns())
            with Prober(server) as alone:
                rate_alone = rate_over(server, PACE_SECONDS)
            turns.append(server.turns())
            rounds.append({
                "alone_per_second": rate_alone, "beside_per_second": rate,
                "dip": 1 - rate / rate_alone, "checkpoint": info,
                "alone_p99_ms": alone.quantile(0.99), "alone_max_ms": alone.waits[-1],
                "beside_p99_ms": beside.quantile(0.99), "beside_max_ms": beside.waits[-1],
                "alone_turns": turns_between(*turns[1:]),
                "beside_turns": turns_between(*turns[:2]),
            })
    return rounds


def turns_between(before, after):
    """The turns between two looks, the longest first of all; what is beyond the last bound is None."""
    longest, total = common.longest_turn(before, after), max(after.values()) - max(before.values())
    return {"longest_at_most_ms": longest if longest != float("inf") else None, "count": total,
            "over_ms": {bound: total - (after[bound] - before[bound]) for bound in (1.0, 5.0)}}


def at_most(turns):
    longest = turns["longest_at_most_ms"]
    return "more" if longest is None else f"{longest:g}"


def grow_tail(server, args):
    """Replaces timers until a start would have to follow so many bytes."""
    wanted, payload = args.tail_mib << 20, "x" * args.tail_payload
    while (server.metric("stormwheel_log_replay_bytes") or 0) < wanted:
        some = bodies(min(args.timers, 1_000_000), now_ms() + 48 * HOUR_MS, payload)
        common.send_batches(server, some)


def measure_restart(server, home, settings, args):
    checkpoint(server)
    grow_tail(server, args)
    tail = server.metric("stormwheel_log_replay_bytes")
    status, _, headers = server.ask("GET", "/v1/outputs?cursor=latest&limit=1")
    assert status == 200, status
    cursor = headers["stormwheel-cursor"]
    # Falls due while nobody is there.
    server.get_json("PUT", "/v1/keys/first/timers/t", '{"after":"300ms"}')
    server.kill()
    with common.Server(home, *settings, wait=False) as again:
        ready = again.wait_until_ready()
        path = f"/v1/outputs?cursor={cursor}&limit=1&wait=60s"
        status, body, _ = again.ask("GET", path)
        first_fire = common.MARK() - again.started
        assert status == 200 and body, (status, body)
        return {"tail_bytes": tail, "ready_seconds": ready, "first_fire_seconds": first_fire,
                "recovery_seconds": again.metric("stormwheel_recovery_duration_seconds"),
                "pending": again.metric("stormwheel_timers_pending")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timers", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="of the paced checkpoint")
    # As the other benches send them; a turn applies some four thousand at the most.
    parser.add_argument("--lines", type=int, default=5_000, help="of each request of the load")
    parser.add_argument("--tail-mib", type=int, default=1024)
    parser.add_argument("--tail-payload", type=int, default=0, help="bytes of payload in the tail")
    parser.add_argument("--json", help="file for the findings; default: standard output")
    args = parser.parse_args()

    by_hand = "checkpoint.interval=0s"
    with common.folder("checkpoint") as home:
        fast = [by_hand, "checkpoint.over=0s"]
        with common.Server(home, *fast) as server:
            common.say(f"loading {args.timers:,} timers")
            load_seconds = common.send_batches(server, bodies(args.timers, now_ms() + 24 * HOUR_MS))
            common.say("a checkpoint while idle")
            idle = checkpoint(server)
            show_idle(idle, args)
        paced = [f"checkpoint.interval={INTERVAL_SECONDS}s", f"checkpoint.over={PACE_SECONDS}s"]
        with common.Server(home, *paced) as server:
            common.say("paced checkpoints under load")
            dips = measure_dip(server, args)
            show_dips(dips)
        with common.Server(home, by_hand) as server:
            common.say(f"a log tail of {args.tail_mib} MiB, and a restart")
            restart = measure_restart(server, home, [by_hand], args)
            show_restart(restart)
    common.finish(args, {"load_seconds": load_seconds, "idle": idle, "paced": dips,
                         "restart": restart})


def show_idle(idle, args):
    common.table(
        f"Checkpoint of {args.timers:,} timers", ["", "seconds", "bytes", "bytes a timer"],
        [["idle, as fast as it can", f"{idle['seconds_seen']:.2f}", f"{idle['total_bytes']:,}",
          f"{idle['total_bytes'] / args.timers:.1f}"]])


def show_dips(dips):
    common.table(
        f"Paced over {PACE_SECONDS} s under load, beside the same load alone",
        ["", "alone/s", "beside/s", "dip %", "seconds", "p99 alone ms", "p99 beside", "max alone",
         "max beside", "turn alone <=", "turn beside <="],
        [[f"round {number}", f"{one['alone_per_second']:,.0f}", f"{one['beside_per_second']:,.0f}",
          f"{100 * one['dip']:.1f}", f"{one['checkpoint']['seconds_seen']:.1f}",
          *(f"{one[key]:.2f}" for key in
            ("alone_p99_ms", "beside_p99_ms", "alone_max_ms", "beside_max_ms")),
          at_most(one["alone_turns"]), at_most(one["beside_turns"])]
         for number, one in enumerate(dips, 1)])
    print(f"\nA turn is to take at most {TURN_TARGET_MS} ms while a checkpoint is written.")


def show_restart(restart):
    common.table(
        "Restart", ["", "timers", "log tail", "ready s", "first fire s"],
        [["after kill -9", f"{restart['pending']:,.0f}", f"{restart['tail_bytes'] / 2**20:,.0f} MiB",
          f"{restart['ready_seconds']:.2f}", f"{restart['first_fire_seconds']:.2f}"]])


if __name__ == "__main__":
    main()
