"""OpenRouter as hob sees it: chat completions with its comments and metadata, and the endpoints beside.

As a module: `with FakeOpenRouter() as router:` gives `router.url` (the API's base), `router.chats` and
`router.gets`, one dict a request, and `router.bills`: generation id → how many questions come before
its cost is there.  The model's name is the mode.  As a program it prints its base URL and serves.
Only the standard library; loopback only.
"""

import json
import sys
import time
from urllib.parse import parse_qs, urlparse

import fake_server

WORDS = ["Paris ", "is ", "the ", "capital."]
USAGE = {
    "prompt_tokens": 21, "completion_tokens": 8, "total_tokens": 29, "cost": 0.00042, "is_byok": False,
    "prompt_tokens_details": {"cached_tokens": 16, "cache_write_tokens": 3, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 5},
    "cost_details": {"upstream_inference_cost": None},
}
MODELS = [
    {"id": "ok", "name": "Good", "context_length": 131072, "created": 1,
     "architecture": {"modality": "text+image->text", "input_modalities": ["text", "image"],
                      "output_modalities": ["text"], "tokenizer": "Other"},
     "pricing": {"prompt": "0.00000125", "completion": "0.00001", "request": "0", "image": "0.005",
                 "input_cache_read": "0.000000125"},
     "top_provider": {"context_length": 65536, "max_completion_tokens": 8192, "is_moderated": True},
     "supported_parameters": ["tools", "structured_outputs", "reasoning"], "expiration_date": None},
    {"id": "auto", "context_length": 2000000, "pricing": {"prompt": "-1", "completion": "-1"},
     "top_provider": {"context_length": None}, "supported_parameters": []},
    {"id": "odd", "context_length": "a lot", "pricing": {"prompt": "free!", "completion": 7e99}},
    {"id": "painter", "architecture": {"output_modalities": ["image"]}, "pricing": {}},
    {"name": "nameless"}, None, 7,
]
KEY = {"label": "sk-or-v1-abc...xyz", "limit": 10.0, "limit_reset": "monthly", "limit_remaining": 7.25,
       "usage": 2.75, "usage_daily": 0.5, "usage_weekly": 1.0, "usage_monthly": 2.75, "is_free_tier": False,
       "rate_limit": {"requests": -1, "interval": "10s"}}

MODERATED = {"code": 403, "message": "Your input was flagged",
             "metadata": {"reasons": ["violence"], "flagged_input": "...", "error_type": "permission_denied"}}
# Before any text: status, error, more headers.
ERRORS = {
    "busy-retryable": (429, {"code": 429, "message": "All providers are at capacity",
                             "metadata": {"error_type": "rate_limit_exceeded"},
                             "availability": {"code": "capacity_exhausted", "retryable": True, "retry_after": 2}}, {}),
    "gone-model": (404, {"code": 404, "message": "No endpoints found for this model",
                         "metadata": {"error_type": "not_found"},
                         "availability": {"code": "no_endpoints", "retryable": False}}, {}),
    "no-credit": (402, {"code": 402, "message": "Insufficient credits",
                        "metadata": {"error_type": "payment_required"}}, {}),
    "moderated": (403, MODERATED, {}),
}


class Handler(fake_server.Handler):
    def do_GET(self):
        url = urlparse(self.path)
        router = self.server.router
        router.gets.append({"path": url.path, "query": parse_qs(url.query), "at": time.monotonic(),
                            "headers": self.lower_headers()})
        if url.path == "/api/v1/models":
            self.reply_json(router.models_status, {"data": MODELS} if router.models_status == 200 else
                        {"error": {"code": router.models_status, "message": "not now"}})
        elif url.path == "/api/v1/key":
            self.reply_json(200, {"data": KEY})
        elif url.path == "/api/v1/generation":
            self.bill(parse_qs(url.query).get("id", [""])[0])
        else:
            self.reply_json(404, {"error": {"code": 404, "message": "Not found"}})

    def bill(self, generation):
        left = self.server.router.bills.get(generation)
        if left is None:
            return self.reply_json(404, {"error": {"code": 404, "message": "Generation not found"}})
        self.server.router.bills[generation] = left - 1
        data = {"id": generation, "total_cost": None if left > 0 else 0.00031, "cancelled": True, "streamed": True,
                "tokens_prompt": 20, "tokens_completion": 4, "native_tokens_prompt": 22, "native_tokens_completion": 5}
        return self.reply_json(200, {"data": data})

    def do_POST(self):
        body = json.loads(self.read_body())
        router = self.server.router
        generation = f"gen-{len(router.chats)}"
        router.chats.append({"body": body, "generation": generation, "path": self.path,
                             "headers": self.lower_headers()})
        mode = body.get("model")
        try:
            if mode in ERRORS:
                status, error, headers = ERRORS[mode]
                self.reply_json(status, {"error": error, "user_id": "user_1"}, headers)
            else:
                self.chat(mode, generation)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def chunk(self, generation, **more):
        body = {"id": generation, "object": "chat.completion.chunk", "created": 1, "model": "vendor/real-name",
                "provider": "Fake", **more}
        self.put(b"data: " + json.dumps(body).encode() + b"\n\n")

    def chat(self, mode, generation):
        self.stream(headers={"X-Generation-Id": generation})
        self.put(b": OPENROUTER PROCESSING\n\n")
        if mode == "error-first":
            self.chunk(generation, choices=[], error={
                "code": "server_error", "message": "Provider returned error",
                "metadata": {"error_type": "provider_unavailable"}})
            return self.end()
        for i, word in enumerate(WORDS * (200 if mode == "endless" else 1)):
            self.chunk(generation, choices=[{"index": 0, "delta": {"role": "assistant", "content": word},
                                             "finish_reason": None}])
            if mode == "endless":
                time.sleep(0.02)
            if i == 1 and mode == "error-late":
                self.chunk(generation, error={"code": 502, "message": "Provider disconnected",
                                              "metadata": {"error_type": "provider_unavailable"}},
                           choices=[{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}])
                return self.end()
            self.put(b": OPENROUTER PROCESSING\n\n")
        self.chunk(generation, choices=[{"index": 0, "delta": {"content": ""}, "finish_reason": "stop",
                                         "native_finish_reason": "end_turn"}])
        self.chunk(generation, choices=[], usage=USAGE, openrouter_metadata={"attempt": 1, "attempts": []})
        self.put(b"data: [DONE]\n\n")
        return self.end()


class FakeOpenRouter(fake_server.Fake):
    def __init__(self, port=0):
        super().__init__(Handler, port, "/api/v1")
        self.chats, self.gets, self.bills = [], [], {}
        self.models_status = 200
        self.server.router = self

    def asked(self, name):
        return [g for g in self.gets if g["path"] == "/api/v1/" + name]


if __name__ == "__main__":
    with FakeOpenRouter(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as fake:
        print(fake.url, flush=True)
        fake.thread.join()
