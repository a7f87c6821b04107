"""Small servers that speak Anthropic's Messages and Ollama's own protocol as the real ones do.

`with FakeAnthropic() as up:` (or FakeOllama) gives `up.url` (the base, without /v1) and `up.seen`, one
dict a request: path, headers, body, and `gone` once the client left early.  The model's name is the
mode.  Only the standard library; loopback only.
"""

import json
import time

import fake_server

TEXT = "The capital of France is Paris."
WORDS = ["The capital ", "of France ", "is ", "Paris."]
KEY = "sk-ant-test-0123456789abcdef"


class Handler(fake_server.Handler):
    def do_GET(self):
        self.note({})
        self.reply_json(200, self.listing())

    def do_POST(self):
        body = json.loads(self.read_body())
        self.note(body)
        mode = body.get("model", "ok").replace("-", "_")
        try:
            self.answer(mode, body)
        except (BrokenPipeError, ConnectionResetError):
            self.seen["gone"] = True
            self.close_connection = True


class AnthropicHandler(Handler):
    def listing(self):
        return {"data": [{"type": "model", "id": "claude-x", "max_input_tokens": 200000}], "has_more": False}

    def event(self, name, **more):
        data = json.dumps({"type": name, **more})
        self.put(f"event: {name}\ndata: {data}\n\n".encode())

    def error(self, status, kind, message, headers=None):
        self.reply_json(status, {"type": "error", "error": {"type": kind, "message": message},
                            "request_id": "req_1"}, headers)

    def begin(self):
        self.stream("text/event-stream; charset=utf-8")
        self.event("message_start", message={
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x-20260101", "content": [],
            "stop_reason": None, "stop_sequence": None,
            "usage": {"input_tokens": 9, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 100,
                      "output_tokens": 1}})

    def block(self, index, block, deltas):
        self.event("content_block_start", index=index, content_block=block)
        if index == 0:
            self.event("ping")
        for delta in deltas:
            self.event("content_block_delta", index=index, delta=delta)
        self.event("content_block_stop", index=index)

    def text(self, index=0, words=WORDS):
        self.block(index, {"type": "text", "text": ""}, [{"type": "text_delta", "text": w} for w in words])

    def finish(self, reason="end_turn"):
        self.event("message_delta", delta={"stop_reason": reason, "stop_sequence": None},
                   usage={"output_tokens": 15})
        self.event("message_stop")
        self.end()

    def answer(self, mode, body):
        key = self.headers.get("x-api-key")
        if self.path != "/v1/messages":
            return self.error(404, "not_found_error", "no such path")
        if key not in self.server.keys:
            return self.error(401, "authentication_error", f"invalid x-api-key: {key}")
        if not self.headers.get("anthropic-version") or "max_tokens" not in body:
            return self.error(400, "invalid_request_error", "max_tokens: Field required")
        return getattr(self, "mode_" + mode, self.mode_missing)(body)

    def mode_missing(self, body):
        self.error(404, "not_found_error", "model: " + body["model"])

    def mode_ok(self, body):
        self.begin()
        self.text()
        self.finish()

    def mode_think(self, body):
        self.begin()
        self.block(0, {"type": "thinking", "thinking": "", "signature": ""}, [
            {"type": "thinking_delta", "thinking": "France? "}, {"type": "thinking_delta", "thinking": "Easy."},
            {"type": "signature_delta", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"}])
        self.text(1)
        self.finish()

    def mode_tool(self, body):
        self.begin()
        self.text(0, ["Let me look."])
        self.block(1, {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {}}, [
            {"type": "input_json_delta", "partial_json": ""},
            {"type": "input_json_delta", "partial_json": "{\"city\":"},
            {"type": "input_json_delta", "partial_json": " \"Paris\"}"}])
        self.finish("tool_use")

    def mode_overloaded_inside(self, body):
        self.stream("text/event-stream")
        self.event("error", error={"type": "overloaded_error", "message": "Overloaded"})
        self.end()

    def mode_overloaded_late(self, body):
        self.begin()
        self.event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        self.event("content_block_delta", index=0, delta={"type": "text_delta", "text": WORDS[0]})
        self.event("error", error={"type": "overloaded_error", "message": "Overloaded"})
        self.end()

    def mode_refuses(self, body):
        self.begin()
        self.finish("refusal")

    def mode_truncated(self, body):
        self.begin()
        self.event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        self.event("content_block_delta", index=0, delta={"type": "text_delta", "text": WORDS[0]})
        self.end()

    def mode_echo(self, body):
        self.error(400, "invalid_request_error", "your header was x-api-key: " + self.headers["x-api-key"])

    def mode_echo_inside(self, body):
        self.stream("text/event-stream")
        self.event("error", error={"type": "api_error", "message": "x" * 290 + self.headers["x-api-key"]})
        self.end()

    def mode_limited(self, body):
        self.error(429, "rate_limit_error", "slow down", {"retry-after": "9"})

    def mode_529(self, body):
        self.error(529, "overloaded_error", "Overloaded")

    def mode_slow(self, body):
        self.begin()
        self.event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        for _ in range(600):
            self.event("content_block_delta", index=0, delta={"type": "text_delta", "text": "tick "})
            time.sleep(0.05)


class OllamaHandler(Handler):
    def listing(self):
        return {"models": [{"name": "ok", "model": "ok", "size": 5}]}

    def line(self, **more):
        self.put(json.dumps({"model": "ok", "created_at": "2026-11-21T00:00:00Z", **more}).encode() + b"\n")

    def message(self, **more):
        self.line(message={"role": "assistant", "content": "", **more}, done=False)

    def finish(self, reason="stop", **more):
        self.line(done=True, done_reason=reason, total_duration=9000000, load_duration=1000000,
                  prompt_eval_count=11, prompt_eval_duration=2000000, eval_count=6, eval_duration=5000000, **more)
        self.end()

    def answer(self, mode, body):
        if self.path == "/api/generate":
            self.stream("application/x-ndjson")
            for word in WORDS:
                self.line(response=word, done=False)
            return self.finish(response="")
        if self.path != "/api/chat":
            return self.reply_json(404, {"error": "no such path"})
        return getattr(self, "mode_" + mode, self.mode_missing)(body)

    def mode_missing(self, body):
        self.reply_json(404, {"error": "model '%s' not found" % body["model"]})

    def mode_ok(self, body):
        self.stream("application/x-ndjson")
        for word in WORDS:
            self.message(content=word)
        self.finish(message={"role": "assistant", "content": ""})

    def mode_think(self, body):
        self.stream("application/x-ndjson")
        self.message(thinking="Easy.")
        for word in WORDS:
            self.message(content=word)
        self.finish(message={"role": "assistant", "content": ""})

    def mode_tool(self, body):
        self.stream("application/x-ndjson")
        self.message(tool_calls=[{"function": {"name": "weather", "arguments": {"city": "Paris"}}}])
        self.finish(message={"role": "assistant", "content": ""})

    def mode_dies(self, body):
        self.stream("application/x-ndjson")
        self.message(content=WORDS[0])
        self.line(error="llama runner process has terminated")
        self.end()

    def mode_busy(self, body):
        self.reply_json(503, {"error": "server busy, please try again.  maximum pending requests exceeded"})


class Fake(fake_server.Fake):
    handler = None

    def __init__(self):
        super().__init__(self.handler)
        self.server.keys = self.keys = {KEY}

    def asked(self):
        """The latest prompt; questions about models (Ollama's /api/show has a body, too) come by themselves."""
        return [s for s in self.seen if s["body"] and ("messages" in s["body"] or "prompt" in s["body"])][-1]


class FakeAnthropic(Fake):
    handler = AnthropicHandler


class FakeOllama(Fake):
    handler = OllamaHandler
