"""A real nginx for tests: `start(conf_text, folder)` → a running process.

It listens on loopback ports (or Unix sockets) that the configuration names, as one worker in the
foreground, with everything it writes in `folder`.  The configuration is the inside of `http {}`.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def find():
    """The program, or None: one built beside us, then the PATH's, then the system's."""
    for path in (ROOT / "build/nginx/usr/sbin/nginx", shutil.which("nginx"), "/usr/sbin/nginx"):
        if path and os.access(path, os.X_OK):
            return str(path)
    return None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(conf_text, folder, ready=None):
    """`ready`: a (host, port) or a Unix socket's path that must answer before we return."""
    program = find()
    if not program:
        pytest.skip("there is no nginx: neither build/nginx, nor on the PATH, nor in /usr/sbin")
    folder = pathlib.Path(folder)
    for name in ("body", "proxy", "fastcgi", "uwsgi", "scgi"):
        (folder / name).mkdir(exist_ok=True)
    conf = folder / "nginx.conf"
    conf.write_text(f"""
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log info;
events {{ worker_connections 512; }}
http {{
  access_log off; client_max_body_size 64m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {conf_text}
}}
""")
    with open(folder / "nginx.out", "ab") as out:
        process = subprocess.Popen([program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(conf)],
                                   stdout=out, stderr=out)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        if _answers(ready, folder):
            return process
        time.sleep(0.01)
    stop(process)
    raise AssertionError("nginx did not start:\n" + (folder / "nginx.out").read_text()[-2000:])


def _answers(ready, folder):
    if ready is None:
        return (folder / "nginx.pid").exists()
    try:
        with socket.socket(socket.AF_UNIX if isinstance(ready, str) else socket.AF_INET) as s:
            s.settimeout(1)
            s.connect(ready)
        return True
    except OSError:
        return False


def stop(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Authority:
    """A private certificate authority in a folder, made by openssl, and a certificate of it for
    localhost and 127.0.0.1: `ca`, `cert` and `key` are paths."""

    def __init__(self, folder):
        if not shutil.which("openssl"):
            pytest.skip("there is no openssl to make certificates with")
        folder = pathlib.Path(folder)
        self.ca, self.cert, self.key = (folder / n for n in ("ca.pem", "cert.pem", "key.pem"))
        ca_key = folder / "ca-key.pem"
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-days", "2"]
        self.run(*new, "-keyout", ca_key, "-out", self.ca, "-subj", "/CN=hob test authority",
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        # `req -x509 -CA` is newer than Debian 12's; so a request, and then its signature.
        request, more = folder / "request.pem", folder / "more.cnf"
        more.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        self.run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                 "-keyout", self.key, "-out", request, "-subj", "/CN=localhost")
        self.run("openssl", "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", ca_key, "-CAcreateserial",
                 "-days", "2", "-extfile", more, "-out", self.cert)

    @staticmethod
    def run(*command):
        subprocess.run([str(c) for c in command], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def nginx(tmp_path):
    """nginx(conf_text, ready) → a running process, stopped at the end."""
    running = []

    def run(conf_text, ready=None):
        folder = tmp_path / f"nginx-{len(running)}"
        folder.mkdir()
        running.append(start(conf_text, folder, ready))
        running[-1].folder = folder
        return running[-1]

    yield run
    for process in running:
        stop(process)
