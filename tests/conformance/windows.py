"""Windows as the plain player has them: from the definition, with the elements kept as they came."""

MIN, MAX = -(2**63), 2**63 - 1


class Windows:
    """The operator `windows`; a window is the namespace of its timers."""

    def __init__(self, options):
        (self.kind, self.shape), = options["window"].items()
        self.domain = options.get("domain", "event")
        self.lateness = options.get("lateness", 0)
        self.aggregate = options.get("aggregate", {})
        self.early = options.get("early") or {}
        self.discard = options.get("discard", False)

    def element(self, call, element):
        time = call.timestamp if self.domain == "event" else call.system.now
        call.is_late = True
        for window in self.assign(time):
            if self.kind == "session":
                window = self.merged(call, window)
            if not self.is_past(call, self.cleanup(window)):
                call.is_late = False
                self.add(call, self.open(call, window), (time, element["value"]))

    def add(self, call, window, element):
        content = call.key.kept[window]
        content["values"].append(element)
        content["fresh"] += 1
        if self.is_past(call, self.end(window)):
            self.fire(call, window, "late")
        elif content["fresh"] >= self.early.get("elements", MAX):
            self.fire(call, window, "early")
        elif "every" in self.early and content["early_at"] is None:
            content["early_at"] = call.system.now + self.early["every"]
            call.register("processing", content["early_at"], named(window))

    def on_timer(self, call, identity, time):
        window = tuple(int(it) for it in identity[2].split(".."))
        content = call.key.kept.get(window)
        if content is None:
            return
        if identity[0] == "processing" and time == content["early_at"]:
            content["early_at"] = None
            self.fire(call, window, "early")
            return
        if time == self.end(window):
            self.fire(call, window, "on_time")
        if time == self.cleanup(window):
            self.close(call, window)

    def assign(self, time):
        """The spans that a time belongs to, the earliest first."""
        if self.kind == "session":
            return [(time, time + self.shape["gap"])]
        size, offset = self.shape["size"], self.shape.get("offset", 0)
        slide = self.shape.get("slide", size)
        last = (time - offset) // slide * slide + offset
        return [(start, start + size) for start in range(last, time - size, -slide)][::-1]

    def merged(self, call, window):
        """The session that a new one makes with those that it touches."""
        parts = [it for it in call.key.kept if it[0] <= window[1] and window[0] <= it[1]]
        parts.append(window)
        return (min(it[0] for it in parts), max(it[1] for it in parts))

    def open(self, call, window):
        """Lets there be this window; sessions that it is made of go into it."""
        if window not in call.key.kept:
            parts = []
            if self.kind == "session":
                inside = lambda it: window[0] <= it[0] and it[1] <= window[1]
                parts = [self.close(call, it) for it in sorted(filter(inside, call.key.kept))]
            call.key.kept[window] = {
                "values": [value for part in parts for value in part["values"]],
                "fresh": sum(part["fresh"] for part in parts), "early_at": None}
            times = {self.end(window), self.cleanup(window)} - {MAX}
            for time in sorted(times):
                if not self.is_past(call, time):
                    call.register(self.domain, time, named(window))
        return window

    def close(self, call, window):
        content = call.key.kept.pop(window)
        for time in (self.end(window), self.cleanup(window)):
            call.delete(self.domain, time, named(window))
        if content["early_at"] is not None:
            call.delete("processing", content["early_at"], named(window))
        return content

    def end(self, window):
        """When it fires. A clock that reads its last millisecond has not left it."""
        return window[1] - 1 if self.domain == "event" else window[1]

    def cleanup(self, window):
        return min(self.end(window) + self.lateness, MAX)

    def is_past(self, call, time):
        watermark = call.system.sources.combined
        return self.domain == "event" and watermark is not None and time <= watermark

    def fire(self, call, window, pane):
        content = call.key.kept[window]
        content["fresh"] = 0
        if not content["values"]:
            return
        value = {"start": window[0], "end": window[1], "pane": pane}
        for field, how in self.aggregate.items():
            value[field] = aggregate(how, content["values"])
        call.emit_at(value, window[1] - 1)
        if self.discard:
            content["values"] = []


def aggregate(how, values):
    if how == "count":
        return len(values)
    (kind, pointer), = how.items()
    fields = []
    for _, value in sorted(values, key=lambda it: it[0]):
        for part in pointer.split("/")[1:]:
            value = value[part]
        fields.append(value)
    return {"sum": sum, "min": min, "max": max, "collect": list, "first": lambda it: it[0],
            "last": lambda it: it[-1], "avg": lambda it: sum(it) / len(it)}[kind](fields)


def named(window):
    return {"namespace": f"{window[0]}..{window[1]}"}
