"""What the measurements share: servers, the load generator, packages, tables.

Python's standard library only. The binary comes from $STORMWHEEL; build it with
`cargo build --release`. Everything is started on free ports, in folders of its own (below $TMPDIR:
put that on the disk that is to be measured), and ended with the script.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

MARK = time.monotonic


def binary():
    path = shutil.which(os.environ.get("STORMWHEEL", "stormwheel"))
    if path is None:
        sys.exit("set STORMWHEEL to the binary: cargo build --release, then target/release/stormwheel")
    # The servers run in folders of their own.
    return os.path.abspath(path)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def say(text):
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def folder(name):
    with tempfile.TemporaryDirectory(prefix=f"stormwheel-{name}-") as path:
        yield pathlib.Path(path)


class Process:
    """A process that ends with the `with` block; what it says goes to a file."""

    def __init__(self, command, home, name):
        self.log = home / f"{name}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, cwd=home, stdout=log, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def family(self):
        """The process and all that descend from it, by number, each with its fields in /proc."""
        fields = {}
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                # Behind the name, which may have spaces, the first field is the third.
                fields[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
        found, left = {}, [self.process.pid]
        while left:
            number = left.pop()
            if number in fields:
                found[number] = fields[number]
                left += [child for child, of in fields.items() if int(of[1]) == number]
        return found

    def cpu_seconds(self):
        """Processor time so far, all threads, with children, also those that have ended."""
        ticks = sum(int(tick) for fields in self.family().values() for tick in fields[11:15])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self):
        """Resident memory, with children; what processes share counts once."""
        total = 0
        for number in self.family():
            with contextlib.suppress(OSError):
                text = pathlib.Path(f"/proc/{number}/smaps_rollup").read_text()
                total += 1024 * int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])
        return total

    def check(self):
        if self.process.poll() is not None:
            sys.exit(f"it ended with {self.process.returncode}:\n{self.log.read_text()}")


class Server(Process):
    """`stormwheel serve` on a data directory."""

    def __init__(self, home, *settings, wait=True):
        self.port = free_port()
        self.started = MARK()
        command = [binary(), "serve", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--data-dir", str(home / "data")]
        for setting in settings:
            command += ["--set", setting]
        super().__init__(command, home, "stormwheel")
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self, patience=600):
        while True:
            self.check()
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/readyz")[0] == 200:
                    return MARK() - self.started
            if MARK() - self.started > patience:
                sys.exit(f"it is not ready after {patience} s:\n{self.log.read_text()}")
            time.sleep(0.002)

    def connect(self, timeout=700):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method, path, body=None, content_type="application/json", connection=None):
        connection = connection or self.connect()
        headers = {"content-type": content_type} if body is not None else {}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers

    def get_json(self, method, path, body=None):
        status, text, _ = self.ask(method, path, body)
        if status not in (200, 201, 202):
            sys.exit(f"{method} {path}: {status} {text.decode()}")
        return json.loads(text)

    def metrics(self):
        """All samples by name with labels, as Prometheus reads them."""
        _, text, _ = self.ask("GET", "/metrics")
        lines = (line for line in text.decode().splitlines() if line and line[0] != "#")
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def metric(self, name):
        found = self.metrics()
        values = [value for key, value in found.items() if key.split("{")[0] == name]
        return sum(values) if values else None

    def turns(self):
        """How many turns all shards have taken since the start: by upper bound in ms, cumulative."""
        counts = {}
        for name, count in self.metrics().items():
            if name.startswith("stormwheel_turn_duration_seconds_bucket{"):
                bound = 1000 * float(re.search('le="([^"]+)"', name)[1])
                counts[bound] = counts.get(bound, 0) + count
        return counts

    def bench(self, *args):
        """Runs the load generator against this server and gives its report."""
        command = [binary(), "bench", "--json", "--server", f"http://127.0.0.1:{self.port}", *args]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout.splitlines()[-1])


def need(commands):
    """Installs the packages of the commands (`{command: package}`) that are missing."""
    missing = sorted({package for command, package in commands.items() if not shutil.which(command)})
    if not missing:
        return
    if not shutil.which("apt-get"):
        sys.exit(f"please install {' '.join(missing)}")
    as_root = [] if os.getuid() == 0 else ["sudo"]
    say(f"installing {' '.join(missing)} (apt-get remove takes them off again)")
    quiet = {"stdout": sys.stderr, "check": True, "stdin": subprocess.DEVNULL}
    subprocess.run([*as_root, "apt-get", "update", "-qq"], **quiet)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    subprocess.run([*as_root, "env", "DEBIAN_FRONTEND=noninteractive", *install], **quiet)
    # The measurements start servers of their own; the packages' services are not wanted.
    if os.path.isdir("/run/systemd/system"):
        subprocess.run([*as_root, "systemctl", "disable", "--now", *missing], check=False, **{
            key: value for key, value in quiet.items() if key != "check"})


def disk_bytes(path):
    """What the files below a folder take of the disk."""
    total = 0
    for file in pathlib.Path(path).rglob("*"):
        with contextlib.suppress(OSError):
            total += 512 * file.stat().st_blocks
    return total


def send_batches(server, bodies, namespace="default", connections=2):
    """Posts NDJSON bodies over so many connections; gives the seconds it took."""
    lock, bodies, failures = threading.Lock(), iter(bodies), []

    def work():
        connection = server.connect()
        while not failures:
            with lock:
                body = next(bodies, None)
            if body is None:
                return
            path = f"/v1/namespaces/{namespace}/timers/batch"
            while True:
                status, text, headers = server.ask(
                    "POST", path, body, "application/x-ndjson", connection
                )
                if status != 429:
                    break
                time.sleep(0.02)
            if status != 200 or headers["stormwheel-failed"] != "0":
                failures.append(f"{status} {text[:500].decode()}")

    started = MARK()
    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit(failures[0])
    return MARK() - started


def longest_turn(before, after):
    """What the longest turn between two looks at the turns did not exceed, in ms; None: no turn."""
    total = {bound: after[bound] - before[bound] for bound in after}
    last = max(total.values())
    return min(bound for bound in total if total[bound] == last) if last else None


def median(values):
    return statistics.median(values)


def table(title, head, rows):
    """Prints rows below a head, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[at]) for row in cells) for at in range(len(head))]
    print(f"\n{title}\n")
    for number, row in enumerate(cells):
        first, *rest = (cell.ljust(w) if at == 0 else cell.rjust(w)
                        for at, (cell, w) in enumerate(zip(row, widths)))
        print("  ".join([first, *rest]).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def machine():
    """What it is measured on, and when."""
    cpus = pathlib.Path("/proc/cpuinfo").read_text()
    name = re.search(r"^model name\s*: (.*)$", cpus, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cores": os.cpu_count(), "cpu": name and name[1], "kernel": os.uname().release,
            "memory_bytes": memory, "taken": int(time.time()), "load": os.getloadavg()[0]}


def finish(args, found):
    """Prints what was found as JSON, with what it was found on."""
    found["machine"] = machine()
    text = json.dumps(found, indent=1)
    if args.json:
        pathlib.Path(args.json).write_text(text + "\n")
    else:
        print(f"\n{text}")
