"""llama.cpp as a peer: the PyPI wheel xllamacpp, whose HTTP server runs inside this process.

Get it with `pip install xllamacpp==2026.10.11549` (a released llama.cpp, prebuilt).  One server a process: the
wheel keeps global state, so the benchmark starts each in a child of its own (`python peer.py MODEL SOCKET THREADS CTX flash|plain`).
"""
import http.client
import json
import os
import socket
import subprocess
import sys
import time

VERSION = "2026.10.11549"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=300)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def call(path, method, url, body=None):
    connection = UnixConnection(path)
    connection.request(method, url, json.dumps(body) if body is not None else None,
                       {"Content-Type": "application/json"})
    answer = connection.getresponse()
    data = json.loads(answer.read())
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{url}: {answer.status} {data}")
    return data


class Peer:
    """A server in a child process; close() ends it."""

    def __init__(self, model, folder, threads, ctx=4096, flash=True, python=sys.executable):
        self.path = os.path.join(folder, "peer.sock")
        self.log = open(os.path.join(folder, "peer.log"), "wb")
        self.child = subprocess.Popen(
            [python, os.path.abspath(__file__), model, self.path, str(threads), str(ctx),
             "flash" if flash else "plain"],
            stdin=subprocess.PIPE, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 120
        while True:
            try:
                call(self.path, "GET", "/health")
                return
            except (OSError, RuntimeError, ValueError) as error:
                if self.child.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    raise RuntimeError(f"xllamacpp did not start, see {self.log.name}") from error
                time.sleep(0.05)

    def completion(self, **body):
        return call(self.path, "POST", "/completion", body)

    def close(self):
        self.child.kill()
        self.child.wait()
        self.log.close()


def serve(model, path, threads, ctx, attention):
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames = [path]
    params.n_ctx = ctx
    params.n_parallel = 1
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    if attention == "plain":
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)
    sys.stdin.read()  # until our parent goes away
    del server


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
