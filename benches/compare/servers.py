"""The servers that are compared, each with the little client that it takes.

Every one is asked for the same work in its own best way, by requests that are made beforehand:

- a timer has a key of 15 bytes and a time in milliseconds; a key has one timer;
- `register`: timers of so many keys; `heartbeat`: each is moved to a later time; `drain`: all that is
  due by a time is taken out, and its keys are in the hands of the client.

What a server cannot do, or does by less, stands with its class.
"""

import contextlib
import os
import pathlib
import pwd
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.append(str(pathlib.Path(__file__).parents[1] / "durable"))
import common  # noqa: E402

PACKAGES = {"redis-server": "redis-server", "beanstalkd": "beanstalkd", "psql": "postgresql"}


class Line:
    """A connection: what is sent goes whole, what comes is read to an end that the caller knows."""

    def __init__(self, address):
        family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
        self.socket = socket.socket(family)
        self.socket.connect(address)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def send(self, data):
        self.socket.sendall(data)

    def some(self):
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the server hung up")
        return data

    def until(self, is_whole):
        """All that comes, until it is whole."""
        parts, tail = [], b""
        while True:
            data = self.some()
            parts.append(data)
            tail = (tail + data)[-64:]
            if is_whole(tail, parts):
                return b"".join(parts)

    def exactly(self, count):
        """So many bytes; what has come behind them is for the next call."""
        data = bytearray(self.rest)
        while len(data) < count:
            data += self.some()
        self.rest = bytes(data[count:])
        return bytes(data[:count])


def pieces(items, size):
    return (items[at:at + size] for at in range(0, len(items), size))


class Target(common.Process):
    """A server that is measured. `share`: of the timers that are asked for, how many it is given."""

    share = 1.0
    drain_connections = 1
    # Whether its memory grows with its timers.
    tells_memory = True

    def settle(self):
        """Between phases, not measured."""

    def disk_bytes(self, home):
        """What its timers take of the disk; None where that cannot be told."""
        return common.disk_bytes(home)

    def wait_for(self, address):
        while True:
            self.check()
            with contextlib.suppress(OSError):
                return Line(address)
            time.sleep(0.01)


class Redis(Target):
    """A sorted set: the member is the key, the score its time; with `payloads` a hash beside it.

    Commands of a thousand members, in pipelines. A drain reads what is due and then removes it, so that
    nothing is lost with the client in between.
    """

    PIECE = 1000

    def __init__(self, home, append, fsync, payloads=False):
        self.payloads = payloads
        self.address = ("127.0.0.1", common.free_port())
        settings = {"port": self.address[1], "bind": "127.0.0.1", "dir": home, "save": "",
                    "appendonly": append, "appendfsync": fsync}
        command = ["redis-server"]
        for key, value in settings.items():
            command += [f"--{key}", str(value)]
        super().__init__(command, home, "redis")
        self.wait_for(self.address)

    def connect(self):
        return Line(self.address)

    @staticmethod
    def command(*words):
        parts = [b"*%d\r\n" % len(words)]
        parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
        return b"".join(parts)

    def zadd(self, timers, option=()):
        words = [b"ZADD", b"timers", *option]
        for key, at in timers:
            words += [b"%d" % at, key]
        return self.command(*words)

    def register(self, timers):
        data, answer = [], []
        for piece in pieces(timers, self.PIECE):
            data.append(self.zadd(piece))
            answer.append(b":%d\r\n" % len(piece))
            if self.payloads:
                fields = [word for key, _ in piece for word in (key, b"{}")]
                data.append(self.command(b"HSET", b"payloads", *fields))
                answer.append(b":%d\r\n" % len(piece))
        return b"".join(data), b"".join(answer)

    def heartbeat(self, timers):
        data = [self.zadd(piece, (b"XX", b"CH")) for piece in pieces(timers, self.PIECE)]
        answer = [b":%d\r\n" % len(piece) for piece in pieces(timers, self.PIECE)]
        return b"".join(data), b"".join(answer)

    def exchange(self, line, request):
        data, answer = request
        line.send(data)
        if (got := line.exactly(len(answer))) != answer:
            sys.exit(f"redis said {got[:200]}")

    def drain(self, line, now, count, seen):
        """Members come as they go back: the body of one answer is that of the next command."""
        ask = self.command(b"ZRANGEBYSCORE", b"timers", b"-inf", b"%d" % now, b"LIMIT", b"0",
                           b"%d" % self.PIECE)
        line.send(ask)
        taken = 0
        while taken < count:
            piece = min(self.PIECE, count - taken)
            head = b"*%d\r\n" % piece
            body = line.exactly(len(head) + piece * len(b"$15\r\n123456789012345\r\n"))
            if not body.startswith(head):
                sys.exit(f"redis said {body[:200]}")
            members = body[len(head):]
            data = b"*%d\r\n$4\r\nZREM\r\n$6\r\ntimers\r\n%b" % (piece + 2, members)
            answer = b":%d\r\n" % piece
            if self.payloads:
                data += b"*%d\r\n$4\r\nHDEL\r\n$8\r\npayloads\r\n%b" % (piece + 2, members)
                answer += answer
            taken += piece
            line.send(data + (ask if taken < count else b""))
            if line.exactly(len(answer)) != answer:
                sys.exit("redis removed other members than those that it gave")
            seen(piece)


class Postgres(Target):
    """A table with the key as its primary key and an index on the time, of 15 + 8 bytes.

    Registered by COPY, each batch a commit: the fastest way, which fails where a key is there already
    instead of keeping it one timer. Heartbeats update from arrays. Two connections drain, each taking
    what the other has not locked. A quarter of the memory for its buffers, checkpoints out of the way;
    so its memory is what it was given, and says nothing of a timer.
    """

    tells_memory = False
    drain_connections = 2
    DRAIN = 10_000

    def __init__(self, home):
        places = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
        if not places:
            sys.exit("there is no /usr/lib/postgresql/*/bin")
        tools, data = places[-1], home / "data"
        data.mkdir()
        self.user, as_user = pwd.getpwuid(os.getuid()).pw_name, []
        if os.getuid() == 0:
            # It refuses to be started by root.
            self.user, as_user = "postgres", ["setpriv", "--reuid=postgres", "--regid=postgres",
                                              "--init-groups"]
            shutil.chown(data, "postgres", "postgres")
            home.chmod(0o755)
        init = [*as_user, str(tools / "initdb"), "-D", str(data), "--auth=trust", "--locale=C",
                "--encoding=UTF8"]
        subprocess.run(init, check=True, stdout=subprocess.DEVNULL, cwd="/")
        buffers = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4 >> 20
        settings = {"unix_socket_directories": str(data), "listen_addresses": "",
                    "shared_buffers": f"{min(buffers, 8192)}MB", "max_wal_size": "8GB",
                    "checkpoint_timeout": "30min"}
        command = [*as_user, str(tools / "postgres"), "-D", str(data)]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        self.address = str(data / ".s.PGSQL.5432")
        super().__init__(command, home, "postgres")
        self.wait_for(self.address)
        while True:
            self.check()
            with contextlib.suppress(ConnectionError):
                line = self.connect()
                break
            time.sleep(0.05)
        self.query(line, "CREATE TABLE timers (key text PRIMARY KEY, due bigint NOT NULL)")
        self.query(line, "CREATE INDEX ON timers (due)")

    @staticmethod
    def message(kind, body):
        return kind + struct.pack("!I", len(body) + 4) + body

    def connect(self):
        line = Line(self.address)
        words = b"user\0%b\0database\0postgres\0\0" % self.user.encode()
        line.send(struct.pack("!II", len(words) + 8, 196_608) + words)
        self.answer(line)
        return line

    def answer(self, line):
        """All messages up to "ready for query"."""
        got = line.until(lambda tail, _: tail.endswith(b"Z\0\0\0\x05I"))
        if got.startswith(b"E") or b"ERROR\0" in got:
            raise ConnectionError(got[:300])
        return got

    def query(self, line, text):
        data = text if isinstance(text, bytes) else text.encode()
        line.send(self.message(b"Q", data + b"\0"))
        return self.answer(line)

    def register(self, timers):
        rows = b"".join(b"%b\t%d\n" % timer for timer in timers)
        copy = self.message(b"Q", b"COPY timers FROM STDIN\0")
        return copy + self.message(b"d", rows) + self.message(b"c", b"")

    def heartbeat(self, timers):
        keys, times = b",".join(key for key, _ in timers), b",".join(b"%d" % at for _, at in timers)
        return self.message(b"Q", b"UPDATE timers SET due = new.due FROM unnest('{%b}'::text[], "
                            b"'{%b}'::bigint[]) AS new (key, due) WHERE timers.key = new.key\0"
                            % (keys, times))

    def exchange(self, line, request):
        line.send(request)
        self.answer(line)

    def drain(self, line, now, count, seen):
        ask = (f"DELETE FROM timers WHERE ctid = ANY (ARRAY(SELECT ctid FROM timers WHERE due <= {now} "
               f"ORDER BY due LIMIT {self.DRAIN} FOR UPDATE SKIP LOCKED)) RETURNING key")
        while True:
            got = self.query(line, ask)
            taken = int(re.search(rb"DELETE (\d+)\0Z\0\0\0\x05I$", got)[1])
            if taken == 0:
                return
            seen(taken)

    def settle(self):
        self.query(self.connect(), "VACUUM ANALYZE timers")


class Beanstalkd(Target):
    """Jobs with a delay, in whole seconds; a key is only the body of a job, nothing makes it one timer.

    A heartbeat is a delete by the number that the server gave, and another put. A storm falls due within
    a second or two; only then is it drained: reserve and delete, in pipelines. It is given a twentieth
    of the timers, because it takes so long, and no drain but that of the storm.
    """

    share = 0.05
    PIECE = 500

    def __init__(self, home, fsync_ms):
        self.address = ("127.0.0.1", common.free_port())
        self.numbers, self.lock = {}, threading.Lock()
        (home / "log").mkdir()
        super().__init__(["beanstalkd", "-l", "127.0.0.1", "-p", str(self.address[1]), "-b",
                          str(home / "log"), "-f", str(fsync_ms)], home, "beanstalkd")
        self.wait_for(self.address)

    def connect(self):
        return Line(self.address)

    def disk_bytes(self, _):
        # Files of ten MiB are taken before they are filled.
        return None

    def put(self, timers, delay, deletes=False):
        """Requests of a few hundred jobs: it writes each answer before it reads on."""
        found = []
        for piece in pieces(timers, self.PIECE):
            data = [b"put 0 %d 600 %d\r\n%b\r\n" % (delay, len(key), key) for key, _ in piece]
            if deletes:
                data = [b"delete %b\r\n%b" % (self.numbers[key], put)
                        for (key, _), put in zip(piece, data)]
            found.append((b"".join(data), [key for key, _ in piece], 2 if deletes else 1))
        return found

    def register(self, timers, delay=3600):
        return self.put(timers, delay)

    def heartbeat(self, timers):
        return self.put(timers, 7200, deletes=True)

    def exchange(self, line, request):
        for data, keys, answers_each in request:
            line.send(data)
            answers = self.lines(line, answers_each * len(keys))
            numbers = [answer[9:] for answer in answers if answer.startswith(b"INSERTED ")]
            if len(numbers) != len(keys) or len(answers) - answers.count(b"DELETED") != len(keys):
                sys.exit(f"beanstalkd said {answers[:3]}")
            with self.lock:
                self.numbers.update(zip(keys, numbers))

    @staticmethod
    def lines(line, count):
        seen = 0

        def is_whole(_, parts):
            nonlocal seen
            seen += parts[-1].count(b"\n")
            return seen >= count
        return line.until(is_whole).split(b"\r\n")[:-1]

    def clear(self):
        line, numbers = self.connect(), list(self.numbers.values())
        for piece in pieces(numbers, self.PIECE):
            line.send(b"".join(b"delete %b\r\n" % number for number in piece))
            self.lines(line, len(piece))
        self.numbers.clear()

    def await_due(self, count):
        line = self.connect()
        while True:
            line.send(b"stats\r\n")
            got = line.until(lambda tail, _: tail.endswith(b"\r\n\r\n") or tail.endswith(b"\n\r\n"))
            if int(re.search(rb"current-jobs-ready: (\d+)", got)[1]) >= count:
                return
            time.sleep(0.02)

    def drain(self, line, _, count, seen):
        taken = 0
        while taken < count:
            piece = min(self.PIECE, count - taken)
            line.send(b"reserve-with-timeout 1\r\n" * piece)
            answers = self.lines(line, 2 * piece)
            numbers = [answer.split(b" ")[1] for answer in answers[::2]]
            line.send(b"".join(b"delete %b\r\n" % number for number in numbers))
            if set(self.lines(line, piece)) != {b"DELETED"}:
                sys.exit("beanstalkd did not delete what it had handed out")
            taken += piece
            seen(piece)


class Stormwheel(common.Server, Target):
    """A namespace with a manual clock. Timers are named, as a key has one; heartbeats are touches.

    A drain moves the clock, and reads the stream of outputs to the last fire. Files are taken before they
    are filled, so that its bytes on disk are those of the log that a start would follow.
    """

    def __init__(self, home, ack):
        self.ack = ack
        super().__init__(home)
        self.address = ("127.0.0.1", self.port)
        self.get_json("PUT", "/v1/namespaces/work", '{"clock":"manual"}')
        self.set_clock(BEGIN)

    def set_clock(self, now):
        self.get_json("PUT", "/v1/namespaces/work/clock", f'{{"now":{now}}}')

    def connect(self, *_):
        return Line(self.address)

    def ask(self, method, path, body=None, content_type="application/json", connection=None):
        connection = connection or common.Server.connect(self)
        return super().ask(method, path, body, content_type, connection)

    def disk_bytes(self, _):
        return self.metric("stormwheel_log_replay_bytes")

    def batch(self, lines):
        body = b"\n".join(lines)
        head = (f"POST /v1/namespaces/work/timers/batch?ack={self.ack} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
                f"content-type: application/x-ndjson\r\ncontent-length: {len(body)}\r\n\r\n")
        return head.encode() + body

    def register(self, timers):
        return self.batch([b'{"op":"register","key":"%b","name":"timeout","at":%d}' % timer
                           for timer in timers])

    def heartbeat(self, timers):
        return self.batch([b'{"op":"touch","key":"%b","after":"%dms"}' % (key, at - BEGIN)
                           for key, at in timers])

    def exchange(self, line, request):
        while True:
            line.send(request)
            got = line.until(is_whole_answer)
            if got.startswith(b"HTTP/1.1 200") and b"\r\nstormwheel-failed: 0\r\n" in got:
                return
            if not got.startswith(b"HTTP/1.1 429"):
                sys.exit(f"stormwheel said {got[:500]}")
            time.sleep(0.02)

    def drain(self, line, now, count, seen):
        line.send(b"GET /v1/namespaces/work/outputs?cursor=latest HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        head = line.some()
        if not head.startswith(b"HTTP/1.1 200"):
            sys.exit(f"stormwheel said {head[:500]}")
        clock = threading.Thread(target=self.set_clock, args=(now,))
        clock.start()
        taken = 0
        while taken < count:
            # A fire without a payload has one brace.
            some = line.some().count(b"{")
            taken += some
            seen(some)
        clock.join()


def is_whole_answer(tail, parts):
    """Whether an answer of HTTP is all there."""
    head, is_there, body = parts[0].partition(b"\r\n\r\n")
    if not is_there:
        # The head came in pieces.
        parts[:] = [b"".join(parts)]
        head, is_there, body = parts[0].partition(b"\r\n\r\n")
        if not is_there:
            return False
    if length := re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE):
        return len(body) + sum(map(len, parts[1:])) >= int(length[1])
    return tail.endswith(b"\r\n0\r\n\r\n")


# Where the clock begins.
BEGIN = 1_800_000_000_000
TARGETS = {
    "stormwheel synced": (lambda home: Stormwheel(home, "synced"), "answered once on disk"),
    "stormwheel accepted": (lambda home: Stormwheel(home, "accepted"), "on disk soon after"),
    "redis always": (lambda home: Redis(home, "yes", "always"), "answered once on disk"),
    "redis always + payloads": (
        lambda home: Redis(home, "yes", "always", payloads=True), "answered once on disk"),
    "redis everysec": (lambda home: Redis(home, "yes", "everysec"), "on disk within a second or two"),
    "redis no": (lambda home: Redis(home, "yes", "no"), "when the kernel likes"),
    "postgresql": (Postgres, "answered once on disk"),
    "beanstalkd -f 0": (lambda home: Beanstalkd(home, 0), "answered once on disk"),
    "beanstalkd -f 50": (lambda home: Beanstalkd(home, 50), "on disk within 50 ms"),
}
