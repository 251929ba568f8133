#!/usr/bin/env python3
"""Holds a change against the figures that were last accepted; ends with 1 if it lost more than 15 %.

Machines differ and are shared, so that no figure is held by itself. Each is a ratio to two others of the
same round: to a plain hash map of the same keys (the calibration), and to `BTreeSet` doing the same work.
A loss counts where it is seen by both: by one alone it is the machine's, or the other's gain. Bytes a
timer are held as they are.

- core, 1 M and 10 M timers: schedule, the same again, cancel, heartbeat, fire, storm; bytes a timer;
- service: the server's processor time for a timer that is registered, synced, over NDJSON and Arrow, fires,
  is read and verified.

    cargo build --release && cargo build --release -p stormwheel-benches --bins
    STORMWHEEL=target/release/stormwheel benches/gate/gate.py             ten minutes
    STORMWHEEL=target/release/stormwheel benches/gate/gate.py --accept    writes accepted.json anew
    STORMWHEEL=target/release/stormwheel benches/gate/gate.py --quick     half a minute, decides nothing

`--accept` is for a commit that explains what became slower and why, or faster.
"""

import argparse
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent / "durable"))
import common  # noqa: E402

ACCEPTED = HERE / "accepted.json"
LOSS_MAX = 0.15
FORMATS = ("ndjson", "arrow")
# The peer's operation that a timer of the service is held against.
SERVICE_BESIDE = "schedule, fresh memory"


def core(timers):
    """One round: {figure: {yardstick: ratio}}, and the two yardsticks of the service."""
    with common.folder("gate") as home:
        file = home / "peers.json"
        binary = pathlib.Path(common.binary()).parent / "peers"
        if not binary.exists():
            sys.exit(f"{binary} is not there: cargo build --release -p stormwheel-benches --bins")
        subprocess.run([str(binary), str(timers), "--rounds", "1", "--only", "core,btree_set",
                        "--json", str(file)], check=True, stdout=subprocess.DEVNULL)
        subjects = json.loads(file.read_text())["peers"][0]["subjects"]
    ours, tree = subjects["core"][0], subjects["btree_set"][0]
    found = {}
    for what, times in ours["operations"].items():
        if what == "calibration":
            continue
        beside = {"calibration": ours["operations"]["calibration"], "btree_set": tree["operations"][what]}
        found[f"{what}, {timers:,}"] = {name: times["cpu_ns"] / other["cpu_ns"]
                                        for name, other in beside.items()}
    for what in ("registered", "after heartbeats"):
        found[f"bytes, {what}, {timers:,}"] = {"bytes": ours["bytes"][what]}
    return found, {"calibration": ours["operations"]["calibration"]["cpu_ns"],
                   "btree_set": tree["operations"][SERVICE_BESIDE]["cpu_ns"]}


def service(format_, timers, yardsticks):
    """One round: the server's processor time for a timer, by the yardsticks of the same round."""
    with common.folder("gate") as home, common.Server(home) as server:
        server.bench("--closed", "--format", format_, "--timers", str(timers),
                     "--lead", "3s", "--due-over", "3s")
        ns = 1e9 * server.cpu_seconds() / timers
    return {f"service, {format_}": {name: ns / other for name, other in yardsticks.items()}}


def one_round(sizes, timers):
    found, yardsticks = {}, {}
    for size in sizes:
        some, measured = core(size)
        found |= some
        yardsticks = yardsticks or measured
    for format_ in FORMATS:
        found |= service(format_, timers, yardsticks)
    return found


def medians(rounds):
    """{figure: {yardstick: median}}; not every round has every size."""
    found = {}
    for what in dict.fromkeys(what for one in rounds for what in one):
        some = [one[what] for one in rounds if what in one]
        found[what] = {name: round(common.median([one[name] for one in some]), 4) for name in some[0]}
    return found


def losses(now, accepted):
    """{figure: the least loss that its yardsticks tell}; gains are negative."""
    return {what: min(ratios[name] / accepted[what][name] - 1 for name in ratios)
            for what, ratios in now.items() if what in accepted}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--accept", action="store_true", help="take the figures of this run as accepted")
    parser.add_argument("--quick", action="store_true", help="small numbers, only to see that it runs")
    parser.add_argument("--json", help="file for the findings")
    args = parser.parse_args()
    if args.quick and args.accept:
        parser.error("--quick measures nothing that could be accepted")
    rounds = []
    for number in range(1 if args.quick else args.rounds):
        common.say(f"round {number + 1}")
        # Ten million take most of the time, and vary less.
        sizes = [20_000] if args.quick else [1_000_000, 10_000_000] if number < 2 else [1_000_000]
        rounds.append(one_round(sizes, 20_000 if args.quick else 1_000_000))
    now = medians(rounds)
    if args.json:
        found = {"gate": now, "rounds": rounds, "machine": common.machine()}
        pathlib.Path(args.json).write_text(json.dumps(found, indent=1) + "\n")
    if args.accept:
        ACCEPTED.write_text(json.dumps({"ratios": now, "machine": common.machine()}, indent=1) + "\n")
        common.say(f"{ACCEPTED.name} is written: commit it with what explains it")
        return
    if not (args.quick or ACCEPTED.exists()):
        sys.exit("nothing has been accepted yet: run it with --accept on a quiet machine, and commit that")
    accepted = json.loads(ACCEPTED.read_text())["ratios"] if ACCEPTED.exists() else {}
    lost = losses(now, accepted)
    common.table("Beside what was accepted", ["", "now", "accepted", "loss %"], [
        [what, " ".join(f"{ratio:.2f}" for ratio in ratios.values()),
         " ".join(f"{ratio:.2f}" for ratio in accepted.get(what, {}).values()) or "-",
         f"{100 * lost[what]:+.1f}" if what in lost else "-"] for what, ratios in now.items()])
    if args.quick:
        common.say("small numbers: nothing is decided")
    elif too_much := [what for what in lost if lost[what] > LOSS_MAX]:
        sys.exit(f"lost more than {100 * LOSS_MAX:.0f} %: " + "; ".join(too_much))
    elif missing := [what for what in accepted if what not in now]:
        sys.exit("accepted, and not measured: " + "; ".join(missing))


if __name__ == "__main__":
    main()
