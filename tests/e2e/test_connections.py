"""Outgoing connections of the daemon: TLS, HTTP/2, reuse, what is made ready, loss, and what is never sent twice.

The server is a real nginx where its behaviour is the question, and one of ours that goes wrong frame by
frame where no real one would.
"""

import concurrent.futures
import json
import pathlib
import subprocess
import time

import pytest

from conftest import ASK
from fake_h2 import FakeH2
from nginx import authority, free_port, nginx  # noqa: F401 (fixtures)

ESTABLISHED = "01"  # in /proc/net/tcp
START_S = 1  # all that begins with the daemon has begun, many times over


def config(url, ca=None):
    more = f'ca_file = "{ca}"' if ca else ""
    return (f'provider "fake" {{ kind = "openai" url = "{url}" warm = false {more}\n'
            "  connect_timeout = 5 first_byte_timeout = 5 idle_timeout = 5 }\n")


def ask(d, mode, **more):
    return d.ask("fake/" + mode, **more)


def is_good(answer):
    status, _, r = answer
    assert status == 200, r
    return r["choices"][0]["message"]["content"]


class Site:
    """nginx with TLS in front of the fake upstream; `lines()` is what it logged."""

    def __init__(self, nginx, up, authority, listen, more):
        self.port, self.ca = free_port(), authority.ca
        self.process = nginx(f"""
  log_format ours '$connection $connection_requests $server_protocol $status $request_method';
  upstream fake {{ server {up.url.split('/')[2]}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{self.port} {listen};
    ssl_certificate {authority.cert}; ssl_certificate_key {authority.key}; ssl_protocols TLSv1.2 TLSv1.3;
    access_log access.log ours; {more}
    location / {{ proxy_pass http://fake; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}""", ("127.0.0.1", self.port))
        self.url = f"https://localhost:{self.port}/v1"
        self.log = self.process.folder / "access.log"

    def lines(self, n=0, method="POST"):
        """At least n of prompts: nginx logs a request when all of it has gone out.  The list of models is asked for
        beside them."""
        end = time.monotonic() + 10
        while True:
            lines = [line for line in self.log.read_text().splitlines() if line.endswith(method)]
            if len(lines) >= n or time.monotonic() > end:
                return [line.split() for line in lines]
            time.sleep(0.02)

    def open(self):
        """Connections that clients have to it now; nginx logs none on which nothing was asked."""
        rows = [row.split() for row in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(int(row[2].split(":")[1], 16) == self.port and row[3] == ESTABLISHED for row in rows)


def prompts(h2):
    return [s for s in h2.seen if s["model"] != "GET"]


@pytest.fixture
def site(nginx, up, authority):
    def make(listen="ssl http2", more=""):
        return Site(nginx, up, authority, listen, more)
    return make


@pytest.fixture
def h2(authority):
    with FakeH2(authority.cert, authority.key) as upstream:
        yield upstream


@pytest.fixture
def daemon_to(make_daemon, authority):
    return lambda url: make_daemon(config(url, authority.ca), model=False)


# ---- real servers


def test_http2_is_used_where_it_is_offered(site, daemon_to):
    s = site()
    d = daemon_to(s.url)
    for _ in range(3):
        is_good(ask(d, "ok"))
    lines = s.lines(3)
    assert {line[2] for line in lines} == {"HTTP/2.0"}
    assert len({line[0] for line in lines}) == 1


def test_http1_over_tls_keeps_its_connection(site, daemon_to):
    s = site("ssl")
    d = daemon_to(s.url)
    for _ in range(5):
        is_good(ask(d, "ok"))
    lines = s.lines(5)
    assert {line[2] for line in lines} == {"HTTP/1.1"}
    assert len({line[0] for line in lines}) <= 2  # the list of models may have one of them for a moment


@pytest.mark.parametrize("first", [0, 1])
def test_twenty_calls_at_once_share_one_http2_connection(site, daemon_to, first):
    s = site()
    d = daemon_to(s.url)
    for _ in range(first):
        is_good(ask(d, "ok"))
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        for answer in pool.map(lambda _: ask(d, "comments"), range(20)):
            is_good(answer)
    lines = s.lines(20 + first)
    assert len(lines) == 20 + first
    assert len({line[0] for line in lines}) == 1


def test_an_unknown_authority_is_refused_and_ca_file_accepts_it(site, make_daemon, authority, up):
    s = site()
    d = make_daemon(config(s.url), model=False)
    status, _, r = ask(d, "ok")
    assert (status, r["error"]["code"]) == (502, "upstream_unreachable")
    assert "TLS failed" in r["error"]["message"] and "ca_file" in r["error"]["message"]
    assert not up.seen
    is_good(ask(make_daemon(config(s.url, authority.ca), model=False), "ok"))


def test_a_ca_file_does_not_excuse_a_wrong_name(site, make_daemon, authority, up):
    s = site()
    d = make_daemon(config(s.url.replace("localhost", "127.0.0.2"), authority.ca), model=False)
    s.process.terminate()
    s.process.wait()
    text = (s.process.folder / "nginx.conf").read_text().replace("127.0.0.1:%d" % s.port, "127.0.0.2:%d" % s.port)
    (s.process.folder / "nginx.conf").write_text(text)
    p = subprocess.Popen([*s.process.args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            status, _, r = ask(d, "ok")
            if "TLS" in r["error"]["message"] or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        assert (status, r["error"]["code"]) == (502, "upstream_unreachable")
        assert "TLS failed" in r["error"]["message"], r
        assert not up.seen
    finally:
        p.terminate()
        p.wait()


def test_a_ca_file_that_is_missing_turns_the_provider_off_and_says_so(make_daemon):
    d = make_daemon(config("https://localhost:1/v1", "/nonexistent/ca.pem"), model=False)
    assert "provider 'fake' is off" in d.log.read_text()
    assert "/nonexistent/ca.pem" in d.log.read_text()


@pytest.mark.parametrize("listen", ["ssl", "ssl http2"])
def test_a_connection_closed_while_idle_costs_no_failure(site, daemon_to, listen, up):
    s = site(listen, "keepalive_timeout 1s;")
    d = daemon_to(s.url)
    for _ in range(3):
        is_good(ask(d, "ok"))
        time.sleep(1.3)
    assert len({line[0] for line in s.lines(3)}) == 3
    assert len(up.seen) == 3


def test_a_server_that_ends_connections_after_some_requests_loses_none(site, daemon_to, up):
    s = site("ssl http2", "keepalive_requests 3;")
    d = daemon_to(s.url)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda _: ask(d, "ok"), range(40)):
            is_good(answer)
    assert len(up.seen) == 40
    assert len({line[0] for line in s.lines(40)}) >= 40 / 3


def test_a_slow_reader_does_not_hold_up_the_others_on_its_connection(h2, daemon_to):
    d = daemon_to(h2.url)
    is_good(ask(d, "ok"))
    slow = d.connection()
    slow.request("POST", "/v1/chat/completions", json.dumps({"model": "fake/big", "messages": ASK, "stream": True}))
    r = slow.getresponse()
    assert r.readline().startswith(b"data: ")
    time.sleep(1)  # all buffers on the way fill up
    for _ in range(5):
        is_good(ask(d, "ok"))
    n = sum(line.startswith(b"data: ") for line in r)
    assert n > 500
    slow.close()
    assert h2.connections == 1


def test_cancelling_one_http2_stream_leaves_its_siblings(site, daemon_to, up):
    s = site()
    d = daemon_to(s.url)
    is_good(ask(d, "ok"))
    body = {"model": "fake/slow", "messages": ASK, "stream": True}
    connections = []
    for _ in range(3):
        c = d.connection()
        c.request("POST", "/v1/chat/completions", json.dumps(body))
        r = c.getresponse()
        assert r.readline().startswith(b"data: ")
        connections.append((c, r))
    connections[1][1].close()
    connections[1][0].close()
    end = time.monotonic() + 10
    while not any(seen["gone"] for seen in up.seen) and time.monotonic() < end:
        time.sleep(0.02)
    assert [seen["gone"] for seen in up.seen].count(True) == 1
    for c, r in (connections[0], connections[2]):
        got = sum(r.readline().startswith(b"data: ") for _ in range(20))
        assert got >= 9
    is_good(ask(d, "ok"))
    for c, r in connections:
        c.close()
    d.stop()
    assert len({line[0] for line in s.lines(5)}) == 1


# ---- made ready before the first prompt


def provider(name, site, more=""):
    return f'provider "{name}" {{ kind = "openai" url = "{site.url}" ca_file = "{site.ca}" {more} }}\n'


def connections(d, name):
    rows = d.request("GET", "/v1/hob/providers")[2]["providers"]
    return next(row["connections"] for row in rows if row["name"] == name)


def assert_untouched(site):
    assert site.log.read_text() == "" and site.open() == 0


@pytest.mark.parametrize("listen, http", [("ssl", "1.1"), ("ssl http2", "2")])
def test_the_first_prompt_finds_a_connection_that_was_made_at_the_start(site, make_daemon, wait_until, listen, http):
    s = site(listen)
    d = make_daemon(provider("fake", s), model=False)
    wait_until(lambda: s.lines(1, "GET"), what="a GET at the start")
    wait_until(lambda: connections(d, "fake")["http"] == http, what="a connection that is shown")
    assert s.open() == 1 and s.lines() == []
    for n in range(3):
        is_good(ask(d, "ok"))
    gets, posts = s.lines(1, "GET"), s.lines(3)
    assert {line[0] for line in posts} == {gets[0][0]}
    assert min(int(line[1]) for line in posts) > 1  # none was the first of its connection
    assert s.open() == 1
    seen = connections(d, "fake")
    assert (seen["calls"], seen["new"]) == (3, 1) and seen["reused"] >= 3


@pytest.mark.parametrize("more", ["warm = false", 'key_env = "HOB_TEST_A_KEY_THAT_IS_NOT"'], ids=["cold", "no key"])
def test_what_is_not_to_be_warmed_or_has_no_key_gets_no_connection(site, make_daemon, wait_until, more):
    still, ready = site(), site()
    d = make_daemon(provider("still", still, more) + provider("ready", ready), model=False)
    wait_until(lambda: ready.lines(1, "GET"), what="a GET to the other one")
    time.sleep(START_S)
    assert_untouched(still)
    assert d.request("GET", "/v1/models")[0] == 200
    time.sleep(START_S)
    assert_untouched(still)
    assert ready.open() == 1
    assert connections(d, "still") == {"calls": 0, "new": 0, "reused": 0, "http": None}


def test_a_cold_provider_is_connected_to_by_its_first_prompt(site, make_daemon):
    s = site()
    d = make_daemon(provider("fake", s, "warm = false"), model=False)
    is_good(ask(d, "ok"))
    assert s.lines(1)[0][1] == "1"


@pytest.mark.parametrize("config, args", [("server { port = -1 local_only = true }\n", ()), ("", ("--local-only",))],
                         ids=["configured", "commanded"])
def test_local_only_makes_no_connection_ready(site, make_daemon, config, args):
    s = site()
    d = make_daemon(provider("fake", s) + config, model=False, start=False)
    d.start(*args)
    time.sleep(START_S)
    assert_untouched(s)
    assert d.request("GET", "/v1/models")[0] == 200
    time.sleep(START_S)
    assert_untouched(s)


@pytest.mark.parametrize("listen", ["ssl", "ssl http2"])
def test_asking_for_the_models_opens_a_connection_again(site, make_daemon, wait_until, listen):
    """nginx has closed the idle one; the picker that asks for the list says that a prompt is near."""
    s = site(listen, "keepalive_timeout 3s;")
    d = make_daemon(provider("fake", s), model=False)
    first = wait_until(lambda: s.lines(1, "GET"), what="a GET at the start")
    wait_until(lambda: s.open() == 0, what="nginx closing it")
    assert len(s.lines(0, "GET")) == len(first)  # nothing opens it but the picker
    assert d.request("GET", "/v1/models")[0] == 200
    again = s.lines(len(first) + 1, "GET")[-1]
    assert again[0] != first[0][0] and again[1] == "1"
    is_good(ask(d, "ok"))
    post, = s.lines(1)
    assert (post[0], post[1]) == (again[0], "2")


# ---- one that goes wrong


@pytest.mark.parametrize("mode", ["refused", "goaway"])
def test_what_the_server_says_it_has_not_begun_is_sent_again(h2, daemon_to, mode):
    d = daemon_to(h2.url)
    assert is_good(ask(d, "ok")) == "hello"
    assert is_good(ask(d, mode)) == "hello"
    assert [s["model"] for s in prompts(h2)] == ["ok", mode, mode]
    assert h2.connections == 2


@pytest.mark.parametrize("mode", ["dies", "resets", "broken"])
def test_a_post_whose_http2_connection_or_stream_died_is_not_sent_again(h2, daemon_to, mode):
    d = daemon_to(h2.url)
    is_good(ask(d, "ok"))
    status, _, r = ask(d, mode)
    assert (status, r["error"]["code"]) == (502, "upstream_unreachable"), r
    time.sleep(0.3)
    assert [s["model"] for s in prompts(h2)] == ["ok", mode]
    assert is_good(ask(d, "ok")) == "hello"


def test_a_goaway_after_the_answer_sends_the_next_call_elsewhere(h2, daemon_to):
    d = daemon_to(h2.url)
    for _ in range(3):
        assert is_good(ask(d, "goaway-after")) == "hello"
    assert [s["connection"] for s in prompts(h2)] == [1, 2, 3]


def test_a_refused_stream_does_not_end_its_siblings(h2, daemon_to):
    d = daemon_to(h2.url)
    is_good(ask(d, "ok"))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        held = pool.submit(ask, d, "holds")
        end = time.monotonic() + 10
        while not any(s["model"] == "holds" for s in h2.seen) and time.monotonic() < end:
            time.sleep(0.01)
        assert is_good(ask(d, "refused")) == "hello"
        h2.go_on.set()
        assert is_good(held.result()) == "well, hello"
    assert [s["model"] for s in h2.seen].count("holds") == 1


def test_a_cancel_resets_the_stream_and_keeps_the_connection(h2, daemon_to):
    d = daemon_to(h2.url)
    is_good(ask(d, "ok"))
    c = d.connection()
    c.request("POST", "/v1/chat/completions", json.dumps({"model": "fake/holds", "messages": ASK, "stream": True}))
    r = c.getresponse()
    assert r.readline().startswith(b"data: ")
    stream = h2.seen[-1]["stream"]
    r.close()
    c.close()
    end = time.monotonic() + 10
    while stream not in h2.resets and time.monotonic() < end:
        time.sleep(0.01)
    assert stream in h2.resets
    is_good(ask(d, "ok"))
    assert h2.connections == 1
