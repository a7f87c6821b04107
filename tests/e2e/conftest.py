"""Fixtures: a real daemon in folders of its own, and small HTTP clients for it."""

import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

from fake_upstream import FakeUpstream

HOB = os.environ.get("HOB")
MODEL = os.environ.get("HOB_TEST_MODEL")
MODEL_NAME = "smollm2:135m"
ASK = [{"role": "user", "content": "What is the capital of France?"}]
PARIS = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]


class UnixHTTPConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=60):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """`hob serve` in a home of its own; port and socket are known once start() returns."""

    def __init__(self, config="", env=None, models=True):
        # Not pytest's tmp_path: a Unix socket's path has at most 107 bytes.
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="hob-e2e-"))
        self.socket = str(self.home / "run/hob/hob.sock")
        self.config = self.home / "hob.conf"
        self.models = self.home / "data/hob/models"
        self.database = self.home / "data/hob/memory.db"
        self.log = self.home / "serve.log"
        self.process = None
        self.port = None
        self.env = {
            **os.environ,
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "XDG_DATA_HOME": str(self.home / "data"),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "HOB_CONFIG": str(self.config),
            **(env or {}),
        }
        self.env.pop("HOB_SOCKET", None)
        self.models.mkdir(parents=True)
        (self.home / "run").mkdir(mode=0o700)
        if models and MODEL:
            (self.models / "smollm2-135m.gguf").symlink_to(MODEL)
        self.write_config(config)

    def write_config(self, text):
        """Titles, which nobody waits for, are made only where a test has a word about memory."""
        if "memory" not in text:
            text += "\nmemory { titles = false }\n"
        self.config.write_text(text if "port" in text else text + "\nserver { port = -1 }\n")

    def start(self, *args):
        with open(self.log, "ab") as log:
            start = log.tell()
            self.process = subprocess.Popen([HOB, "serve", *args], env=self.env, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = re.search(rb"serving on .* port (\d+)", self.log.read_bytes()[start:])
            if found:
                self.port = int(found[1])
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise AssertionError("the daemon did not start:\n" + self.log.read_text()[-3000:])

    def kill(self, number=signal.SIGKILL, wait=40):
        self.process.send_signal(number)
        return self.process.wait(wait)

    def stop(self):
        """SIGTERM must end it with 0: sanitizers report leaks there."""
        if self.process and self.process.poll() is None:
            code = self.kill(signal.SIGTERM)
            assert code == 0, f"exit {code}:\n" + self.log.read_text()[-6000:]

    def cleanup(self):
        try:
            self.stop()
        finally:
            if self.process and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            shutil.rmtree(self.home, ignore_errors=True)

    def connection(self, tcp=False, timeout=120):
        if tcp:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        return UnixHTTPConnection(self.socket, timeout=timeout)

    def request(self, method, path, body=None, headers=None, tcp=False):
        """(status, headers, parsed JSON or text)."""
        c = self.connection(tcp)
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        data = r.read()
        c.close()
        try:
            return r.status, r.headers, json.loads(data)
        except ValueError:
            return r.status, r.headers, data.decode(errors="replace")

    def ask(self, model, headers=None, **more):
        """Chat of ASK, unless more says otherwise."""
        return self.request("POST", "/v1/chat/completions", {"model": model, "messages": ASK, **more}, headers)

    def chat(self, content, headers=None, **more):
        messages = [{"role": "user", "content": content}]
        return self.ask(MODEL_NAME, headers, messages=messages, **{"temperature": 0, **more})

    def stream(self, body, headers=None, tcp=False):
        """Yields each `data:` payload as it comes."""
        c = self.connection(tcp)
        c.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": True}), headers or {})
        r = c.getresponse()
        self.last_response = r
        assert r.status == 200, r.read()
        for line in r:
            if line.startswith(b"data: "):
                payload = line[6:].strip()
                yield payload.decode() if payload == b"[DONE]" else json.loads(payload)
        c.close()

    def engine_pid(self):
        """The worker's process id, found as a child of ours."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in children:
            if b"engine" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return int(pid)
        return None

    def run(self, *args, **more):
        """One `hob` command in this daemon's world."""
        return subprocess.run([HOB, *args], env=self.env, capture_output=True, text=True, timeout=120, **more)


def text_of(chunks):
    """Of a streamed chat."""
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks
                   if isinstance(c, dict) and c.get("choices"))


def error_of(chunks):
    return next((c["error"] for c in chunks if isinstance(c, dict) and c.get("error")), None)


def _need(model):
    if not HOB:
        pytest.skip("HOB does not name the binary to test")
    if model and not (MODEL and os.path.exists(MODEL)):
        pytest.skip("HOB_TEST_MODEL does not name the model to test with")


@pytest.fixture(scope="module")
def daemon():
    """One daemon with the real model for all tests of a file."""
    _need(True)
    d = Daemon()
    d.start()
    yield d
    d.cleanup()


@pytest.fixture
def make_daemon():
    """make_daemon(config, env) → a started Daemon of the test's own."""
    _need(False)
    made = []

    def make(config="", env=None, model=True, start=True):
        _need(model)
        d = Daemon(config, env, model)
        made.append(d)
        return d.start() if start else d

    yield make
    for d in made:
        d.cleanup()


@pytest.fixture
def up():
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
def wait_until():
    def wait(condition, seconds=20, what="condition"):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            value = condition()
            if value:
                return value
            time.sleep(0.02)
        raise AssertionError(f"not within {seconds} s: {what}")

    return wait
