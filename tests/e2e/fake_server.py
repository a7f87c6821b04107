"""What the small servers of these tests share: the pieces of an answer, and a server in a thread.

Only the standard library; loopback only.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def read_body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def lower_headers(self):
        return {k.lower(): v for k, v in self.headers.items()}

    def note(self, body):
        """`seen` of this request, also the last one of the server's."""
        self.seen = {
            "path": self.path,
            "headers": self.lower_headers(),
            "body": body,
            "port": self.client_address[1],
            "gone": False,
        }
        self.server.seen.append(self.seen)

    def reply(self, status, data, kind, headers=None):
        """A whole answer; data is text or bytes."""
        data = data.encode() if isinstance(data, str) else data
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def reply_json(self, status, body, headers=None):
        self.reply(status, json.dumps(body), "application/json", headers)

    def stream(self, kind="text/event-stream", headers=None):
        """The head of an answer in chunks: put() each, then end()."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def put(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def end(self):
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address):
        pass


class Fake:
    """`with Fake(handler) as up:` serves; `up.url` and then `base`, `up.seen` one dict a request."""

    def __init__(self, handler, port=0, base=""):
        self.server = Server(("127.0.0.1", port), handler)
        self.server.seen = self.seen = []
        self.url = "http://127.0.0.1:%d%s" % (self.server.server_address[1], base)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *args):
        self.server.shutdown()
        self.server.server_close()
