"""A client that forgives nothing: it reads HTTP framing and event streams by the letter.

`ask()` sends one request on a connection of its own, asks for it to be closed, and reads to its end,
so that bytes after the answer are seen.  `terminal()` is what the tests are about: an answer has
exactly one end, and nothing comes after it.
"""

import json
import socket
import time


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def is_stream(self):
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def json(self):
        return json.loads(self.body)

    def events(self):
        """Each `data:` payload: parsed JSON, or the text "[DONE]".  Comments are left out."""
        text = self.body.decode()  # strictly UTF-8
        assert text.endswith("\n\n"), "the last event is not ended: %r" % text[-80:]
        found = []
        for block in text[:-2].split("\n\n"):
            name, data = None, []
            for line in block.split("\n"):
                assert "\r" not in line, line
                if line.startswith(":"):
                    continue
                field, colon, value = line.partition(": ")
                assert colon and field in ("data", "event"), "an odd line: %r" % line
                if field == "event":
                    name = value
                else:
                    data.append(value)
            assert len(data) < 2, "an event of several lines: %r" % block
            if data and name is None:  # named ones (progress) are only for who asked
                found.append(data[0] if data[0] == "[DONE]" else json.loads(data[0]))
        return found


def _dechunk(data):
    body = b""
    while True:
        size, crlf, data = data.partition(b"\r\n")
        assert crlf, "a chunk's size is missing: the answer was cut off"
        n = int(size, 16)
        assert len(data) >= n + 2 and data[n:n + 2] == b"\r\n", "a chunk was cut off"
        body, data = body + data[:n], data[n + 2:]
        if n == 0:
            assert not data, "bytes after the answer: %r" % data[:80]
            return body


def parse(raw):
    head, blank, rest = raw.partition(b"\r\n\r\n")
    assert blank, "no whole head: %r" % raw[:200]
    first, *lines = head.decode("ascii").split("\r\n")
    version, status = first.split(" ")[:2]
    assert version == "HTTP/1.1", first
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        assert colon and name.strip() == name, line
        assert name.lower() not in headers, "%s comes twice" % name
        headers[name.lower()] = value.strip()
    if "chunked" in headers.get("transfer-encoding", ""):
        assert "content-length" not in headers
        body = _dechunk(rest)
    else:
        assert len(rest) == int(headers["content-length"]), "%d bytes of %s" % (len(rest), headers["content-length"])
        body = rest
    return Reply(int(status), headers, body)


def send(daemon, body, headers=None, path="/v1/chat/completions", timeout=60):
    """The socket, once the request has been sent."""
    data = json.dumps(body).encode()
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    sock.connect(daemon.socket)
    lines = ["POST %s HTTP/1.1" % path, "Host: localhost", "Connection: close", "Content-Type: application/json",
             "Content-Length: %d" % len(data), *("%s: %s" % h for h in (headers or {}).items())]
    sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + data)
    return sock


def read_end(sock, timeout=60):
    """All bytes until the server closes; comments that keep coming do not put the time off."""
    raw, end = b"", time.monotonic() + timeout
    while True:
        left = end - time.monotonic()
        assert left > 0, "no end within %d s; so far: %r" % (timeout, raw[-200:])
        sock.settimeout(left)
        try:
            data = sock.recv(65536)
        except TimeoutError:
            continue
        if not data:
            return raw
        raw += data


def ask(daemon, body, headers=None, path="/v1/chat/completions", timeout=60):
    with send(daemon, body, headers, path, timeout) as sock:
        return parse(read_end(sock, timeout))


class Terminal:
    """How an answer ended: `error` (an error object) or `finish` (a reason), and the text before it."""

    def __init__(self, text, finish=None, error=None, usage=None):
        self.text, self.finish, self.error, self.usage = text, finish, error, usage

    @property
    def code(self):
        return self.error and self.error["code"]

    def __repr__(self):
        return "text %r, finish %r, error %r" % (self.text[:60], self.finish, self.error)


def _piece(choice):
    if "delta" in choice:
        return choice["delta"].get("content") or ""
    return choice["text"]


def _stream_terminal(events):
    text, finish, usage = "", None, None
    assert events, "a stream without events"
    for i, event in enumerate(events):
        last = i == len(events) - 1
        if event == "[DONE]":
            assert last, "after [DONE]: %r" % events[i + 1:]
            assert finish, "[DONE] without a finish reason"
            return Terminal(text, finish, usage=usage)
        if "error" in event:
            assert last, "after the error: %r" % events[i + 1:]
            assert not finish, "an error after the finish reason"
            return Terminal(text, error=event["error"])
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            assert not finish, "a choice after the finish reason: %r" % choice
            text += _piece(choice)
            finish = choice["finish_reason"]
    raise AssertionError("the stream has no end: %r" % events[-2:])


def terminal(reply):
    """The one end of an answer; fails when there is none, a second one, or anything after it."""
    if reply.is_stream:
        assert reply.status == 200
        return _stream_terminal(reply.events())
    assert reply.headers["content-type"].startswith("application/json"), reply.headers
    body = reply.json
    if reply.status != 200:
        assert set(body) == {"error"}
        return Terminal("", error=body["error"])
    assert "error" not in body and len(body["choices"]) == 1
    choice = body["choices"][0]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    assert choice["finish_reason"]
    return Terminal(text or "", choice["finish_reason"], usage=body["usage"])
