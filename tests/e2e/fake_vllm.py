"""A server that speaks as vLLM does, /metrics included: `python3 fake_vllm.py PORT NAME [DELAY_S] [no-metrics]`.

Prints its port, then serves until it is killed.  Answers with its NAME as the text, DELAY_S after the
question.  GET /stats: {"chats": […sessions' last texts…], "polls": N}.  GET /busy?running=N&waiting=N&kv=X
adds to what /metrics says, as if others used it, too.  Only the standard library; loopback only.
"""

import json
import sys
import threading
import time
from urllib.parse import parse_qs, urlparse

import fake_server


class State:
    def __init__(self, name, delay_s, metrics):
        self.name, self.delay_s, self.metrics = name, delay_s, metrics
        self.lock = threading.Lock()
        self.running, self.polls, self.chats = 0, 0, []
        self.extra = {"running": 0.0, "waiting": 0.0, "kv": 0.1}


class Handler(fake_server.Handler):
    def do_GET(self):
        s = self.server.state
        url = urlparse(self.path)
        if url.path == "/metrics" and s.metrics:
            s.polls += 1
            label = '{engine="0",model_name="m"}'
            self.reply(200, "# HELP vllm:num_requests_running Number of requests in execution batches.\n"
                            f"vllm:num_requests_running{label} {s.running + s.extra['running']}\n"
                            f"vllm:num_requests_waiting{label} {s.extra['waiting']}\n"
                            f"vllm:kv_cache_usage_perc{label} {s.extra['kv']}\n", "text/plain; version=0.0.4")
        elif url.path == "/stats":
            self.reply_json(200, {"chats": s.chats, "polls": s.polls, "running": s.running})
        elif url.path == "/busy":
            for k, v in parse_qs(url.query).items():
                s.extra[k] = float(v[0])
            self.reply_json(200, {})
        elif url.path == "/v1/models":
            self.reply_json(200, {"data": [{"id": "m", "max_model_len": 4096}]})
        else:
            self.reply_json(404, {"detail": "Not Found"})

    def do_POST(self):
        s = self.server.state
        body = json.loads(self.read_body())
        with s.lock:
            s.running += 1
            s.chats.append(body["messages"][0]["content"])
        try:
            self.stream()
            time.sleep(s.delay_s)
            for delta, finish in (({"content": s.name}, None), ({}, "stop")):
                chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                         "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
                self.put(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            self.put(b"data: [DONE]\n\n")
            self.end()
        except OSError:
            self.close_connection = True
        finally:
            with s.lock:
                s.running -= 1


def main():
    server = fake_server.Server(("127.0.0.1", int(sys.argv[1])), Handler)
    server.state = State(sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 0.0, "no-metrics" not in sys.argv)
    print(server.server_address[1], flush=True)
    server.serve_forever(0.05)


if __name__ == "__main__":
    main()
