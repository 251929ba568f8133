#!/usr/bin/env python3
"""Plays the cases on the plainest system there is: ordered maps, one thread, nothing kept.

    tests/conformance/plain.py                 all cases
    tests/conformance/plain.py named 'F1[68]'  those whose file, name or rule matches

It shows that the cases ask for nothing that is special to one engine, and how a player of them
looks; and it keeps the cases honest, since it shares no code with what they are written to test.
"""

import copy
import json
import re
import sys
from pathlib import Path

MIN, MAX = -(2**63), 2**63 - 1
DUE_AT_ONCE_MAX = 10_000


class Failed(Exception):
    """A callback has failed: nothing of what it did holds."""


def clamp(time):
    return max(MIN, min(MAX, time))


class Sources:
    """The watermark of several sources: the minimum over those that are active and aligned."""

    def __init__(self, listed):
        self.combined = None
        self.by_name = {name: [None, False, True] for name in listed}  # watermark, idle, aligned

    def join(self, name):
        return self.by_name.setdefault(name, [None, False, self.combined is None])

    def report(self, name, watermark):
        source = self.join(name)
        source[1] = False
        result = "ignored" if source[0] is not None and watermark <= source[0] else "advanced"
        if result == "advanced":
            source[0] = watermark
        reached = source[0] is not None and (self.combined is None or source[0] >= self.combined)
        source[2] = source[2] or reached
        return result, self.combine()

    def idle(self, name):
        self.join(name)[1:] = [True, False]
        return "idle", self.combine()

    def combine(self):
        """Moves the combined watermark forward if the sources let it; says whether it did."""
        active = [source for source in self.by_name.values() if not source[1]]
        if active:
            counted = [source[0] for source in active if source[2]]
            if not counted or None in counted:
                return False
            then = min(counted)
        else:
            known = [source[0] for source in self.by_name.values() if source[0] is not None]
            if not known:
                return False
            then = max(known)
        if self.combined is not None and then <= self.combined:
            return False
        self.combined = then
        return True


class Key:
    """What belongs to one key: its timers, and whatever its function keeps."""

    def __init__(self):
        self.timers = {}  # identity -> [time, whether it waits for the next watermark]
        self.state = None
        self.kept = {}  # what the function keeps beside: scripts, windows

    def by_time(self, domain):
        """Identities in the order in which they fire."""
        its = [(time, rank(identity), identity) for identity, (time, _) in self.timers.items()
               if identity[0] == domain]
        return [identity for _, _, identity in sorted(its, key=lambda it: it[:2])]


def identity_of(domain, time, options):
    if "name" in options:
        return (domain, "name", options["name"])
    if "namespace" in options:
        return (domain, "namespace", options["namespace"], time)
    return (domain, "time", time)


def rank(identity):
    """Equal times: without a name first, then by namespace, then by name."""
    place = {"time": 0, "namespace": 1, "name": 2}[identity[1]]
    return (place, b"" if place == 0 else identity[2].encode())


class Call:
    """One callback: what it sees, and what it does to its key."""

    def __init__(self, system, name, key, timestamp, fired):
        self.system, self.name, self.key = system, name, key
        self.timestamp, self.fired = timestamp, fired  # the identity of the timer that fires
        self.outputs, self.is_late = [], False

    def register(self, domain, time, options=None):
        identity = identity_of(domain, time, options or {})
        if identity[2] == "" and identity[1] == "name":
            raise Failed("the name is empty")
        if identity in self.key.timers and self.key.timers[identity][0] == time:
            return False
        if domain == "event" and self.fired and self.system.sources.combined == MAX:
            return False  # refused: it could never be due
        if domain == "processing" and self.system.is_over:
            return False
        self.system.count_due(domain, time)
        self.key.timers[identity] = [time, self.system.waits(domain, time)]
        return True

    def delete(self, domain, time, options=None):
        self.key.timers.pop(identity_of(domain, time, options or {}), None)

    def emit(self, value, tag=None):
        is_bare = tag is None and self.fired and self.fired[0] == "processing"
        self.emit_at(value, None if is_bare else self.timestamp, tag)

    def emit_at(self, value, timestamp, tag=None):
        if tag == "":
            raise Failed("the tag is empty")
        output = {"key": self.name, "value": value}
        if timestamp is not None:
            output["timestamp"] = timestamp
        if tag is not None:
            output["tag"] = tag
        self.outputs.append(output)


class Script:
    """The function whose callbacks do what elements and timers tell them to."""

    def element(self, call, element):
        self.run(call, element.get("do", []), element.get("input", 0))

    def on_timer(self, call, identity, time):
        script = call.key.kept.pop(identity, None)
        self.run(call, [["emit", describe(identity, time)]] if script is None else script)

    def run(self, call, script, source=0, whole=None):
        key, whole = call.key, script if whole is None else whole
        for verb, *rest in script:
            if verb in ("event", "processing"):
                options = rest[1] if len(rest) > 1 else {}
                time = self.time(call, rest[0])
                if call.register(verb, time, options):
                    identity = identity_of(verb, time, options)
                    key.kept.pop(identity, None)
                    if "do" in options:
                        key.kept[identity] = whole if options["do"] == "same" else options["do"]
            elif verb in ("delete_event", "delete_processing"):
                options = rest[1] if len(rest) > 1 else {}
                time = None if "name" in options else self.time(call, rest[0])
                call.delete(verb.removeprefix("delete_"), time, options)
            elif verb == "delete_all":
                key.timers.clear()
            elif verb == "emit":
                call.emit(rest[0])
            elif verb == "emit_to":
                call.emit(rest[1], rest[0])
            elif verb == "show":
                call.emit({what: self.show(call, what, source) for what in rest})
            elif verb == "set":
                key.state = rest[0]
            elif verb == "add":
                key.state = (key.state or 0) + rest[0]
            elif verb == "clear":
                key.state = None
            elif verb in ("when", "unless"):
                if (key.state == rest[0]) == (verb == "when"):
                    self.run(call, rest[1], source, whole)
            elif verb in ("fail", "panic"):
                raise Failed(rest[0])
            else:
                raise ValueError(f"no such command: {verb}")

    def time(self, call, text):
        if isinstance(text, int):
            return text
        base, plus, unit = re.fullmatch(r"([a-z_]+)([+-]\d+)?(?:/(\d+))?", text).groups()
        known = {"min": MIN, "max": MAX, "timestamp": call.timestamp,
                 "watermark": call.system.sources.combined, "processing_time": call.system.now}
        if known[base] is None:
            raise Failed(f"there is no {base} yet")
        time = clamp(known[base] + int(plus or 0))
        return time // int(unit) * int(unit) if unit else time

    def show(self, call, what, source):
        timers = [describe(identity, call.key.timers[identity][0])
                  for domain in ("event", "processing") for identity in call.key.by_time(domain)]
        fired = call.fired or (None, None, None)
        return {"watermark": call.system.sources.combined, "processing_time": call.system.now,
                "timestamp": call.timestamp, "domain": fired[0], "key": call.name, "input": source,
                "name": fired[2] if fired[1] == "name" else None,
                "namespace": fired[2] if fired[1] == "namespace" else None,
                "timers": timers, "count": len(timers), "state": call.key.state,
                "broadcast": call.system.broadcast_state}[what]


def describe(identity, time):
    return [identity[0], time] + ([] if identity[1] == "time" else [{identity[1]: identity[2]}])


class System:
    """Keys with their timers, a clock, a watermark."""

    def __init__(self, config):
        self.config = config
        self.sources = Sources(config.get("sources", []))
        self.now = config.get("clock", 0)
        self.closed, self.is_over = None, False  # how the input ended, and whether the clock has
        self.keys, self.outputs, self.due_at_once, self.advancing = {}, [], 0, None
        self.broadcast_state = None
        if config.get("operator", "script") == "script":
            self.function = Script()
        else:
            from windows import Windows
            self.function = Windows(config["options"])

    def play(self, step):
        """Plays one step; returns what usually comes of it, what came of it, and the outputs."""
        self.outputs, self.due_at_once = [], 0
        usual = "advanced"
        if "element" in step:
            usual, result = "processed", self.element(step["element"])
        elif "broadcast" in step:
            usual, result = "processed", self.broadcast(step["broadcast"])
        elif "watermark" in step or "idle" in step:
            if "idle" in step:
                usual, (result, moved) = "idle", self.sources.idle(step["idle"])
            else:
                to = ends(step["watermark"])
                result, moved = self.sources.report(step.get("source", "default"), to)
            if moved:
                for key in self.keys.values():
                    for timer in key.timers.values():
                        timer[1] = False
                self.advance("event")
        elif "close" in step:
            usual, result = "closed", self.close(step["close"])
        else:
            to = ends(step["clock"])
            result = "advanced" if to > self.now else "ignored"
            self.now = max(self.now, to)
            self.advance("processing")
        return usual, result, self.outputs

    def close(self, timers):
        """Ends the input; says whether a timer is left."""
        if self.closed is None:
            self.sources.combined = MAX
            for key in self.keys.values():
                for timer in key.timers.values():
                    timer[1] = False
            self.advance("event")
        if self.closed in (None, "wait"):
            self.closed = timers
            if timers == "drain":
                self.now, self.is_over = MAX, True
                self.advance("processing")
            elif timers == "discard":
                for key in self.keys.values():
                    key.timers = {}
        return "closing" if any(key.timers for key in self.keys.values()) else "closed"

    def reached(self, domain):
        return self.sources.combined if domain == "event" else self.now

    def is_due(self, domain, time):
        return self.reached(domain) is not None and time <= self.reached(domain)

    def waits(self, domain, time):
        """Whether a timer waits for the next watermark although it is due: Flink's way."""
        return (domain == "event" and self.advancing != "event" and self.is_due(domain, time)
                and self.config.get("late_timers", "fire") == "next_watermark")

    def count_due(self, domain, time):
        if self.is_due(domain, time) and not self.waits(domain, time):
            self.due_at_once += 1
            if self.due_at_once > DUE_AT_ONCE_MAX:
                raise Failed("it would never end")

    def element(self, element):
        name, timestamp = element.get("key", "k"), ends(element.get("timestamp", 0))
        inputs = self.config.get("inputs", 1)
        if self.closed or not 1 <= len(name.encode()) <= 1024 or element.get("input", 0) >= inputs:
            return "refused"
        policy, watermark = self.config.get("late_elements", "process"), self.sources.combined
        lateness = self.config.get("lateness_ms", 0)
        is_late = watermark is not None and timestamp <= clamp(watermark - lateness)
        if is_late and isinstance(self.function, Script) and policy != "process":
            return self.late(name, timestamp, element, policy)
        call = self.call(name, timestamp, None,
                         lambda call: self.function.element(call, element))
        if call is None:
            return "failed"
        if call.is_late:
            return self.late(name, timestamp, element, policy)
        self.advance("event", name)
        self.advance("processing", name)
        return "processed"

    def broadcast(self, it):
        """An element for all keys: what it leaves all of them see, and what it brings each runs."""
        timestamp, of_all = ends(it.get("timestamp", 0)), Key()
        of_all.state = copy.deepcopy(self.broadcast_state)
        call = Call(self, "", of_all, timestamp, None)
        try:
            self.function.run(call, it["do"])
        except Failed:
            self.outputs.append({"key": "", "timestamp": timestamp, "tag": "errors"})
            return "failed"
        self.broadcast_state = of_all.state
        self.outputs += call.outputs
        for name in [name for name, key in self.keys.items() if key.state is not None]:
            self.call(name, timestamp, None,
                      lambda call: self.function.run(call, it.get("visit", [])))
        return "processed"

    def late(self, name, timestamp, element, policy):
        if policy == "side_output":
            value = element["value"] if "value" in element else {"do": element.get("do", [])}
            self.outputs.append({"key": name, "value": value, "timestamp": timestamp, "tag": "late"})
        return "late"

    def advance(self, domain, name=None):
        """Fires what is due, of all keys or of one, until nothing is."""
        self.advancing = domain if name is None else None
        while True:
            due = [(time, rank(identity), key, identity)
                   for key, it in self.keys.items() if name in (None, key)
                   for identity, (time, waits) in it.timers.items()
                   if identity[0] == domain and self.is_due(domain, time) and not waits]
            if not due:
                break
            time, _, key, identity = min(due, key=lambda it: it[:3])
            del self.keys[key].timers[identity]
            self.call(key, time, identity,
                      lambda call: self.function.on_timer(call, identity, time))
        self.advancing = None

    def call(self, name, timestamp, fired, work):
        """Runs a callback; what it does holds only if it does not fail."""
        before = self.keys.get(name)
        call = Call(self, name, copy.deepcopy(before) or Key(), timestamp, fired)
        try:
            work(call)
        except Failed:
            self.outputs.append({"key": name, "timestamp": timestamp, "tag": "errors"})
            return None
        self.keys[name] = call.key
        if not (call.key.timers or call.key.kept or call.key.state is not None):
            del self.keys[name]
        self.outputs += call.outputs
        return call


def differs(expected, actual, ordered):
    """What differs between what should have come and what came: in order for each key."""
    def by_key(outputs):
        keys = {}
        for output in outputs:
            keys.setdefault(None if ordered else output.get("key", "k"), []).append(output)
        return keys

    def fits(expected, actual):
        if "value" not in expected:
            actual = {name: it for name, it in actual.items() if name != "value"}
        return ends({"key": "k"} | expected) == actual

    expected, actual = by_key(expected), by_key(actual)
    return expected.keys() != actual.keys() or any(
        len(expected[key]) != len(actual[key])
        or not all(fits(*pair) for pair in zip(expected[key], actual[key]))
        for key in expected)


def ends(value):
    """Spells the ends of the range out that stand as texts where a time stands in a value."""
    if isinstance(value, list):
        return [ends(it) for it in value]
    if isinstance(value, dict):
        return {name: ends(it) for name, it in value.items()}
    return {"min": MIN, "max": MAX}.get(value, value) if isinstance(value, str) else value


def play(case):
    """Plays a case; returns what went wrong, or nothing."""
    system, snapshots = System(case.get("config", {})), {}
    for index, step in enumerate(case["steps"]):
        if "snapshot" in step:
            snapshots[step["snapshot"]] = copy.deepcopy(system)
            continue
        if "restore" in step:
            system = copy.deepcopy(snapshots[step["restore"]])
            continue
        if "rescale" in step:
            continue
        usual, result, outputs = system.play(step)
        if result != step.get("result", usual):
            return f"step {index}: the result is {result}"
        expected = step.get("expect", [])
        if differs(expected, outputs, case.get("ordered", False)):
            return f"step {index}: expected {json.dumps(expected)}\n      got {json.dumps(outputs)}"
    return None


def main():
    wanted, here = sys.argv[1:], Path(__file__).parent
    played = failed = 0
    for path in sorted((here / "cases").glob("*.jsonl")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            case = json.loads(line)
            texts = [path.stem, case["name"], *case["rules"]]
            if wanted and not any(re.search(it, text) for it in wanted for text in texts):
                continue
            problem = play(case)
            played += 1
            if problem:
                failed += 1
                print(f"{path.name}:{number} {case['name']}\n   {problem}")
    print(f"{played} played, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
