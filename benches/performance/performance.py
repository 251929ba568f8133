#!/usr/bin/env python3
"""Measures everything that docs/performance.md tells, and writes that page with its plots.

Each part is a command that leaves a JSON file in a folder of results; a part whose file is there is not
run again (`--again` does). So a run that broke off goes on, and `--page` only writes the page.

    cargo build --release && cargo build --release -p stormwheel-benches --bins
    STORMWHEEL=target/release/stormwheel benches/performance/performance.py     some two hours
    STORMWHEEL=target/release/stormwheel benches/performance/performance.py --only soak    an hour more
    STORMWHEEL=target/release/stormwheel benches/performance/performance.py --quick --out /tmp/trial

`--quick` takes small numbers, in a folder of results of its own, and the page says so at its top.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.append(str(HERE.parent / "durable"))
import common  # noqa: E402
import page  # noqa: E402

# What is run, and what with --quick. The first word is a binary beside the server's, or a script.
PARTS = {
    "peers": ("peers 1000000 10000000 --rounds 3", "peers 20000 --rounds 1"),
    "growth": ("growth 10000 100000 1000000 10000000 --key-bytes 15,32 --rounds 3",
               "growth 2000 20000 --key-bytes 15,32"),
    "compare": ("benches/compare/compare.py", "benches/compare/compare.py --quick"),
    "registration": ("benches/durable/registration.py",
                     "benches/durable/registration.py --rounds 1 --timers 50000 --singles 2000 --due-over 1s"),
    "lateness-1k": ("benches/durable/lateness.py --rate 1000",
                    "benches/durable/lateness.py --rate 100 --seconds 2 --rounds 1"),
    "lateness-100k": ("benches/durable/lateness.py --rate 100000",
                      "benches/durable/lateness.py --rate 1000 --seconds 2 --rounds 1"),
    "checkpoint": ("benches/durable/checkpoint.py",
                   "benches/durable/checkpoint.py --timers 50000 --rounds 1 --tail-mib 1"),
    "service": ("benches/performance/service.py", "benches/performance/service.py --quick"),
    # The most memory of all.
    "growth-100m": ("growth 100000000", None),
    "soak": ("benches/soak/soak.py",
             "benches/soak/soak.py --minutes 0.2 --segment 3 --peak-timers 100000"),
}
# Only where they are asked for.
BY_NAME = {"soak"}
GIGABYTES_OF_100M = 22


def command(words):
    """What is run, with the path to what is run."""
    name, *rest = words.split()
    path = ROOT / name if name.endswith(".py") else pathlib.Path(common.binary()).parent / name
    if not shutil.which(path):
        sys.exit(f"{path} is not there: cargo build --release -p stormwheel-benches --bins")
    return [str(path), *rest]


def shown(words):
    name, *rest = words.split()
    if name.endswith(".py"):
        return words
    return " ".join(["cargo run --release -p stormwheel-benches --bin", name, "--", *rest])


def run(name, words, file):
    common.say(f"== {name}: {words}")
    partial = file.with_suffix(".partial")
    file.unlink(missing_ok=True)
    done = subprocess.run([*command(words), "--json", str(partial)], check=False, cwd=ROOT,
                          env={**os.environ, "STORMWHEEL": common.binary()})
    if done.returncode == 0:
        partial.rename(file)
    return done.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=pathlib.Path, help="folder of JSON files")
    parser.add_argument("--only", help="parts, with commas: " + ", ".join(PARTS))
    parser.add_argument("--again", action="store_true", help="also what has a file already")
    parser.add_argument("--page", action="store_true", help="write the page from what is there")
    parser.add_argument("--quick", action="store_true", help="small numbers: a trial")
    parser.add_argument("--trial", action="store_true", help="the page says that it is one")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs", help="where the page goes")
    args = parser.parse_args()
    results = args.results or ROOT / "target" / ("performance-quick" if args.quick else "performance")
    results.mkdir(parents=True, exist_ok=True)
    chosen = args.only.split(",") if args.only else [name for name in PARTS if name not in BY_NAME]
    if unknown := [name for name in chosen if name not in PARTS]:
        parser.error(f"unknown: {', '.join(unknown)}")

    failed = []
    for name in chosen:
        words, file = PARTS[name][args.quick], results / f"{name}.json"
        if args.page or words is None or (file.exists() and not args.again):
            continue
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
        if name == "growth-100m" and memory < GIGABYTES_OF_100M:
            common.say(f"== {name}: left out, it takes {GIGABYTES_OF_100M} GiB of memory")
            continue
        if not run(name, words, file):
            failed.append(name)

    parts = {name: json.loads(file.read_text()) for name in PARTS
             if (file := results / f"{name}.json").exists()}
    commands = [shown(PARTS[name][args.quick]) for name in parts if PARTS[name][args.quick]]
    args.out.mkdir(parents=True, exist_ok=True)
    page.write(parts, commands, args.quick or args.trial, args.out)
    common.say(f"{args.out / 'performance.md'}: {len(parts)} of {len(PARTS)} parts")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
