"""An upstream that speaks HTTP/2 over TLS and ends streams and connections in ways that only HTTP/2 has.

Modes are the model's name, as in chaos_upstream, whose events it sends; `up.ca` is the authority to
trust.  `up.connections` counts those made, `up.reset` has the key of each stream that the peer reset.
Needs the packages h2 and openssl's program.
"""

import json
import select
import socket
import ssl
import subprocess
import threading
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from chaos_upstream import FOREVER_S, WORDS, OpenAI


def certificate(folder):
    """(certificate and authority in one, key) for 127.0.0.1."""
    pem, key = folder / "h2.pem", folder / "h2.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2", "-subj", "/CN=chaos", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", key, "-out", pem], check=True, capture_output=True)
    return pem, key


class H2Connection:
    """One connection, one thread: all its streams take turns."""

    def __init__(self, up, sock):
        self.up, self.sock = up, sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.paths, self.bodies, self.keys = {}, {}, {}
        self.answers = {}  # stream: generator that yields seconds to wait
        self.due = {}
        self.open = True

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def close(self):
        self.open = False
        self.sock.close()

    def run(self):
        self.h2.initiate_connection()
        self.flush()
        while self.open:
            wait = min(self.due.values(), default=time.monotonic() + FOREVER_S) - time.monotonic()
            if not self.sock.pending() and not select.select([self.sock], [], [], max(0, wait))[0]:
                self.step()
                continue
            data = self.sock.recv(65536)
            if not data:
                return
            for event in self.h2.receive_data(data):
                self.event(event)
            self.flush()

    def event(self, e):
        if isinstance(e, h2.events.RequestReceived):
            self.paths[e.stream_id] = dict(e.headers)
            self.bodies[e.stream_id] = b""
        elif isinstance(e, h2.events.DataReceived):
            self.bodies[e.stream_id] += e.data
            self.h2.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
        elif isinstance(e, h2.events.StreamEnded):
            self.begin(e.stream_id)
        elif isinstance(e, h2.events.StreamReset):
            self.up.reset.add(self.keys.get(e.stream_id))
            self.forget(e.stream_id)

    def begin(self, stream):
        if not self.bodies[stream]:  # a GET that warms the connection
            self.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/json")])
            self.h2.send_data(stream, b'{"data":[]}', end_stream=True)
            return
        request = json.loads(self.bodies[stream])
        name, _, key = request["model"].partition("@")
        self.keys[stream] = key
        with self.up.lock:
            self.up.counts[key] = self.up.counts.get(key, 0) + 1
        answer = getattr(self, name.replace("-", "_"))(stream, OpenAI(request, "/chat/completions"))
        self.answers[stream], self.due[stream] = answer, 0

    def step(self):
        for stream in [s for s, at in self.due.items() if at <= time.monotonic()]:
            pause = next(self.answers[stream], None)
            if pause is None:
                self.forget(stream)
            else:
                self.due[stream] = time.monotonic() + pause
            if self.open:
                self.flush()

    def forget(self, stream):
        self.answers.pop(stream, None)
        self.due.pop(stream, None)

    # -- pieces

    def head(self, s):
        self.h2.send_headers(s, [(":status", "200"), ("content-type", "text/event-stream")])

    def words(self, s, p, n=len(WORDS)):
        self.h2.send_data(s, p.begin() + b"".join(p.text(w) for w in WORDS[:n]))

    def rest(self, s, p):
        self.h2.send_data(s, p.finish() + p.terminator(), end_stream=True)

    # -- modes

    def ok(self, s, p):
        self.head(s)
        self.words(s, p)
        self.rest(s, p)
        yield 0

    def slowly(self, s, p):
        self.head(s)
        self.words(s, p)
        yield 0.5
        self.rest(s, p)
        yield 0

    def hang_mid(self, s, p):
        self.head(s)
        self.words(s, p, 3)
        yield FOREVER_S

    def goaway_after(self, s, p):
        """nginx's keepalive_requests: the answer is whole, the connection is not to be used again.

        Both leave in one write: a request that came between them would be one that was taken and
        never answered, which no client may send again."""
        self.head(s)
        self.words(s, p)
        self.rest(s, p)
        self.h2.close_connection()
        yield 0.1
        self.close()

    def goaway_mid(self, s, p):
        """Announced in the middle of an answer that still comes to its end."""
        self.head(s)
        self.words(s, p)
        yield 0.1
        # By hand: the package sends nothing after a GOAWAY of its own.
        raw = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + s.to_bytes(4, "big") + b"\x00\x00\x00\x00"
        self.sock.sendall(raw)
        yield 0.1
        self.h2.send_data(s, p.finish() + p.terminator(), end_stream=True)
        yield 0.1

    def goaway_kill(self, s, p):
        """In the middle, and the connection is gone with it."""
        self.head(s)
        self.words(s, p, 3)
        yield 0.1
        self.h2.close_connection(h2.errors.ErrorCodes.INTERNAL_ERROR)
        yield 0.1
        self.close()

    def goaway_unseen(self, s, p):
        """The first time: this stream was not looked at, come again on another connection."""
        if self.up.counts[self.keys[s]] == 1:
            self.h2.close_connection(last_stream_id=0)
            yield 0.1
            self.close()
        else:
            yield from self.ok(s, p)

    def refused_stream(self, s, p):
        if self.up.counts[self.keys[s]] == 1:
            self.h2.reset_stream(s, h2.errors.ErrorCodes.REFUSED_STREAM)
            yield 0
        else:
            yield from self.ok(s, p)

    def reset_before_head(self, s, p):
        self.h2.reset_stream(s, h2.errors.ErrorCodes.INTERNAL_ERROR)
        yield 0

    def reset_mid(self, s, p):
        self.head(s)
        self.words(s, p, 3)
        yield 0.1
        self.h2.reset_stream(s, h2.errors.ErrorCodes.INTERNAL_ERROR)
        yield 0

    def end_mid(self, s, p):
        """The stream is ended properly, the answer is not."""
        self.head(s)
        self.words(s, p, 3)
        self.h2.send_data(s, b"", end_stream=True)
        yield 0


class H2Upstream:
    def __init__(self, folder):
        self.ca, key = certificate(folder)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(self.ca, key)
        self.tls.set_alpn_protocols(["h2"])
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "https://127.0.0.1:%d/v1" % self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.counts, self.reset, self.connections = {}, set(), 0
        self.sockets = []

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for s in self.sockets:
            s.close()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            with self.tls.wrap_socket(sock, server_side=True) as tls:
                self.connections += 1
                self.sockets.append(tls)
                H2Connection(self, tls).run()
        except (OSError, ValueError, h2.exceptions.ProtocolError):
            pass  # the peer's business, or our own close()
