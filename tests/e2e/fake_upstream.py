"""An OpenAI-compatible server that misbehaves on request: the model's name is the mode.

As a module: `with FakeUpstream() as up:` gives `up.url` (base of the API) and `up.seen`, one dict a
request: path, headers, body, and `gone` once the client left before the answer was complete.
As a program: `python3 fake_upstream.py [PORT]` prints its base URL and serves until it is stopped.
Only the standard library; loopback only.
"""

import json
import socket
import sys
import time

import fake_server

WORDS = ["The ", "capital ", "of ", "France ", "is ", "Paris."]
USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 6,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 4},
    "cost": 0.000125,
}


def chunk(delta=None, finish=None, **more):
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    body = {
        "id": "gen-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "fake/upstream-model",
        "choices": [choice],
    }
    body.update(more)
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def usage_chunk():
    return chunk(choices=[], usage=USAGE)


DONE = b"data: [DONE]\n\n"
# What hob makes of these has chunk sizes of three, four and five hexadecimal digits, and all about 0xfff.
SIZED = [str(n % 10) * n for n in (1, 70, *range(3700, 4000, 3), 70000)]
# (status, content type, body, more headers) of modes that never start a stream.
PLAIN = {
    "400": (400, "application/json", {"error": {"message": "temperature is odd", "code": 400}}, {}),
    "context": (
        400,
        "application/json",
        {"error": {"message": "This model's maximum context length is 8192 tokens",
                   "code": "context_length_exceeded"}},
        {},
    ),
    "401": (401, "application/json", {"error": {"message": "Bad key: %KEY%", "code": 401}}, {}),
    "402": (402, "application/json", {"error": {"message": "Insufficient credits", "code": 402}}, {}),
    "403": (403, "application/json", {"error": {"message": "Moderated", "code": 403}}, {}),
    "404": (404, "application/json", {"error": {"message": "No endpoints found", "code": 404}}, {}),
    "429": (429, "application/json", {"error": {"message": "Slow down", "code": 429}},
            {"Retry-After": "7"}),
    "500": (500, "application/json", {"error": {"message": "Oops", "code": 500}}, {}),
    "503": (503, "text/plain", "busy", {}),
    "502-html": (502, "text/html", "<html><h1>Bad gateway</h1></html>", {}),
    "html": (200, "text/html", "<!doctype html><title>Sign in</title>", {}),
    "redirect": (302, "text/plain", "", {"Location": "http://127.0.0.1:1/elsewhere"}),
    "empty": (200, "text/event-stream", "", {}),
    "json-garbage": (200, "application/json", "{]", {}),
    "json-error": (200, "application/json", {"error": {"message": "late Oops", "code": 502}}, {}),
    "json": (
        200,
        "application/json",
        {"model": "fake/upstream-model", "usage": USAGE,
         "choices": [{"index": 0, "finish_reason": "stop",
                      "message": {"role": "assistant", "content": "".join(WORDS),
                                  "reasoning": "easy"}}]},
        {},
    ),
}


class Handler(fake_server.Handler):
    def do_GET(self):
        self.plain(200, "application/json", {"object": "list", "data": [{"id": "ok"}]}, {})

    def do_POST(self):
        try:
            request = json.loads(self.read_body())
        except ValueError:
            request = {}
        self.note(request)
        mode = request.get("model", "ok")
        try:
            if mode in PLAIN:
                self.plain(*PLAIN[mode])
            else:
                getattr(self, "mode_" + mode.replace("-", "_"), self.mode_unknown)(request)
        except (BrokenPipeError, ConnectionResetError):
            self.seen["gone"] = True
            self.close_connection = True

    # -- pieces

    def plain(self, status, kind, body, headers):
        if not isinstance(body, str):
            body = json.dumps(body)
        self.reply(status, body.replace("%KEY%", self.headers.get("Authorization", "")), kind, headers)

    def cut(self):
        """Ends the connection in the middle of the answer."""
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def is_chat(self):
        return self.path.endswith("/chat/completions")

    def words(self, words, pause_s=0.0):
        if self.is_chat():
            self.put(chunk({"role": "assistant", "content": ""}))
        for word in words:
            if self.is_chat():
                self.put(chunk({"content": word}))
            else:
                self.put(chunk(choices=[{"index": 0, "text": word, "finish_reason": None}]))
            if pause_s:
                time.sleep(pause_s)

    # -- modes that stream

    def mode_unknown(self, request):
        self.plain(404, "application/json",
                   {"error": {"message": "no model " + str(request.get("model")), "code": 404}}, {})

    def mode_ok(self, request):
        self.stream()
        self.words(WORDS)
        self.put(chunk(finish="stop"))
        self.put(usage_chunk())
        self.put(DONE)
        self.end()

    def mode_unhurried(self, request):
        """As ok, but over more than a second."""
        self.stream()
        self.words(WORDS, 0.25)
        self.put(chunk(finish="stop") + usage_chunk() + DONE)
        self.end()

    def mode_number(self, request):
        """An answer that is JSON."""
        self.stream()
        self.words(['{"n"', ": 7}"])
        self.put(chunk(finish="stop") + DONE)
        self.end()

    def mode_length(self, request):
        self.stream()
        self.words(WORDS[:2])
        self.put(chunk(finish="length") + DONE)
        self.end()

    def mode_no_done(self, request):
        self.stream()
        self.words(WORDS)
        self.put(chunk(finish="stop"))
        self.end()

    def mode_no_finish(self, request):
        self.stream()
        self.words(WORDS)
        self.put(DONE)
        self.end()

    def mode_hangs_after_done(self, request):
        self.stream()
        self.words(WORDS)
        self.put(chunk(finish="stop") + DONE)
        time.sleep(5)
        self.end()

    def mode_truncated(self, request):
        self.stream()
        self.words(WORDS[:3])
        self.end()

    def mode_gone(self, request):
        self.stream()
        self.words(WORDS[:3])
        self.cut()

    def mode_refuses(self, request):
        self.cut()

    def mode_mid_error(self, request):
        self.stream()
        self.words(WORDS[:3])
        self.put(chunk({"content": ""}, "error", error={"code": 502, "message": "Provider died"}))
        time.sleep(5)
        self.end()

    def mode_error_first(self, request):
        self.stream()
        self.put(b"data: " + json.dumps(
            {"error": {"code": 429, "message": "Upstream is busy"}, "choices": []}).encode() + b"\n\n")
        self.end()

    def mode_garbage(self, request):
        self.stream()
        self.words(WORDS[:1])
        self.put(b"data: {\"choices\": [ nonsense\n\n")
        self.end()

    def mode_binary(self, request):
        self.stream("application/octet-stream")
        self.put(bytes(range(256)) * 20)
        self.end()

    def mode_comments(self, request):
        self.stream()
        for _ in range(5):
            self.put(b": OPENROUTER PROCESSING\n\n")
            time.sleep(0.02)
        self.words(WORDS)
        self.put(b":\n\n" + chunk(finish="stop") + usage_chunk() + DONE)
        self.end()

    def mode_only_comments(self, request):
        self.stream()
        for _ in range(100):
            self.put(b": OPENROUTER PROCESSING\n\n")
            time.sleep(0.1)

    def mode_crlf(self, request):
        self.stream()
        text = b"".join(chunk({"content": w}) for w in WORDS) + chunk(finish="stop") + DONE
        for byte in text.replace(b"\n", b"\r\n"):
            self.put(bytes([byte]))
        self.end()

    def mode_utf8(self, request):
        self.stream()
        raw = json.dumps({"choices": [{"index": 0, "delta": {"content": "Grüße 🔥 日本"}}]},
                         ensure_ascii=False).encode()
        for byte in b"data: " + raw + b"\n\n":
            self.put(bytes([byte]))
        self.put(chunk(finish="stop") + DONE)
        self.end()

    def mode_utf8_deltas(self, request):
        """Characters split between two deltas: each JSON text is broken UTF-8 by itself."""
        self.stream()
        fire = "🔥".encode()
        for part in (b"a" + fire[:1], fire[1:3], fire[3:] + b"z"):
            self.put(b'data: {"choices":[{"index":0,"delta":{"content":"' + part + b'"}}]}\n\n')
        self.put(chunk(finish="stop") + DONE)
        self.end()

    def mode_reasoning(self, request):
        self.stream()
        self.put(chunk({"reasoning": "hmm ", "content": ""}))
        self.put(chunk({"reasoning_content": "yes", "reasoning": "yes"}))
        self.words(WORDS)
        self.put(chunk(finish="stop") + usage_chunk() + DONE)
        self.end()

    def mode_tools(self, request):
        self.stream()
        call = {"index": 0, "id": "c1", "type": "function",
                "function": {"name": "weather", "arguments": ""}}
        self.put(chunk({"tool_calls": [call]}))
        self.put(chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{\"city\":1}"}}]}))
        self.put(chunk(finish="tool_calls") + DONE)
        self.end()

    def mode_slow(self, request):
        """Says something every 50 ms for half a minute; notes when nobody listens any more."""
        self.stream()
        self.words(["tick "] * 600, 0.05)
        self.put(chunk(finish="stop") + DONE)
        self.end()

    def mode_silent(self, request):
        self.watch(30)

    def mode_stalls(self, request):
        self.stream()
        self.words(WORDS[:2])
        self.watch(30)

    def mode_big(self, request):
        """Four megabytes as fast as they are taken."""
        self.stream()
        self.words(["x" * 4096] * 1024)
        self.put(chunk(finish="stop") + DONE)
        self.end()

    def mode_sizes(self, request):
        self.stream()
        self.words(SIZED)
        self.put(chunk(finish="stop") + DONE)
        self.end()

    def mode_long_line(self, request):
        self.stream()
        for _ in range(24):
            self.put(b"x" * 65536)
        self.end()

    def watch(self, seconds):
        self.connection.settimeout(seconds)
        try:
            if self.connection.recv(1) == b"":
                self.seen["gone"] = True
        except OSError:
            pass
        self.close_connection = True


class FakeUpstream(fake_server.Fake):
    def __init__(self, port=0):
        super().__init__(Handler, port, "/v1")

    def wait_gone(self, seconds=5.0):
        """True once the client of the last request left before its answer was complete."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.seen and self.seen[-1]["gone"]:
                return True
            time.sleep(0.02)
        return False


def main():
    with FakeUpstream(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as up:
        print(up.url, flush=True)
        up.thread.join()


if __name__ == "__main__":
    main()
