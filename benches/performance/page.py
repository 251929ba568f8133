"""Writes docs/performance.md and its plots from the findings of the parts."""

import datetime
import pathlib

import svg
from targets import CANCEL, GOES, HEARTBEAT, SCHEDULE, STAYS, STORM, Findings, is_met, middle, targets

ROOT = pathlib.Path(__file__).parents[2]
NAMES = {"core": "Stormwheel's core", "btree_set": "`BTreeSet`", "binary_heap": "`BinaryHeap` + live ids",
         "delay_queue": "`DelayQueue` + map", "hash_wheel": "`hierarchical_hash_wheel_timer`"}
SHORT = {"core": "core", "btree_set": "BTreeSet", "binary_heap": "heap + ids",
         "delay_queue": "DelayQueue", "hash_wheel": "hash wheel"}
OPERATIONS = {SCHEDULE: "schedule", "schedule, fresh memory": "schedule, fresh memory",
              "schedule again (duplicate)": "the same again", CANCEL: "cancel", HEARTBEAT: "heartbeat",
              STAYS: "fire, key stays", GOES: "fire, key goes", STORM: "storm"}
MEMORY = ("registered", "after heartbeats")
PHASES = ["register", "heartbeat", "drain", "storm"]


def figure(value, digits=3):
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if abs(value) >= 0.001 or not value else f"{value:.1e}"


def markdown(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def plainly(head, found, none):
    """Who is better at what, a line for each."""
    lines = [f"- {name}: {'; '.join(lines)}." for name, lines in found.items() if lines]
    return head + "\n\n" + "\n".join(lines) if lines else none


class Page:
    """Sections one after the other, and plots beside them."""

    def __init__(self, parts, commands, folder, trial):
        self.found, self.commands, self.trial = Findings(parts), commands, trial
        self.parts, self.folder, self.sections = parts, folder, []

    def add(self, *paragraphs):
        self.sections += [paragraph for paragraph in paragraphs if paragraph]

    def plot(self, name, drawing, words):
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{name}.svg").write_text(drawing)
        return f"![{words}](performance/{name}.svg)"

    def text(self):
        self.head()
        self.targets()
        self.peers()
        self.growth()
        self.servers()
        self.service()
        self.lateness()
        self.checkpoints()
        self.soak()
        self.repeat()
        return "\n\n".join(self.sections) + "\n"

    def head(self):
        machines = [part["machine"] for part in self.parts.values() if part.get("machine")]
        taken = sorted(machine["taken"] for machine in machines if machine.get("taken"))
        days = sorted({datetime.date.fromtimestamp(time).isoformat() for time in taken})
        kinds = sorted({f"{machine['cores']} cores of {machine.get('cpu') or 'an unknown kind'}, "
                        f"Linux {machine['kernel']}" for machine in machines})
        memory = [machine["memory_bytes"] for machine in machines if machine.get("memory_bytes")]
        kinds = "; ".join(kinds) + (f", {max(memory) / 2**30:.0f} GiB of memory" if memory else "")
        self.add(
            "# Performance",
            "Made by `benches/performance/performance.py`; a change by hand is gone with the next run.",
            "> **A trial, not a measurement.** The figures below are from small numbers of timers or from a "
            "machine that was busy with other things. They show that the scripts run, and nothing else."
            if self.trial else "",
            f"Measured {' to '.join(dict.fromkeys([days[0], days[-1]])) if days else 'never'}, on {kinds}. "
            "The machine is a virtual one that others share, so the figures of the core are processor time "
            "of its one thread, with the clock's beside it in the JSON, and ratios are of figures from the "
            "same round. Every figure is a median over rounds in which all that are compared took turns. "
            "The commands stand [at the end](#how-to-repeat-it).",
            "Three things that a reader should know before any figure:\n\n"
            "- **The load generator runs on the same machine** as the server, for Stormwheel as for the "
            "others. What a server gives over a network, with all cores for itself, is not measured here.\n"
            "- **The disk is the machine's own.** \"Synced\" and \"always\" mean that the answer came after "
            "`fdatasync`; on a disk with another latency every durable figure is another.\n"
            "- **The workloads are ours**: keys of 15 bytes in no order, due times spread evenly or all at "
            "one millisecond, no payloads unless said.")

    def targets(self):
        rows, missed, unknown = [], [], 0
        for what, target, is_less, unit, value in targets(self.found):
            aim = f"{'≤' if is_less else '≥'} {target:g} {unit}"
            if value is None:
                verdict, unknown = "not measured", unknown + 1
            elif is_met(target, is_less, value):
                verdict = "yes"
            else:
                verdict = "**no**"
                missed.append(f"{what}: {figure(value)} {unit}, aimed at {target:g}")
            rows.append([what, aim, "–" if value is None else f"{figure(value)} {unit}", verdict])
        count = len(rows)
        words = (f"Of {count} targets {count - unknown - len(missed)} are met, {len(missed)} are missed"
                 + (f", {unknown} have not been measured" if unknown else "") + ".")
        self.add("## What is aimed at", words,
                 markdown(["", "target", "measured", "met"], rows),
                 "Missed:\n\n" + "\n".join(f"- {line}" for line in missed) if missed else "")

    def peers(self):
        runs = self.found.of("peers", "peers") or []
        for run in runs:
            # The core first.
            run["subjects"] = {who: run["subjects"][who] for who in NAMES if who in run["subjects"]}
        self.add("## The core beside what a Rust program would use",
                 "One thread, no files, no HTTP: what it costs to hold timers. **In the core's figures** are the "
                 "checking of every operation, the de-duplication by key and time, the record that is written "
                 "of every operation and every fire (encoded, into memory), the answer, and the change of state. "
                 "**Not in them** are the file, the sync, HTTP and JSON: see below.",
                 "The peers have it easier. None writes a record, survives a restart, knows names, payloads, "
                 "namespaces or limits, or says what became of an operation. Their keys are arrays of a length "
                 "that the compiler knows. `DelayQueue` is given a map from (key, time) to its handles, since it "
                 "cannot find a timer by itself; its empty steps cost some 20 ns a timer at a million. With "
                 "heartbeats, `BTreeSet` and `BinaryHeap` are told the old time of each timer. The heap and the "
                 "hash wheel keep what was cancelled until its time comes: see their bytes after heartbeats. "
                 "Adapters: [benches/src/peers](../benches/src/peers/mod.rs).")
        for run in runs:
            subjects = run["subjects"]
            self.add(f"**{run['timers']:,} timers, keys of {run['key_bytes']} bytes**: nanoseconds of processor "
                     "time an operation, and how many times the core's.",
                     markdown(["", *(NAMES[who] for who in subjects), "the core by the clock"],
                              self.peer_rows(subjects)))
            self.add(self.better(subjects))
        if runs:
            subjects = runs[0]["subjects"]
            groups = {OPERATIONS[what]: {SHORT[who]: middle([one["operations"][what]["cpu_ns"] for one in rounds])
                                         for who, rounds in subjects.items()}
                      for what in (SCHEDULE, CANCEL, HEARTBEAT, GOES, STORM)}
            title = f"CPU time of an operation, {runs[0]['timers']:,} timers"
            self.add(self.plot("peers", svg.bars(title, "nanoseconds (shorter is better)", groups, log=True), title))

    @staticmethod
    def peer_rows(subjects):
        def cell(who, pick):
            values = [pick(one) for one in subjects[who]]
            if who == "core" or "core" not in subjects:
                return figure(middle(values))
            ratio = middle([value / pick(core) for value, core in zip(values, subjects["core"]) if pick(core)])
            return f"{figure(middle(values))} ({figure(ratio, 2)}×)"

        core = subjects.get("core", [])
        rows = [[name, *(cell(who, lambda one: one["operations"][what]["cpu_ns"]) for who in subjects),
                 figure(middle([one["operations"][what]["wall_ns"] for one in core]))]
                for what, name in OPERATIONS.items()]
        rows += [[f"bytes a timer, {what}", *(cell(who, lambda one: one["bytes"][what]) for who in subjects), ""]
                 for what in MEMORY]
        return rows

    @staticmethod
    def better(subjects):
        """Where a peer beats the core, said plainly."""
        def costs(who):
            rounds = subjects[who]
            times = {name: (middle([one["operations"][what]["cpu_ns"] for one in rounds]), "ns")
                     for what, name in OPERATIONS.items()}
            sizes = {f"memory, {what}": (middle([one["bytes"][what] for one in rounds]), "B") for what in MEMORY}
            return times | sizes

        ours = costs("core") if "core" in subjects else {}
        found = {NAMES[who]: [f"{name} {figure(cost)} {unit}, the core {figure(ours[name][0])}"
                              for name, (cost, unit) in costs(who).items() if ours and cost < ours[name][0]]
                 for who in subjects if who != "core"}
        return plainly("A peer is better:", found, "No peer is better at any of these.")

    def growth(self):
        runs = [run for run in self.found.growth() if run["key_bytes"] == 15]
        if not runs:
            return
        whats = (SCHEDULE, CANCEL, HEARTBEAT, STAYS, GOES, STORM)

        def cost(run, what):
            return middle([one["operations"][what]["cpu_ns"] for one in run["rounds"]])

        rows = [[OPERATIONS[what], *(figure(cost(run, what)) for run in runs)] for what in whats]
        rows.append(["bytes a timer, resident", *(figure(middle([one["bytes"]["registered"] for one in run["rounds"]]))
                                                  for run in runs)])
        lines = {OPERATIONS[what]: [(run["timers"], cost(run, what)) for run in runs] for what in whats}
        title = "CPU time of an operation as timers grow"
        drawing = svg.lines(title, "timers held", "nanoseconds", lines, x_log=True, y_log=True)
        self.add("## As timers grow",
                 "The core alone, each size in a process of its own. What grows is the machine's: more of the "
                 "memory that is touched is in no cache. Firing goes millisecond by millisecond over a minute, "
                 "so that at 10,000 timers most of it is the cost of 60,000 steps, and it *falls* at first. An "
                 "operation's own memory is in these figures, the caller's keys are not.",
                 self.plot("growth", drawing, title),
                 markdown(["nanoseconds", *(f"{run['timers']:,}" for run in runs)], rows))

    def servers(self):
        servers = self.found.of("compare", "compare")
        if not servers:
            return
        timers, durable = self.found.of("compare", "timers"), self.found.of("compare", "durable")

        def value(runs, phase, field):
            return middle([run[phase][field] for run in runs if phase in run])

        head = ["", "an answer means", *(f"{phase}, /s" for phase in PHASES), "memory, B", "disk, B"]
        rows = [[name, durable[name], *(figure(value(runs, phase, "per_second")) for phase in PHASES),
                 *(figure(middle([run.get(field) for run in runs])) for field in ("memory_bytes", "disk_bytes"))]
                for name, runs in servers.items()]
        cpu = [[name, *(figure(value(runs, phase, "server_cpu_us")) for phase in PHASES),
                figure(middle([run[phase]["client_cpu_us"] for run in runs for phase in PHASES if phase in run]))]
               for name, runs in servers.items()]
        self.add("## The service beside Redis, PostgreSQL and beanstalkd",
                 f"{timers:,} timers (beanstalkd: a twentieth of them, it takes so long), each server on a folder of "
                 "its own on the same disk, in turns. `register`: batches of 5,000 over two connections. `heartbeat`: "
                 "all of them moved, in another order. `drain`: all due at once and read by a client, spread over an "
                 "hour of due times. `storm`: the same with one millisecond for all. Memory and disk: what the registrations added, logs included. One small client in Python for "
                 "all of them, with requests made beforehand; [its code](../benches/compare/servers.py) says how each "
                 "server is asked, and what it does not do. `stormwheel bench`, below, is a faster client.",
                 markdown(head, rows),
                 "Microseconds of the server's processor time for one timer (all its processes), and the client's:",
                 markdown(["", *PHASES, "client"], cpu),
                 self.servers_better(servers, value),
                 "Not the same everywhere: Redis keeps all in memory and rewrites its file in the background, "
                 "which is not in these seconds; it has no clock, so that somebody has to poll, and a client that "
                 "dies between reading and removing leaves the timer to be read again. PostgreSQL's rows come by "
                 "`COPY`, which fails on a key that is there; its memory is what it is given. beanstalkd has no "
                 "keys, and whole seconds. Stormwheel's drain keeps the fires readable until retention takes them; "
                 "that is in its disk, and in its time.")
        lines = {}
        for name, runs in servers.items():
            if not name.startswith("beanstalkd") and "accepted" not in name and "+" not in name:
                run = sorted(runs, key=lambda run: run["storm"]["seconds"])[len(runs) // 2]
                # The points are the last of each piece: what is out by then.
                lines[name] = [(0, 0), *((1000 * at, total) for at, total in run["storm"]["timeline"])]
        title = f"A storm: {timers:,} timers at one millisecond"
        drawing = svg.lines(title, "milliseconds since they were due", "timers read by the client", lines)
        self.add(self.plot("storm", drawing, title))

    @staticmethod
    def servers_better(servers, value):
        ours, found = servers.get("stormwheel synced"), {}
        if not ours:
            return ""
        for name, runs in servers.items():
            if name.startswith("stormwheel"):
                continue
            lines = found.setdefault(name, [])
            for phase in PHASES:
                rate, own = (value(some, phase, "per_second") for some in (runs, ours))
                if rate and own and rate > own:
                    lines.append(f"{phase} {figure(rate)} /s, Stormwheel synced {figure(own)}")
                cost, own = (value(some, phase, "server_cpu_us") for some in (runs, ours))
                if cost is not None and own and cost < own:
                    lines.append(f"{phase} {figure(cost)} µs of processor time, Stormwheel synced {figure(own)}")
            for field, what in (("memory_bytes", "memory"), ("disk_bytes", "disk")):
                size, own = (middle([run.get(field) for run in some]) for some in (runs, ours))
                if size is not None and own and size < own:
                    lines.append(f"{figure(size)} B of {what} a timer, Stormwheel {figure(own)}")
        return plainly("Another is better:", found, "None of them is better at any of this.")

    def service(self):
        registration = self.found.of("registration", "registration")
        service = self.found.of("service", "service")
        if not (registration or service):
            return
        self.add("## Registrations and fires over HTTP")
        if registration:
            rows = [[name, *(figure(middle([run[field] for run in runs])) for field in ("per_second", "p50_ms", "p99_ms"))]
                    for name, runs in registration.items()]
            self.add("By `stormwheel bench` in a closed loop, `ack=synced`, beside `redis-benchmark` with "
                     "`appendfsync always`: batches of 5,000 over two connections, single requests over 64. Every "
                     "timer fires later in the run and is verified.",
                     markdown(["", "per second", "p50, ms", "p99, ms"], rows))
        if service and service.get("sizes"):
            kinds = {}
            for round_ in service["sizes"]:
                for kind, points in round_.items():
                    for size, rate in points:
                        kinds.setdefault(kind, {}).setdefault(size, []).append(rate)
            lines = {kind: [(size, middle(rates)) for size, rates in sizes.items()] for kind, sizes in kinds.items()}
            title = "Durable registrations a second, by the size of a request"
            drawing = svg.lines(title, "operations in a request", "per second", lines, x_log=True, y_log=True)
            self.add(self.plot("throughput", drawing, title),
                     "One operation in a request is over 64 connections, more are over two; each request is sent when "
                     "the one before it on its connection has been answered, so that small requests wait for the disk.")
        if service and service.get("outflow"):
            one = service["outflow"][0]
            self.add(f"Fires that are on disk already leave as NDJSON over one connection at "
                     f"{figure(self.found.outflow())} a second, {figure(one['bytes_a_fire'])} bytes each, with the "
                     f"reader on the same machine.")
            idle = service["idle"]
            self.add(f"An empty server has {idle['empty_bytes'] / 2**20:.1f} MiB resident. With {idle['timers']:,} timers "
                     f"that are due tomorrow it has {figure(idle['bytes_a_timer'])} bytes for each, named timers with "
                     f"keys of 15 bytes, and takes {100 * idle['busy']:.2f} % of a core.")

    def lateness(self):
        parts = {name: self.found.of(name, "lateness") for name in ("lateness-1k", "lateness-100k")}
        fields = ["p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"]
        names = ["p50", "p90", "p99", "p99.9", "max"]
        lines, rows = {}, []
        for part, runs in parts.items():
            if runs:
                label = f"{middle([run['rate'] for run in runs]):,.0f} fires/s"
                values = [self.found.lateness(part, field) for field in fields]
                lines[label] = [(at, value) for at, value in enumerate(values)]
                rows.append([label, *map(figure, values)])
        if not lines:
            return
        title = "Lateness of fires"
        drawing = svg.lines(title, "quantile of fires", "milliseconds", lines, y_log=True, x_names=names)
        self.add("## Lateness",
                 "From the millisecond for which a timer was registered to the moment at which the consumer of the "
                 "NDJSON stream has read its line: the clock, the wheel, the sync of the record that it fired, the "
                 "stream, the consumer. As many timers are registered meanwhile as fire, everything synced. A timer "
                 "never fires early, so the wait for the millisecond to be over is in it as well. The largest is one "
                 "fire of millions, and on a shared machine it is mostly the machine's.",
                 self.plot("lateness", drawing, title),
                 markdown(["ms", *names], rows))

    def checkpoints(self):
        idle, paced = self.found.of("checkpoint", "idle"), self.found.of("checkpoint", "paced")
        if not idle:
            return
        rows = [[f"round {at}", figure(one["alone_per_second"]), figure(one["beside_per_second"]),
                 figure(100 * one["dip"]), figure(one["alone_p99_ms"]), figure(one["beside_p99_ms"]),
                 figure(one["beside_turns"]["longest_at_most_ms"])] for at, one in enumerate(paced, 1)]
        restarts = self.found.of("service", "service", "restart") or []
        sizes = sorted({one["timers"] for one in restarts})
        rows_back = [[f"{size:,} timers, a checkpoint, no log behind it", figure(self.found.restart(size))]
                     for size in sizes]
        tail = self.found.of("checkpoint", "restart")
        rows_back.append([f"{tail['pending']:,.0f} timers, {tail['tail_bytes'] / 2**20:,.0f} MiB of log behind it",
                          figure(tail["first_fire_seconds"])])
        self.add("## Checkpoints and restarts",
                 f"With nothing else to do, a checkpoint takes {figure(idle['seconds_seen'])} s and "
                 f"{figure(idle['total_bytes'])} bytes. Paced over ten seconds beside a load that saturates the "
                 "server (\"longest turn\": a shard serves nobody else meanwhile; told in buckets, so at most):",
                 markdown(["", "alone, /s", "beside it, /s", "dip, %", "p99 alone, ms", "p99 beside, ms",
                           "longest turn ≤, ms"], rows),
                 "After `kill -9`, from the start of the process to the first fire in the hands of a client, a timer "
                 "that fell due meanwhile (file caches are warm):",
                 markdown(["", "seconds"], rows_back))

    def soak(self):
        segments, rate = self.found.of("soak", "soak"), self.found.of("soak", "rate")
        if not segments:
            return
        fifth = max(1, len(segments) // 5)

        def row(name, pick):
            return [name, *(figure(of([pick(one) for one in some])) for of, some in
                            ((middle, segments[:fifth]), (middle, segments[-fifth:]), (max, segments)))]

        fires, refused = (sum(one[field] for one in segments) for field in ("fires", "refused"))
        load = f", {100 * rate / capacity:.0f} % of what it can take" if (
            capacity := self.found.of("soak", "capacity")) else ""
        self.add("## A long time under load",
                 f"{figure(rate)} timers registered and fired a second{load}, in {len(segments)} segments on one "
                 f"server: {fires:,} fires, each verified, {refused:,} registrations refused for load.",
                 markdown(["", "first fifth, median", "last fifth, median", "most"], [
                     row("lateness p50, ms", lambda one: one["fire_lateness"]["p50_ms"]),
                     row("lateness p99, ms", lambda one: one["fire_lateness"]["p99_ms"]),
                     row("cores of the server", lambda one: one["server_cores"]),
                     row("memory, MiB", lambda one: one["memory_bytes"] / 2**20),
                     row("disk, MiB", lambda one: one["disk_bytes"] / 2**20)]))

    def repeat(self):
        commands = "\n".join(self.commands)
        self.add("## How to repeat it",
                 "Leave the machine alone meanwhile. Everything that is needed besides Rust and Python is installed by "
                 "name from Debian's packages, and said. `benches/performance/performance.py` runs all of it and "
                 "writes this page; its parts, each with `--json`:",
                 f"```sh\n{commands}\n```",
                 "`benches/soak/soak.py` runs an hour at 60 % of what the service can take, and "
                 "`benches/gate/gate.py` holds a change against the figures that were last accepted.")


def write(parts, commands, trial, out=ROOT / "docs"):
    page = Page(parts, commands, out / "performance", trial)
    text = page.text()
    (out / "performance.md").write_text(text)
    return text
