"""What is aimed at, and what the findings say to it."""

import statistics

SCHEDULE, CANCEL, HEARTBEAT = "schedule, used memory", "cancel by time", "heartbeat"
STAYS, GOES = "fire ms by ms, key stays", "fire ms by ms, key goes"
STORM = "storm at one ms, key goes"
MILLION, TEN = 1_000_000, 10_000_000


def middle(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


class Findings:
    """The JSON of the parts: `{name: document}`; what is not there is None throughout."""

    def __init__(self, parts):
        self.parts = parts

    def of(self, part, *path):
        found = self.parts.get(part)
        for step in path:
            if found is None:
                return None
            found = found[step] if isinstance(step, int) else found.get(step)
        return found

    def core(self, timers, key_bytes=15):
        """The rounds of the core at a size, from all runs that have it."""
        rounds = [one for run in self.of("peers", "peers") or [] if run["timers"] == timers
                  and run["key_bytes"] == key_bytes for one in run["subjects"].get("core", [])]
        if rounds:
            return rounds
        return [one for run in self.growth() if run["timers"] == timers and run["key_bytes"] == key_bytes
                for one in run["rounds"]]

    def growth(self):
        runs = (self.of("growth", "growth") or []) + (self.of("growth-100m", "growth") or [])
        return sorted(runs, key=lambda run: (run["key_bytes"], run["timers"]))

    def ns(self, timers, what):
        return middle([one["operations"][what]["cpu_ns"] for one in self.core(timers)])

    def slope(self, key_bytes):
        held = [middle([timers * one["bytes"]["registered"] for one in self.core(timers, key_bytes)])
                for timers in (MILLION, TEN)]
        return None if None in held else (held[1] - held[0]) / (TEN - MILLION)

    def registration(self, name, field):
        return middle([run[field] for run in self.of("registration", "registration", name) or []])

    def registration_ratio(self):
        ours, theirs = (self.of("registration", "registration", name) or []
                        for name in ("stormwheel ndjson", "redis pipelined"))
        return middle([one["per_second"] / other["per_second"] for one, other in zip(ours, theirs)])

    def lateness(self, part, field):
        return middle([run["fire_lateness"][field] for run in self.of(part, "lateness") or []])

    def paced(self, value):
        return middle([value(one) for one in self.of("checkpoint", "paced") or []])

    def restart(self, timers):
        return middle([one["first_fire_seconds"] for one in self.of("service", "service", "restart") or []
                       if one["timers"] == timers])

    def outflow(self):
        return middle([one["per_second"] for one in self.of("service", "service", "outflow") or []])

    def idle(self, field):
        return self.of("service", "service", "idle", field)

    def worst_decade(self):
        """The largest growth of an operation's cost from one size to one ten times it, and which."""
        sizes = [run for run in self.growth() if run["key_bytes"] == 15]
        worst = None
        for one, next_ in zip(sizes, sizes[1:]):
            for what in (SCHEDULE, CANCEL, HEARTBEAT, STAYS, GOES, STORM):
                before, after = (middle([round_["operations"][what]["cpu_ns"] for round_ in run["rounds"]])
                                 for run in (one, next_))
                worst = max(worst or (0, ""), (after / before, f"{what}, up to {next_['timers']:,}"))
        return worst


def times(value, by):
    return None if value is None else value * by


def turn(one):
    """What the longest turn did not exceed; beyond all bounds it is endless."""
    longest = one["beside_turns"]["longest_at_most_ms"]
    return float("inf") if longest is None else longest


def targets(found):
    """Rows: what, target, whether less is better, unit, value."""
    rows = []

    def less(what, target, unit, value):
        rows.append((what, target, True, unit, value))

    def more(what, target, unit, value):
        rows.append((what, target, False, unit, value))

    for name, what, small, large in (
            ("schedule, with de-duplication", SCHEDULE, 26, 36), ("cancel by key and time", CANCEL, 32, 50),
            ("heartbeat", HEARTBEAT, 20, 35), ("fire, the key stays", STAYS, 18, 22),
            ("fire, the key goes", GOES, 30, 40)):
        for timers, label, target in ((MILLION, "1 M", small), (TEN, "10 M", large)):
            less(f"{name}, {label}", target, "ns CPU", found.ns(timers, what))
    less("storm of 1 M at one ms", 10, "ms CPU", times(found.ns(MILLION, STORM), 1))
    less("storm of 10 M at one ms", 120, "ms CPU", times(found.ns(TEN, STORM), 10))
    less("a timer, keys of 15 bytes (slope 1 M to 10 M)", 48, "B", found.slope(15))
    less("a timer, keys of 32 bytes (slope 1 M to 10 M)", 80, "B", found.slope(32))
    worst = found.worst_decade()
    less("cost, ten times the timers" + (f" (worst: {worst[1]})" if worst else ""), 2, "×",
         worst and worst[0])
    per_second = "M/s"
    more("registered, synced, Arrow", 4, per_second,
         times(found.registration("stormwheel arrow", "per_second"), 1e-6))
    more("registered, synced, NDJSON", 1.5, per_second,
         times(found.registration("stormwheel ndjson", "per_second"), 1e-6))
    more("NDJSON beside Redis always, pipelined", 8, "×", found.registration_ratio())
    more("single requests, synced, 64 connections", 60, "k/s",
         times(found.registration("stormwheel single", "per_second"), 1e-3))
    less("… p99 of their latency", 5, "ms", found.registration("stormwheel single", "p99_ms"))
    more("fires out, NDJSON stream", 2, per_second, times(found.outflow(), 1e-6))
    for part, rate in (("lateness-1k", "1 k/s"), ("lateness-100k", "100 k/s")):
        for field, name, target in (("p50_ms", "p50", 0.6), ("p99_ms", "p99", 1.5), ("p999_ms", "p99.9", 6)):
            less(f"lateness at {rate}, {name}", target, "ms", found.lateness(part, field))
    less("checkpoint of 10 M, idle", 1.5, "s", found.of("checkpoint", "idle", "seconds_seen"))
    less("… paced, under load: dip of throughput", 10, "%", times(found.paced(lambda one: one["dip"]), 100))
    less("… longest turn of a shard meanwhile, at most", 1, "ms", found.paced(turn))
    less("restart to the first fire, 1 M", 0.15, "s", found.restart(MILLION))
    less("restart to the first fire, 10 M", 1.5, "s", found.restart(TEN))
    less("idle, 10 M due tomorrow", 1, "% of a core", times(found.idle("busy"), 100))
    less("an empty server, resident", 40, "MiB", times(found.idle("empty_bytes"), 2 ** -20))
    return rows


def is_met(target, is_less, value):
    return value <= target if is_less else value >= target
