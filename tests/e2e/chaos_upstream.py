"""An upstream that breaks on request, over raw sockets so that it can break framing too.

It speaks OpenAI (…/chat/completions, …/completions), Anthropic Messages (…/v1/messages) and Ollama
(…/api/chat), told apart by the path.  The model's name is the mode, with arguments and a key:

    MODE[:ARGUMENT]...[@KEY]        "rst-mid", "status:429:7", "fails:2:503@first"

The key tells calls of one test from those of others, and is what `fails` counts by.

As a module: `with ChaosUpstream() as up:` has `up.url`, `up.calls(key)`: a Call for each generation
asked for, `up.wait_call(key)`, `up.wait_gone(key)` and `up.heal(key)`, after which `fails` works.
As a program: `python3 chaos_upstream.py [PORT]` prints its address and serves until it is stopped.
Only the standard library; loopback only; a thread a connection.
"""

import email.utils
import gzip
import json
import select
import socket
import struct
import sys
import threading
import time

WORDS = ["The ", "capital ", "of ", "France ", "is ", "Paris."]
TEXT = "".join(WORDS)
FOREVER_S = 60  # of modes that hang: longer than any deadline of a test, shorter than a test run
MODEL = "chaos/upstream-model"


class Gone(Exception):
    """The peer closed the connection before its answer was complete."""


# ---- what each protocol says


class OpenAI:
    """Chat completions and raw completions."""

    kind = "text/event-stream"
    comment = b": CHAOS PROCESSING\n\n"

    def __init__(self, request, path):
        self.chat = path.endswith("/chat/completions")

    @staticmethod
    def event(body):
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    def chunk(self, choice, **more):
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        choices = [] if choice is None else [{"index": 0, "finish_reason": None, **choice}]
        return self.event({"id": "gen-1", "object": kind, "created": 1, "model": MODEL, "choices": choices, **more})

    def begin(self):
        return self.chunk({"delta": {"role": "assistant", "content": ""}}) if self.chat else b""

    def text(self, word):
        return self.chunk({"delta": {"content": word}} if self.chat else {"text": word})

    def raw_text(self, data):
        """A piece of text whose bytes are given, however broken."""
        return b'data: {"choices":[{"index":0,"delta":{"content":"' + data + b'"}}]}\n\n'

    def reasoning(self, word):
        return self.chunk({"delta": {"reasoning": word, "content": ""}})

    def tool_call(self):
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
        first = self.chunk({"delta": {"tool_calls": [call]}})
        parts = ['{"city":', '"Paris"}']
        return first + b"".join(
            self.chunk({"delta": {"tool_calls": [{"index": 0, "function": {"arguments": p}}]}}) for p in parts)

    def finish(self, reason="stop"):
        return self.chunk({"delta": {}, "finish_reason": reason} if self.chat
                          else {"text": "", "finish_reason": reason})

    def usage(self):
        return {"prompt_tokens": 11, "completion_tokens": 6, "total_tokens": 17,
                "prompt_tokens_details": {"cached_tokens": 4}, "cost": 0.000125}

    def terminator(self):
        return self.chunk(None, usage=self.usage()) + b"data: [DONE]\n\n"

    def bare_terminator(self):
        return b"data: [DONE]\n\n"

    def error(self, code, message):
        return {"error": {"message": message, "code": code, "type": "server_error"}}

    def error_event(self, code, message):
        return self.event({**self.error(code, message), "choices": []})

    def whole(self):
        message = {"message": {"role": "assistant", "content": TEXT}} if self.chat else {"text": TEXT}
        return {"id": "gen-1", "object": "chat.completion" if self.chat else "text_completion", "created": 1,
                "model": MODEL, "choices": [{"index": 0, "finish_reason": "stop", **message}], "usage": self.usage()}


class Anthropic:
    """Messages: named events, no [DONE]."""

    kind = "text/event-stream"
    comment = b'event: ping\ndata: {"type":"ping"}\n\n'
    reasons = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
    errors = {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error",
              403: "permission_error", 404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error",
              504: "timeout_error", 529: "overloaded_error"}

    def __init__(self, request, path):
        self.index = -1  # of the content block that is open

    @staticmethod
    def event(body):
        return b"event: %s\ndata: %s\n\n" % (body["type"].encode(), json.dumps(body).encode())

    def message(self, content):
        return {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": content,
                "stop_reason": None, "stop_sequence": None,
                "usage": {"input_tokens": 7, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4,
                          "output_tokens": 1}}

    def begin(self, block=None):
        return self.event({"type": "message_start", "message": self.message([])}) + self.block(block)

    def block(self, block=None):
        """Opens the next block, of text unless told otherwise; closes the one before."""
        before = self.event({"type": "content_block_stop", "index": self.index}) if self.index >= 0 else b""
        self.index += 1
        return before + self.event({"type": "content_block_start", "index": self.index,
                                    "content_block": block or {"type": "text", "text": ""}})

    def delta(self, **delta):
        return self.event({"type": "content_block_delta", "index": self.index, "delta": delta})

    def text(self, word):
        return self.delta(type="text_delta", text=word)

    def raw_text(self, data):
        return (b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
                b'"delta":{"type":"text_delta","text":"' + data + b'"}}\n\n')

    def reasoning(self, word):
        return self.delta(type="thinking_delta", thinking=word)

    def tool_call(self):
        block = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {}}
        return self.block(block) + b"".join(self.delta(type="input_json_delta", partial_json=p)
                                            for p in ['{"city":', '"Paris"}'])

    def finish(self, reason="stop"):
        return (self.event({"type": "content_block_stop", "index": self.index})
                + self.event({"type": "message_delta",
                              "delta": {"stop_reason": self.reasons.get(reason, reason), "stop_sequence": None},
                              "usage": {"output_tokens": 6}}))

    def terminator(self):
        return self.event({"type": "message_stop"})

    bare_terminator = terminator

    def error(self, code, message):
        return {"type": "error", "error": {"type": self.errors.get(code, "api_error"), "message": message}}

    def error_event(self, code, message):
        return self.event(self.error(code, message))

    def whole(self):
        return {**self.message([{"type": "text", "text": TEXT}]), "stop_reason": "end_turn"}


class Ollama:
    """Its own chat: a line of JSON for each piece."""

    kind = "application/x-ndjson"
    comment = b"\n"

    def __init__(self, request, path):
        self.reason = None

    def line(self, message=None, **more):
        return json.dumps({"model": MODEL, "created_at": "2026-01-01T00:00:00Z",
                           "message": {"role": "assistant", "content": "", **(message or {})},
                           "done": False, **more}).encode() + b"\n"

    def begin(self):
        return b""

    def text(self, word):
        return self.line({"content": word})

    def raw_text(self, data):
        return b'{"message":{"role":"assistant","content":"' + data + b'"},"done":false}\n'

    def reasoning(self, word):
        return self.line({"thinking": word})

    def tool_call(self):
        return self.line({"tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Paris"}}}]})

    def finish(self, reason="stop"):
        self.reason = "stop" if reason == "tool_calls" else reason
        return b""  # the last line says it

    def terminator(self):
        return self.line(done=True, **({"done_reason": self.reason} if self.reason else {}), total_duration=3000000,
                         load_duration=1, prompt_eval_count=11, prompt_eval_duration=1000000, eval_count=6,
                         eval_duration=2000000)

    bare_terminator = terminator

    def error(self, code, message):
        return {"error": message}

    def error_event(self, code, message):
        return json.dumps({"error": message}).encode() + b"\n"

    def whole(self):
        return json.loads(self.line({"content": TEXT}, done=True, done_reason="stop", prompt_eval_count=11,
                                    eval_count=6))


def protocol_of(path):
    if path.endswith("/messages"):
        return Anthropic
    if path.endswith("/api/chat"):
        return Ollama
    return OpenAI if path.endswith("/completions") else None


# ---- the connection and one answer on it


class Connection:
    """Bytes of one accepted socket.  Whoever writes or waits learns that the peer has left."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.open = True

    def read(self):
        data = self.sock.recv(65536)
        self.buffer += data
        return data

    def read_request(self):
        """(method, path, headers, body), or None at the connection's end."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.read():
                return None
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(self.buffer) < length:
            if not self.read():
                return None
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        method, path, _ = first.split(" ", 2)
        return method, path, headers, body

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError as e:
            raise Gone from e

    def pause(self, seconds):
        """Returns after that time; Gone as soon as the peer closes."""
        end = time.monotonic() + seconds
        while True:
            ready, _, _ = select.select([self.sock], [], [], max(0, end - time.monotonic()))
            if not ready:
                return
            try:
                if not self.read():
                    raise Gone
            except OSError as e:
                raise Gone from e

    def close(self):
        if self.open:
            self.open = False
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self.sock.close()

    def reset(self):
        self.open = False
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Call:
    """What was asked, and whether the peer waited for the end of the answer."""

    def __init__(self, path, headers, body, connection):
        self.path, self.headers, self.body, self.connection = path, headers, body, connection
        name, _, self.key = str(body.get("model", "ok")).partition("@")
        self.mode, *self.args = name.split(":")
        self.gone = threading.Event()  # the peer left early
        self.over = threading.Event()  # nothing more is written or awaited


class Answer:
    """A response being written, in the call's protocol."""

    def __init__(self, call, connection, protocol):
        self.call, self.c, self.p = call, connection, protocol
        self.chunked = False

    def head(self, status=200, kind=None, headers=(), length=None):
        lines = ["HTTP/1.1 %d Chaos" % status, "Content-Type: " + (kind or self.p.kind)]
        self.chunked = length is None
        lines.append("Transfer-Encoding: chunked" if self.chunked else "Content-Length: %d" % length)
        lines += ["%s: %s" % h for h in headers]
        self.c.send(("\r\n".join(lines) + "\r\n\r\n").encode())

    def put(self, data):
        """One network chunk of the body."""
        if data:
            self.c.send(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data)

    def end(self):
        if self.chunked:
            self.c.send(b"0\r\n\r\n")

    def plain(self, status, body, kind="application/json", headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.head(status, kind, headers, len(data))
        self.put(data)

    def words(self, words=WORDS):
        self.put(self.p.begin())
        for word in words:
            self.put(self.p.text(word))

    def all(self):
        """The bytes of a whole good stream."""
        p = self.p
        return p.begin() + b"".join(p.text(w) for w in WORDS) + p.finish() + p.terminator()

    def rest(self, reason="stop"):
        self.put(self.p.finish(reason) + self.p.terminator())
        self.end()


MODES = {}


def mode(f):
    MODES[f.__name__.strip("_").replace("_", "-")] = f
    return f


# ---- good answers, some of them odd


@mode
def ok(a, *_):
    if a.call.body.get("stream", isinstance(a.p, Ollama)):
        a.head()
        a.words()
        a.rest()
    else:
        a.plain(200, a.p.whole())


@mode
def whole_json(a):
    """The answer in one JSON text, though a stream was asked for."""
    a.plain(200, a.p.whole())


@mode
def tools(a):
    a.head()
    a.put(a.p.begin() + a.p.tool_call())
    a.rest("tool_calls")


@mode
def reasoning(a):
    a.head()
    if isinstance(a.p, Anthropic):
        a.put(a.p.begin({"type": "thinking", "thinking": "", "signature": ""}))
        a.put(a.p.reasoning("hmm ") + a.p.reasoning("yes") + a.p.block())
    else:
        a.put(a.p.reasoning("hmm ") + a.p.reasoning("yes"))
    for word in WORDS:
        a.put(a.p.text(word))
    a.rest()


@mode
def length(a):
    a.head()
    a.words(WORDS[:2])
    a.rest("length")


@mode
def filtered(a):
    a.head()
    a.words(WORDS[:2])
    a.rest("content_filter")


@mode
def strange_finish(a):
    """A finish reason that nobody has heard of."""
    a.head()
    a.words()
    a.rest("eos_token")


@mode
def comment_flood(a):
    a.head()
    for _ in range(200):
        a.put(a.p.comment * 100)
    a.words()
    a.put(a.p.comment * 100)
    a.rest()


@mode
def crlf(a):
    a.head()
    for byte in a.all().replace(b"\n", b"\r\n"):
        a.put(bytes([byte]))
    a.end()


@mode
def cr(a):
    a.head()
    a.put(a.all().replace(b"\n", b"\r"))
    a.end()


@mode
def bom(a):
    a.head()
    a.put(b"\xef\xbb")
    a.put(b"\xbf" + a.all())
    a.end()


@mode
def two_in_one(a):
    """Several events in one chunk, borders in the middle of events."""
    data = a.all()
    a.head()
    for i in range(0, len(data), 700):
        a.put(data[i:i + 700])
    a.end()


@mode
def split_50(a):
    """Each event over 50 chunks, if it has so many bytes."""
    a.head()
    for event in [a.p.begin(), *[a.p.text(w) for w in WORDS], a.p.finish() + a.p.terminator()]:
        step = max(1, len(event) // 50)
        for i in range(0, len(event), step):
            a.put(event[i:i + step])
    a.end()


@mode
def half_char_chunks(a):
    """Characters split between chunks of the body."""
    a.head()
    a.put(a.p.begin())
    for byte in a.p.raw_text("Grüße 🔥 日本".encode()):
        a.put(bytes([byte]))
    a.rest()


@mode
def half_char_deltas(a):
    """Characters split between events: no event is whole UTF-8."""
    fire = "🔥".encode()
    a.head()
    a.put(a.p.begin())
    for part in (b"a" + fire[:1], fire[1:3], fire[3:] + b"z"):
        a.put(a.p.raw_text(part))
    a.rest()


@mode
def half_char_end(a):
    """The text ends in the middle of a character."""
    a.head()
    a.put(a.p.begin() + a.p.raw_text(b"Gr\xc3"))
    a.rest()


@mode
def no_terminator(a):
    """A finish reason, but no [DONE]."""
    a.head()
    a.words()
    a.put(a.p.finish())
    a.end()


@mode
def no_finish(a):
    a.head()
    a.words()
    a.put(a.p.bare_terminator())
    a.end()


@mode
def hang_after_done(a):
    a.head()
    a.words()
    a.put(a.p.finish() + a.p.terminator())
    a.c.pause(FOREVER_S)


@mode
def double_finish(a):
    a.head()
    a.words()
    a.put(a.p.finish() * 2)
    a.rest()


@mode
def double_terminator(a):
    a.head()
    a.words()
    a.put(a.p.finish() + a.p.terminator())
    a.put(a.p.finish() + a.p.terminator())
    a.end()


@mode
def text_after_done(a):
    a.head()
    a.words()
    a.put(a.p.finish() + a.p.terminator() + a.p.text("and more"))
    a.put(a.p.text("still more"))
    a.end()


@mode
def error_after_done(a):
    a.head()
    a.words()
    a.put(a.p.finish() + a.p.terminator() + a.p.error_event(500, "too late"))
    a.end()


@mode
def early_hints(a):
    a.c.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n")
    ok(a)


@mode
def big_headers(a):
    """Much, but not too much."""
    a.head(headers=[("X-Chaos-%d" % i, "y" * 1000) for i in range(50)])
    a.words()
    a.rest()


@mode
def slow(a):
    """A piece every 50 ms until nobody listens any more."""
    a.head()
    a.put(a.p.begin())
    while True:
        a.put(a.p.text("tick "))
        a.c.pause(0.05)


@mode
def big(a):
    """Four megabytes as fast as they are taken."""
    a.head()
    a.words(["x" * 4096] * 1024)
    a.rest()


# ---- refusals


@mode
def status(a, number, retry=None, unit="s"):
    """status:NUMBER[:RETRY-AFTER[:s|date|ms]]"""
    number = int(number)
    headers = []
    if retry and unit == "date":
        headers = [("Retry-After", email.utils.formatdate(time.time() + float(retry), usegmt=True))]
    elif retry and unit == "ms":
        headers = [("retry-after-ms", str(int(float(retry) * 1000)))]
    elif retry:
        headers = [("Retry-After", retry)]
    a.plain(number, a.p.error(number, "chaos says %d" % number), headers=headers)


@mode
def echo_key(a, number):
    """A message that quotes the credentials it got."""
    given = a.call.headers.get("authorization") or a.call.headers.get("x-api-key")
    a.plain(int(number), a.p.error(int(number), "chaos does not like %s" % given))


@mode
def echo_key_mid(a):
    a.head()
    a.words(WORDS[:3])
    a.put(a.p.error_event(500, "chaos does not like %s" % a.call.headers.get("authorization")))
    a.end()


@mode
def moderation(a):
    """OpenRouter's 403 with reasons; elsewhere the nearest thing."""
    body = a.p.error(403, "Your input was flagged")
    if isinstance(a.p, OpenAI):
        body["error"]["metadata"] = {"error_type": "content_policy_violation", "reasons": ["violence"],
                                     "flagged_input": "What is"}
    a.plain(403, body)


@mode
def context(a):
    message = "This model's maximum context length is 8192 tokens"
    body = a.p.error(400, message)
    if isinstance(a.p, OpenAI):
        body["error"]["code"] = "context_length_exceeded"
    elif isinstance(a.p, Anthropic):
        body["error"]["message"] = "prompt is too long: 209000 tokens > 200000 maximum"
    a.plain(400, body)


@mode
def quota(a):
    """OpenAI's 429 that no waiting helps."""
    body = a.p.error(429, "You exceeded your current quota")
    if isinstance(a.p, OpenAI):
        body["error"]["code"] = body["error"]["type"] = "insufficient_quota"
    a.plain(429, body)


@mode
def gateway_html(a):
    a.plain(502, b"<html><h1>Bad gateway</h1></html>", "text/html")


@mode
def redirect(a):
    a.plain(302, b"", "text/plain", [("Location", "http://127.0.0.1:1/elsewhere")])


# ---- answers of status 200 that are none


@mode
def html(a):
    a.plain(200, b"<!doctype html><title>Sign in</title>", "text/html")


@mode
def json_error(a):
    a.plain(200, a.p.error(503, "late trouble"))


@mode
def json_odd(a):
    a.plain(200, {"hello": "world"})


@mode
def json_trailing(a):
    a.plain(200, json.dumps(a.p.whole()).encode() + b"}} trailing garbage")


@mode
def event_trailing(a):
    a.head()
    a.words(WORDS[:2])
    a.put(a.p.text("of ").rstrip(b"\n") + b" trailing garbage\n\n")
    a.rest()


@mode
def event_garbage(a):
    a.head()
    a.words(WORDS[:2])
    a.put(b'data: {"choices": [ nonsense\n\n' if a.p.kind == "text/event-stream" else b'{"message": nonsense\n')
    a.rest()


@mode
def deep_json(a):
    """An event nested 100,000 deep."""
    deep = b"[" * 100000 + b"]" * 100000
    a.head()
    a.put((b"data: %s\n\n" if a.p.kind == "text/event-stream" else b"%s\n") % deep)
    a.rest()


@mode
def empty(a):
    a.head(length=0)


@mode
def no_content(a):
    a.c.send(b"HTTP/1.1 204 No Content\r\n\r\n")


@mode
def binary(a):
    a.head(kind="application/octet-stream")
    a.put(bytes(range(256)) * 20)
    a.end()


@mode
def gzipped(a):
    """Compressed, although nobody asked."""
    data = gzip.compress(a.all())
    a.head(headers=[("Content-Encoding", "gzip")], length=len(data))
    a.put(data)


@mode
def long_line(a):
    """A line of 10 MB."""
    a.head()
    a.put(a.p.text("x")[:20])
    for _ in range(160):
        a.put(b"x" * 65536)
    a.put(b"\n\n")
    a.rest()


# ---- errors inside the stream


@mode
def error_no_choices(a, code="429"):
    """Before any text, with `choices: []`."""
    a.head()
    a.put(a.p.error_event(int(code), "busy here"))
    a.end()


@mode
def error_then_silence(a, code="503"):
    a.head()
    a.put(a.p.error_event(int(code), "trouble here"))
    a.c.pause(FOREVER_S)


@mode
def error_mid(a):
    a.head()
    a.words(WORDS[:3])
    a.put(a.p.error_event(502, "the provider died"))
    a.end()


@mode
def error_mid_silence(a):
    a.head()
    a.words(WORDS[:3])
    a.put(a.p.error_event(502, "the provider died"))
    a.c.pause(FOREVER_S)


@mode
def error_string_code(a):
    a.head()
    a.words(WORDS[:3])
    a.put(a.p.error_event("server_error", "the provider died"))
    a.end()


@mode
def error_finish(a):
    """OpenRouter's shape: a choice whose finish reason is "error", beside the error."""
    a.head()
    a.words(WORDS[:3])
    a.put(a.p.chunk({"delta": {"content": ""}, "finish_reason": "error"},
                    error={"code": 502, "message": "the provider died"}))
    a.c.pause(FOREVER_S)


# ---- transport


@mode
def rst_before_head(a):
    a.c.reset()


@mode
def fin_before_head(a):
    a.c.close()


@mode
def rst_after_head(a):
    a.head()
    a.c.pause(0.05)
    a.c.reset()


@mode
def rst_mid(a):
    a.head()
    a.words(WORDS[:3])
    a.c.pause(0.1)  # a reset overtakes bytes that the peer has not read yet
    a.c.reset()


@mode
def fin_mid(a):
    """The connection ends within chunked framing."""
    a.head()
    a.words(WORDS[:3])
    a.c.close()


@mode
def truncated(a):
    """Framing is whole, the stream is not."""
    a.head()
    a.words(WORDS[:3])
    a.end()


@mode
def half_event(a):
    """Ends in the middle of an event."""
    a.head()
    a.words(WORDS[:3])
    a.put(a.p.text("France ")[:40])
    a.end()


@mode
def chunk_garbage(a):
    a.head()
    a.words(WORDS[:3])
    a.c.send(b"zz\r\nthis is no chunk\r\n")
    a.c.pause(FOREVER_S)


@mode
def length_too_long(a):
    data = json.dumps(a.p.whole()).encode()
    a.head(kind="application/json", length=len(data) + 100)
    a.put(data)
    a.c.close()


@mode
def length_too_short(a):
    data = a.all()
    head = "HTTP/1.1 200 Chaos\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (a.p.kind, len(data) // 2)
    a.c.send(head.encode() + data)
    a.c.close()


@mode
def stray_answer(a):
    """A good answer, and a moment later another one that nobody asked for."""
    stray = json.dumps(a.p.whole()).replace(WORDS[1], "wrong answer ").encode()
    ok(a)
    a.c.pause(0.1)
    a.plain(200, stray)


@mode
def not_http(a):
    a.c.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    a.c.close()


@mode
def huge_headers(a):
    a.head(headers=[("X-Chaos-%d" % i, "y" * 8000) for i in range(200)])
    a.words()
    a.rest()


# ---- time


@mode
def hang_before_head(a):
    a.c.pause(FOREVER_S)


@mode
def hang_after_head(a):
    a.head()
    a.c.pause(FOREVER_S)


@mode
def hang_mid(a):
    a.head()
    a.words(WORDS[:3])
    a.c.pause(FOREVER_S)


@mode
def comments_forever(a):
    a.head()
    while True:
        a.put(a.p.comment)
        a.c.pause(0.05)


@mode
def comments_mid(a):
    """Text, and then nothing but signs of life."""
    a.head()
    a.words(WORDS[:3])
    while True:
        a.put(a.p.comment)
        a.c.pause(0.05)


@mode
def loris(a):
    """A byte every 200 ms from the first."""
    a.head()
    for byte in a.all():
        a.put(bytes([byte]))
        a.c.pause(0.2)
    a.end()


@mode
def loris_mid(a):
    """The same, once some text has come."""
    a.head()
    a.words(WORDS[:3])
    for byte in a.p.text("x" * 1000):
        a.put(bytes([byte]))
        a.c.pause(0.2)
    a.rest()


@mode
def loris_head(a):
    for byte in b"HTTP/1.1 200 OK\r\nX-Chaos: " + b"y" * 1000:
        a.c.send(bytes([byte]))
        a.c.pause(0.2)


# ---- fails first, works then


@mode
def fails(a, times, how="503", *more):
    """fails:TIMES:STATUS|MODE[:ARGUMENT]...@KEY; healed early by ChaosUpstream.heal(KEY)."""
    up = a.call.connection.up
    if up.count(a.call.key) > int(times) or a.call.key in up.healed:
        ok(a)
    elif how.isdigit():
        status(a, how, *more)
    else:
        MODES[how](a, *more)


# ---- the server


class ChaosUpstream:
    def __init__(self, port=0):
        self.listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.origin = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.url = self.origin + "/v1"
        self.lock = threading.Lock()
        self.all_calls, self.others, self.connections = [], [], set()
        self.healed = set()
        self.closing = False

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closing = True
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for c in list(self.connections):
            c.close()

    def accept(self):
        while not self.closing:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            c = Connection(sock)
            c.up = self
            with self.lock:
                self.connections.add(c)
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        try:
            while c.open and self.one(c):
                pass
        except (OSError, ValueError):
            pass  # the peer's business, or our own end
        finally:
            c.close()
            with self.lock:
                self.connections.discard(c)

    def one(self, c):
        """One request; false ends the connection."""
        got = c.read_request()
        if not got:
            return False
        method, path, headers, data = got
        protocol = protocol_of(path) if method == "POST" else None
        if not protocol:
            with self.lock:
                self.others.append((method, path, headers))
            reply = b'{"object":"list","data":[],"models":[]}'
            c.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                   % (len(reply), reply))
            return True
        body = json.loads(data)
        call = Call(path, headers, body, c)
        with self.lock:
            self.all_calls.append(call)
        a = Answer(call, c, protocol(body, path))
        try:
            if call.mode in MODES:
                MODES[call.mode](a, *call.args)
            else:
                a.plain(404, a.p.error(404, "no model " + call.mode))
        except Gone:
            call.gone.set()
            return False
        finally:
            call.over.set()
        return True

    # -- for tests

    def calls(self, key=None):
        with self.lock:
            return [c for c in self.all_calls if key is None or c.key == key]

    def count(self, key):
        return len(self.calls(key))

    def heal(self, key):
        self.healed.add(key)

    def wait_call(self, key, seconds=20):
        """The first call of that key, as soon as it is there."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.calls(key):
                return self.calls(key)[0]
            time.sleep(0.01)
        raise AssertionError("no call of " + key)

    def wait_gone(self, key, seconds=10):
        """True once the peer of the last call of that key left before its answer was complete."""
        return self.calls(key)[-1].gone.wait(seconds)


def main():
    with ChaosUpstream(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as up:
        print(up.origin, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
