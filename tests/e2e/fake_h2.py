"""An HTTP/2 server over TLS that misbehaves on request, frame by frame: the model's name is the mode.

`with FakeH2(cert, key) as up:` gives `up.url`, `up.seen` (one dict a request that came whole: model,
connection, stream) and `up.resets` (streams that the client gave up).  It understands no header
compression: it never needs to know the request's headers, and its own are two.  Loopback only.
"""

import json
import socket
import socketserver
import ssl
import struct
import threading

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, ACK, END_HEADERS = 1, 1, 4
REFUSED_STREAM, HTTP_1_1_REQUIRED = 7, 13
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# `:status: 200` is entry 8 of the static table; content-type is name 31, here with a literal value.
HEAD = b"\x88" + b"\x0f\x10" + bytes([len(b"text/event-stream")]) + b"text/event-stream"


def sse(text=None, finish=None):
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


class Connection(socketserver.BaseRequestHandler):
    def handle(self):
        self.up = self.server.up
        self.number = self.up.count()
        self.lock = threading.Lock()
        try:
            self.tls = self.up.context.wrap_socket(self.request, server_side=True)
            self.speak()
        except (OSError, ssl.SSLError):
            pass

    def speak(self):
        if self.read(len(PREFACE)) != PREFACE:
            return
        self.frame(SETTINGS, 0, 0)
        bodies = {}
        while True:
            head = self.read(9)
            size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            stream = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
            payload = self.read(size)
            if kind == SETTINGS and not flags & ACK:
                self.frame(SETTINGS, ACK, 0)
            elif kind == PING and not flags & ACK:
                self.frame(PING, ACK, 0, payload)
            elif kind == RST_STREAM:
                self.up.resets.append(stream)
            elif kind in (HEADERS, DATA):
                bodies[stream] = bodies.get(stream, b"") + (payload if kind == DATA else b"")
                if flags & END_STREAM:
                    self.request_came(stream, bodies.pop(stream))

    def read(self, n):
        data = b""
        while len(data) < n:
            more = self.tls.recv(n - len(data))
            if not more:
                raise OSError("the client left")
            data += more
        return data

    def frame(self, kind, flags, stream, payload=b""):
        with self.lock:
            self.tls.sendall(len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
                             + payload)

    def request_came(self, stream, body):
        model = json.loads(body)["model"] if body else "GET"
        again = any(s["model"] == model for s in self.up.seen)
        self.up.seen.append({"model": model, "connection": self.number, "stream": stream})
        getattr(self, "mode_" + model.replace("-", "_"))(stream, again)

    # -- modes; `again`: this model was asked for before

    def mode_ok(self, stream, again=False):
        self.frame(HEADERS, END_HEADERS, stream, HEAD)
        self.frame(DATA, END_STREAM, stream, sse("hello") + sse(finish="stop") + b"data: [DONE]\n\n")

    mode_GET = mode_ok

    def mode_holds(self, stream, again):
        """Says one word, and the rest when the server is told to."""
        def rest():
            self.up.go_on.wait(30)
            try:
                self.frame(DATA, END_STREAM, stream, sse("hello") + sse(finish="stop") + b"data: [DONE]\n\n")
            except OSError:
                pass
        self.frame(HEADERS, END_HEADERS, stream, HEAD)
        self.frame(DATA, 0, stream, sse("well, "))
        threading.Thread(target=rest, daemon=True).start()

    def mode_big(self, stream, again):
        """Two megabytes in small frames, as fast as they are taken, while it goes on listening."""
        def pour():
            try:
                for _ in range(500):
                    self.frame(DATA, 0, stream, sse("x" * 4096))
                self.frame(DATA, END_STREAM, stream, sse(finish="stop") + b"data: [DONE]\n\n")
            except OSError:
                pass
        self.frame(HEADERS, END_HEADERS, stream, HEAD)
        threading.Thread(target=pour, daemon=True).start()

    def mode_refused(self, stream, again):
        if again:
            self.mode_ok(stream)
        else:
            self.frame(RST_STREAM, 0, stream, struct.pack(">I", REFUSED_STREAM))

    def mode_broken(self, stream, again):
        self.frame(RST_STREAM, 0, stream, struct.pack(">I", 2))  # INTERNAL_ERROR: it may have begun

    def mode_goaway(self, stream, again):
        """Goes away without having looked at this stream, and leaves."""
        if again:
            self.mode_ok(stream)
            return
        self.frame(GOAWAY, 0, 0, struct.pack(">II", max(stream - 2, 0), 0))
        self.leave()

    def mode_goaway_after(self, stream, again):
        """Answers, and wants no more on this connection."""
        self.mode_ok(stream)
        self.frame(GOAWAY, 0, 0, struct.pack(">II", stream, 0))

    def mode_dies(self, stream, again):
        self.leave()

    def mode_resets(self, stream, again):
        self.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.leave()

    def leave(self):
        self.tls.close()
        raise OSError("left")


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        pass


class FakeH2:
    def __init__(self, cert, key):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        self.context.set_alpn_protocols(["h2"])
        self.server = Server(("127.0.0.1", 0), Connection)
        self.server.up = self
        self.seen, self.resets, self.connections = [], [], 0
        self.go_on = threading.Event()
        self.lock = threading.Lock()
        self.url = "https://127.0.0.1:%d/v1" % self.server.server_address[1]

    def count(self):
        with self.lock:
            self.connections += 1
            return self.connections

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *args):
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()
