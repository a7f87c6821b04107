"""The listening side against clients that misbehave: raw bytes over real sockets."""

import json
import resource
import socket
import time

import pytest

CLOSE = b"Connection: close\r\n"


def connect(daemon, tcp=True):
    if tcp:
        s = socket.create_connection(("127.0.0.1", daemon.port))
    else:
        s = socket.socket(socket.AF_UNIX)
        s.connect(daemon.socket)
    s.settimeout(20)
    return s


def read_all(s):
    data = b""
    while True:
        got = s.recv(65536)
        if not got:
            return data
        data += got


def ask(daemon, raw, tcp=True):
    with connect(daemon, tcp) as s:
        s.sendall(raw)
        return read_all(s)


def host(daemon):
    return b"Host: 127.0.0.1:%d\r\n" % daemon.port


def get(daemon, path=b"/healthz", more=CLOSE):
    return b"GET " + path + b" HTTP/1.1\r\n" + host(daemon) + more + b"\r\n"


def post(daemon, body, more=CLOSE, path=b"/v1/chat/completions"):
    return (b"POST " + path + b" HTTP/1.1\r\n" + host(daemon) + more
            + b"Content-Length: %d\r\n\r\n" % len(body) + body)


@pytest.fixture
def quick(make_daemon):
    """A daemon without a model: what is asked here never gets as far as one."""
    return make_daemon(model=False)


def test_malformed_requests_get_400_and_a_json_error(quick):
    h = host(quick)
    for raw in [
        b"\x16\x03\x01\x02\x00\x01\x00" + b"a" * 50,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + h + b"A B: c\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + h + h + b"\r\n",
        b"POST /x HTTP/1.1\r\n" + h + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /x HTTP/1.1\r\n" + h + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    ]:
        reply = ask(quick, raw)
        assert reply.startswith(b"HTTP/1.1 400 "), (raw, reply)
        assert b"Connection: close" in reply
        assert json.loads(reply.split(b"\r\n\r\n", 1)[1])["error"]["code"] == "invalid"
    assert b" 200 " in ask(quick, get(quick))


def test_a_head_over_16_KiB_is_431(quick):
    start = b"GET /healthz HTTP/1.1\r\n" + host(quick) + CLOSE + b"X: "
    for size, status in [(16384, b" 200 "), (16385, b" 431 ")]:
        assert status in ask(quick, start + b"a" * (size - len(start) - 4) + b"\r\n\r\n")[:20]


def test_a_body_over_32_MiB_is_413_and_the_client_can_read_it(quick):
    head = b"POST /v1/chat/completions HTTP/1.1\r\n" + host(quick)
    with connect(quick) as s:
        s.sendall(head + b"Content-Length: 41943040\r\n\r\n")
        for _ in range(40):
            s.sendall(b"x" * (1 << 20))
        assert b" 413 " in read_all(s)[:20]
    with connect(quick) as s:
        s.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(34):
            s.sendall(b"100000\r\n" + b"x" * (1 << 20) + b"\r\n")
        assert b" 413 " in read_all(s)[:20]


def test_expect_100_is_answered_before_the_body(quick):
    body = b"{}"
    head = b"POST /v1/chat/completions HTTP/1.1\r\n" + host(quick) + CLOSE + b"Expect: 100-continue\r\n"
    with connect(quick) as s:
        s.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body))
        assert s.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(body)
        assert b" 400 " in read_all(s)
    assert ask(quick, head + b"Content-Length: 50000000\r\n\r\n").startswith(b"HTTP/1.1 413 ")


def test_a_slow_head_is_408(make_daemon):
    daemon = make_daemon("server { header_timeout = 1\n port = -1 }", model=False)
    began = time.monotonic()
    assert b" 408 " in ask(daemon, b"GET /heal")
    assert time.monotonic() - began < 5


def test_pipelined_requests_are_answered_in_order(quick):
    wrong = b'{"messages":[]}'
    raw = get(quick, more=b"") * 20 + post(quick, wrong, b"") + get(quick, b"/nope")
    reply = ask(quick, raw)
    statuses = [part[:3] for part in reply.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200"] * 20 + [b"400", b"404"]


def test_a_chunked_body_is_read(quick):
    body = b'{"messages":[]}'
    chunks = b"".join(b"1;ext=1\r\n" + body[i:i + 1] + b"\r\n" for i in range(len(body)))
    reply = ask(quick, b"POST /v1/chat/completions HTTP/1.1\r\n" + host(quick) + CLOSE
                + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nTrailer: t\r\n\r\n")
    assert b" 400 " in reply and b"'messages'" in reply


def test_HEAD_has_a_length_and_no_body(quick):
    reply = ask(quick, get(quick).replace(b"GET", b"HEAD"))
    assert b" 200 " in reply and reply.endswith(b"\r\n\r\n")
    assert b"Content-Length: 0" not in reply


def test_wrong_paths_and_methods_are_told_apart(quick):
    assert b" 404 " in ask(quick, get(quick, b"/nope"))
    reply = ask(quick, get(quick, b"/v1/chat/completions"))
    assert b" 405 " in reply and b"\r\nAllow: POST\r\n" in reply


def test_hosts_and_origins_that_are_not_ours_are_refused_on_tcp(quick):
    for head in [b"", b"Host: evil.example\r\n", b"Host: localhost:1\r\n",
                 host(quick) + b"Origin: http://evil.example\r\n",
                 host(quick) + b"Origin: null\r\n",
                 host(quick) + b"Sec-Fetch-Site: cross-site\r\n"]:
        assert b" 403 " in ask(quick, b"GET /healthz HTTP/1.1\r\n" + head + CLOSE + b"\r\n"), head
    assert b" 200 " in ask(quick, b"GET /healthz HTTP/1.1\r\n" + CLOSE + b"\r\n", tcp=False)


def test_wrong_bodies_are_named(quick):
    hi = '"messages":[{"role":"user","content":"hi"}]'
    for body, says in [
        ("{", "request body"), ("[]", "object"), ("{}", "'messages'"),
        ('{"messages":[{"role":"boss","content":"a"}]}', "messages[0].role"),
        ('{"messages":[{"role":"user","content":5}]}', "messages[0].content"),
        ("{" + hi + ',"temperature":"hot"}', "'temperature'"),
        ("{" + hi + ',"n":2}', "'n'"),
        ("{" + hi + ',"max_tokens":0}', "'max_tokens'"),
        ("[" * 100, "nested"),
    ]:
        status, _, reply = quick.request("POST", "/v1/chat/completions", body)
        assert status == 400 and says in reply["error"]["message"], (body, reply)


def test_2048_connections_are_served_and_more_are_closed(quick):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    many = [connect(quick, tcp=False) for _ in range(2048)]
    with connect(quick, tcp=False) as one_more:
        assert one_more.recv(1) == b""
    many[-1].sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
    assert b" 200 " in many[-1].recv(1000)
    for s in many:
        s.close()


def test_metrics_name_each_family_once(quick):
    _, _, text = quick.request("GET", "/metrics")
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert "hob_http_requests_total" in families
    assert len(families) == len(set(families))


def test_a_stream_that_nobody_reads_does_not_stop_the_others(daemon):
    body = json.dumps({"model": "smollm2:135m", "stream": True, "max_tokens": 64, "temperature": 0,
                       "messages": [{"role": "user", "content": "Count to one hundred."}]}).encode()
    with connect(daemon) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(post(daemon, body))
        status, _, reply = daemon.chat("Say hello.", max_tokens=8)
        assert status == 200 and reply["choices"][0]["message"]["content"]
        assert b"data: [DONE]" in read_all(deaf)
