"""Drives `hob engine` by the line protocol of src/engine/wire.h.  The binary is $HOB, default `hob`."""
import json
import os
import shlex
import subprocess


class Engine:
    def __init__(self, *options):
        command = shlex.split(os.environ.get("HOB", "hob")) + ["engine", *options]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.hello = self.event()

    def send(self, **line):
        self.child.stdin.write(json.dumps(line).encode() + b"\n")
        self.child.stdin.flush()

    def event(self):
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError(f"the engine is gone, status {self.child.wait()}")
        return json.loads(line)

    def load(self, path, model=1, ctx=4096, slots=1):
        self.send(op="load", model=model, path=path, ctx=ctx, slots=slots)
        event = self.event()
        while event["ev"] == "loading":
            event = self.event()
        if event["ev"] != "loaded":
            raise RuntimeError(f"load {path}: {event}")
        return event

    def run(self, job, model=1, **request):
        """One job alone: its text and its last event."""
        self.send(op="start", job=job, model=model, **request)
        text = []
        while True:
            event = self.event()
            if event["ev"] == "text":
                text.append(event["text"])
            elif event["ev"] in ("finished", "failed"):
                return "".join(text), event

    def close(self):
        self.child.stdin.close()
        status = self.child.wait(timeout=30)
        self.child.stdout.close()
        return status
