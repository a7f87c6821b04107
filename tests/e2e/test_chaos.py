"""An upstream that breaks in every way there is: each answer has one end, of the right class, in time."""

import os
import re
import socket
import time

import pytest

from chaos_upstream import TEXT, WORDS, ChaosUpstream
from strict_client import ask, parse, read_end, send, terminal

KEY = "sk-chaos-0123456789abcdef"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
HALF = "".join(WORDS[:3])
STREAM = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
# No deadline below is longer than 1 s; a test that waits this long has met the upstream's patience instead.
SLACK_S = 20

STATUS_OF = {"invalid": 400, "context_length_exceeded": 400, "content_filter": 400, "payment_required": 402,
             "model_not_found": 404, "too_large": 413, "busy": 429, "upstream": 502, "upstream_auth": 502,
             "upstream_unreachable": 502, "unavailable": 503, "timeout": 504}

# Answers that are good, however odd: what the client gets of them.
GOOD = {
    "ok": TEXT, "whole-json": TEXT, "comment-flood": TEXT, "crlf": TEXT, "cr": TEXT, "bom": TEXT,
    "two-in-one": TEXT, "split-50": TEXT, "no-terminator": TEXT, "no-finish": TEXT, "hang-after-done": TEXT,
    "double-finish": TEXT, "double-terminator": TEXT, "text-after-done": TEXT, "error-after-done": TEXT,
    "early-hints": TEXT, "big-headers": TEXT, "reasoning": TEXT, "strange-finish": TEXT,
    "half-char-chunks": "Grüße 🔥 日本", "half-char-deltas": "a🔥z", "half-char-end": "Gr\ufffd",
}

# What fails before any text: the classes that are right.
BEFORE = {
    "status:400": "invalid", "status:422": "invalid", "status:413": "too_large", "context": "context_length_exceeded",
    "status:401": "upstream_auth", "status:403": "upstream_auth", "moderation": "content_filter",
    "status:402": "payment_required", "quota": "payment_required", "status:404": "model_not_found",
    "status:429": "busy", "status:429:1": "busy", "status:429:120": "busy", "status:429:120:date": "busy",
    "status:429:1.5:ms": "busy",
    "status:500": "unavailable", "status:502": "unavailable", "status:503": "unavailable",
    "status:529": "unavailable", "gateway-html": "unavailable",
    "status:408": "timeout", "status:504": "timeout", "status:524": "timeout",
    "redirect": "upstream", "html": "upstream", "json-error": "unavailable", "json-odd": "upstream",
    "json-trailing": "upstream", "deep-json": "upstream", "empty": "upstream", "no-content": "upstream",
    "binary": "upstream", "gzipped": "upstream", "long-line": "upstream", "not-http": ("upstream", "upstream_unreachable"),
    "error-no-choices": "busy", "error-no-choices:402": "payment_required", "error-then-silence": "unavailable",
    "rst-before-head": "upstream_unreachable", "fin-before-head": "upstream_unreachable",
    "rst-after-head": "upstream_unreachable", "length-too-long": "upstream_unreachable",
    "huge-headers": ("upstream", "upstream_unreachable"),
    "hang-before-head": "timeout", "hang-after-head": "timeout", "comments-forever": "timeout",
    "loris": "timeout", "loris-head": "timeout",
}

# What fails when text has been shown: the error is in the stream, and is never called a success.
AFTER = {
    "truncated": "upstream", "half-event": "upstream", "event-trailing": "upstream", "event-garbage": "upstream",
    "length-too-short": "upstream", "rst-mid": "upstream_unreachable", "fin-mid": "upstream_unreachable",
    "chunk-garbage": ("upstream", "upstream_unreachable"), "hang-mid": "timeout", "error-mid": ("upstream", "unavailable"),
    "error-mid-silence": ("upstream", "unavailable"), "error-string-code": ("upstream", "unavailable"),
    "error-finish": ("upstream", "unavailable"),
}

# Where a protocol differs; None: it has no such case.
ANTHROPIC = {"cr": TEXT, "moderation": None, "quota": None, "error-finish": None,
             "error-no-choices:402": "payment_required"}
OLLAMA = {"cr": None, "bom": None, "no-terminator": None, "moderation": None, "quota": None, "context": None,
          "error-finish": None, "error-no-choices:402": None, "strange-finish": None, "double-finish": None,
          # An error there is a sentence without a code.
          "error-no-choices": ("upstream", "unavailable"), "error-then-silence": ("upstream", "unavailable"),
          "json-error": ("upstream", "unavailable")}
PROTOCOLS = {"openai": {}, "anthropic": ANTHROPIC, "ollama": OLLAMA}


def cases(table):
    """(protocol, mode, expected): all of them."""
    found = []
    for protocol, differs in PROTOCOLS.items():
        for name, expected in table.items():
            expected = differs.get(name, expected)
            if expected is not None:
                found.append(pytest.param(protocol, name, expected, id=protocol + "-" + name))
    return pytest.mark.parametrize("protocol, mode, expected", found)


@pytest.fixture(scope="module")
def up():
    with ChaosUpstream() as upstream:
        yield upstream


def provider(up, name, protocol="openai", deadlines="first_byte_timeout = 1 idle_timeout = 1", more=""):
    url = up.url if protocol == "openai" else up.origin
    return (f'provider "{name}" {{ kind = "{protocol}" url = "{url}" key_env = "CHAOS_KEY"\n'
            f"  connect_timeout = 1 {deadlines} {more} }}\n")


@pytest.fixture
def start(make_daemon, up):
    """start(protocol, …) → a daemon with two providers of it: one to break, one to see that all is well."""

    def make(protocol="openai", **more):
        config = provider(up, "fake", protocol, **more) + provider(up, "other", protocol)
        return make_daemon(config, {"CHAOS_KEY": KEY}, model=False)

    return make


@pytest.fixture
def key(request):
    """Marks the calls of this test at the upstream."""
    return "%x" % (hash(request.node.nodeid) & 0xffffffff)


def chat(d, mode, key, stream, provider="fake", headers=None, **more):
    body = {"model": f"{provider}/{mode}@{key}", "messages": QUESTION, "stream": stream, **more}
    return ask(d, body, headers, timeout=SLACK_S)


def gauge(d, name):
    found = re.search(r"^%s ([0-9.]+)$" % name, d.request("GET", "/metrics")[2], re.M)
    return float(found[1])


def settled(d, up, key, wait_until):
    """Nothing is left of the case: no job, no upstream call, and the next prompt is answered."""
    wait_until(lambda: gauge(d, "hob_running") == 0, what="no job runs")
    for call in up.calls(key):
        assert call.over.wait(SLACK_S), "a call upstream was left behind"
    end = terminal(chat(d, "ok", key + "-after", False, "other"))
    assert (end.text, end.finish) == (TEXT, "stop")
    assert d.process.poll() is None
    assert KEY not in d.log.read_text()


# ---- one end, of the right class


@STREAM
@cases(GOOD)
def test_an_odd_but_good_answer_arrives_whole_and_ends_once(start, up, key, wait_until, protocol, mode, expected,
                                                            stream):
    d = start(protocol)
    reply = chat(d, mode, key, stream)
    end = terminal(reply)
    assert reply.status == 200
    assert (end.text, end.finish) == (expected, "stop"), end
    settled(d, up, key, wait_until)


def check_error(reply, end, expected):
    expected = (expected,) if isinstance(expected, str) else expected
    assert end.code in expected, end
    if not reply.is_stream:
        assert reply.status == STATUS_OF[end.code], end
    assert end.error["message"] and end.error["type"]
    assert KEY not in reply.body.decode()


@STREAM
@cases(BEFORE)
def test_a_failure_before_any_text_has_its_class(start, up, key, wait_until, protocol, mode, expected, stream):
    d = start(protocol)
    reply = chat(d, mode, key, stream)
    end = terminal(reply)
    check_error(reply, end, expected)
    assert end.text == ""
    settled(d, up, key, wait_until)


@STREAM
@cases(AFTER)
def test_a_failure_after_some_text_ends_the_answer_with_an_error(start, up, key, wait_until, protocol, mode,
                                                                 expected, stream):
    d = start(protocol)
    reply = chat(d, mode, key, stream)
    end = terminal(reply)
    check_error(reply, end, expected)
    if stream:
        assert reply.status == 200 and TEXT.startswith(end.text) and end.text
    else:
        assert end.text == ""  # half an answer is none
    assert up.count(key) == 1  # nobody is billed twice
    settled(d, up, key, wait_until)


@pytest.mark.parametrize("mode", ["loris-mid", "comments-mid"])
@STREAM
def test_signs_of_life_do_not_hold_an_answer_open_beyond_its_total_deadline(start, up, key, wait_until, mode, stream):
    d = start(deadlines="first_byte_timeout = 1 idle_timeout = 1 total_timeout = 3")
    reply = chat(d, mode, key, stream)
    end = terminal(reply)
    check_error(reply, end, "timeout")
    settled(d, up, key, wait_until)


@pytest.mark.parametrize("mode, finish", [("length", "length"), ("filtered", "content_filter"),
                                          ("tools", "tool_calls")])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@STREAM
def test_a_finish_reason_has_openais_name(start, key, protocol, mode, finish, stream):
    if (protocol, mode) == ("ollama", "filtered"):
        pytest.skip("Ollama has no such reason")
    assert terminal(chat(start(protocol), mode, key, stream)).finish == finish


@pytest.mark.parametrize("mode, expected", [("ok", None), ("rst-mid", "upstream_unreachable"), ("truncated", "upstream"),
                                            ("hang-before-head", "timeout"), ("status:503", "unavailable")])
@STREAM
def test_raw_completions_end_once_too(start, up, key, wait_until, mode, expected, stream):
    d = start()
    reply = ask(d, {"model": f"fake/{mode}@{key}", "prompt": "The capital of France", "stream": stream},
                path="/v1/completions", timeout=SLACK_S)
    end = terminal(reply)
    if expected:
        check_error(reply, end, expected)
    else:
        assert (end.text, end.finish) == (TEXT, "stop")
    settled(d, up, key, wait_until)


def test_an_answer_that_nobody_asked_for_is_not_given_to_the_next(start, up, key):
    d = start()
    assert terminal(chat(d, "stray-answer", key, False)).text == TEXT
    up.calls(key)[0].over.wait(SLACK_S)
    time.sleep(0.1)
    assert terminal(chat(d, "ok", key, False)).text == TEXT


# ---- what the client is told to do


@STREAM
@pytest.mark.parametrize("mode, low, high", [("status:429:120", 120000, 120000), ("status:429:120:date", 90000, 121000),
                                             ("status:429:9.5:ms", 9500, 10000)],
                         ids=["seconds", "date", "milliseconds"])
def test_the_time_after_which_to_come_again_is_passed_on(start, key, mode, low, high, stream):
    reply = chat(start(), mode, key, stream)
    assert reply.status == 429
    assert reply.headers["x-should-retry"] == "true"
    assert low <= int(reply.headers["retry-after-ms"]) <= high
    assert int(reply.headers["retry-after"]) in range(low // 1000, high // 1000 + 1)


@STREAM
def test_a_spent_account_is_not_tried_again(start, up, key, stream):
    reply = chat(start(), "status:402", key, stream)
    assert reply.status == 402 and terminal(reply).code == "payment_required"
    assert reply.headers["x-should-retry"] == "false"
    assert "retry-after" not in reply.headers
    assert up.count(key) == 1


@STREAM
def test_a_402_that_says_when_to_come_again_is_a_limit_and_not_the_end(start, key, stream):
    """OpenRouter's: the budget is only held by calls that still run."""
    reply = chat(start(), "status:402:9", key, stream)
    assert reply.status in (402, 429), reply.body
    assert reply.headers["x-should-retry"] == "true"
    assert reply.headers["retry-after"] == "9"


@pytest.mark.parametrize("mode", ["status:400", "status:401", "status:403", "status:404", "status:422", "context",
                                  "hang-before-head", "status:429:120"])
def test_what_no_second_try_can_help_is_tried_once(start, up, key, mode):
    reply = chat(start(), mode, key, False)
    assert terminal(reply).error
    assert up.count(key) == 1
    if mode != "status:429:120":
        assert reply.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("mode", ["echo-key:400", "echo-key:401", "echo-key:403", "echo-key:404", "echo-key:500",
                                  "echo-key-mid"])
@STREAM
def test_a_key_that_an_upstream_quotes_goes_no_further(start, key, mode, stream):
    d = start()
    reply = chat(d, mode, key, stream)
    assert terminal(reply).error
    assert KEY not in reply.body.decode() and KEY not in d.log.read_text()


# ---- second tries and breakers


@STREAM
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("how", ["503", "500", "529", "429:1"])
def test_a_failure_that_passes_is_tried_again_before_any_text(start, up, key, wait_until, protocol, how, stream):
    d = start(protocol)
    reply = chat(d, "fails:1:" + how, key, stream)
    end = terminal(reply)
    assert (end.text, end.finish) == (TEXT, "stop"), end
    assert up.count(key) == 2
    settled(d, up, key, wait_until)


@STREAM
@pytest.mark.parametrize("how", ["rst-before-head", "fin-before-head"])
def test_a_prompt_that_may_have_been_computed_is_not_sent_again(start, up, key, how, stream):
    """Its connection died after it had gone out: once more could be billed twice."""
    assert terminal(chat(start(), "fails:1:" + how, key, stream)).code == "upstream_unreachable"
    assert up.count(key) == 1


@pytest.mark.parametrize("how", ["rst-before-head", "fin-before-head"])
def test_a_prompt_to_ones_own_server_is_sent_again(make_daemon, up, key, how):
    d = make_daemon(f'provider "fake" {{ kind = "openai" url = "{up.url}" local = true }}\n', model=False)
    assert terminal(chat(d, "fails:1:" + how, key, False)).text == TEXT
    assert up.count(key) == 2


def test_a_second_try_is_told(start, up, key):
    reply = chat(start(), "fails:1:503", key, False)
    assert reply.status == 200
    assert reply.headers["x-hob-attempts"] == "2"


def test_a_model_that_only_fails_is_left_alone_until_it_is_well_again(start, up, key, wait_until):
    d = start()
    for _ in range(12):
        assert terminal(chat(d, "fails:1000:500", key, False)).code == "unavailable"
    before = up.count(key)
    reply = chat(d, "fails:1000:500", key, False)
    assert up.count(key) == before, "the breaker did not open"
    assert reply.status == 503 and int(reply.headers["retry-after-ms"]) > 0
    assert terminal(chat(d, "ok", key + "-other", False)).finish == "stop"  # another model of the same provider
    up.heal(key)
    wait_until(lambda: chat(d, "fails:1000:500", key, False).status == 200, seconds=90, what="the breaker closes")
    assert terminal(chat(d, "fails:1000:500", key, False)).finish == "stop"


# ---- clients that leave


PATIENT = "first_byte_timeout = 40 idle_timeout = 40"  # so that it is not a deadline that ends the call


@STREAM
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("mode", ["hang-before-head", "loris-head", "hang-after-head", "comments-forever", "hang-mid",
                                  "slow"])
def test_a_client_that_leaves_ends_the_call_upstream(start, up, key, wait_until, protocol, mode, stream):
    d = start(protocol, deadlines=PATIENT)
    sock = send(d, {"model": f"fake/{mode}@{key}", "messages": QUESTION, "stream": stream})
    up.wait_call(key)
    if stream and mode in ("hang-mid", "slow"):
        seen = b""
        while b'"content":"' not in seen.replace(b'"content":""', b""):
            seen += sock.recv(65536)
    sock.close()
    assert up.wait_gone(key), "the upstream still works for nobody"
    assert up.count(key) == 1
    assert 'hob_requests_total{outcome="cancelled"} 1' in d.request("GET", "/metrics")[2]
    settled(d, up, key, wait_until)


@STREAM
def test_a_client_that_leaves_between_two_tries_ends_them(start, up, key, wait_until, stream):
    d = start(deadlines=PATIENT)
    sock = send(d, {"model": f"fake/fails:1:429:2@{key}", "messages": QUESTION, "stream": stream})
    assert up.wait_call(key).over.wait(SLACK_S)
    sock.close()
    wait_until(lambda: gauge(d, "hob_running") == 0, what="the job is gone")
    time.sleep(2.5)  # the second try would have come by now
    assert up.count(key) == 1


@STREAM
def test_a_client_that_reads_nothing_does_not_make_the_daemon_grow(start, up, key, wait_until, stream):
    """Four megabytes towards a socket that nobody reads: they stay upstream."""
    d = start(deadlines=PATIENT)
    chat(d, "ok", key + "-before", stream)
    before = resident_kib(d)
    sock = send(d, {"model": f"fake/big@{key}", "messages": QUESTION, "stream": True})
    up.wait_call(key)
    time.sleep(1)
    grown = resident_kib(d) - before
    sock.close()
    settled(d, up, key, wait_until)
    if "asan" not in d.process.args[0]:
        assert grown < 3 * 1024, f"{grown} KiB"


def resident_kib(d):
    with open(f"/proc/{d.process.pid}/status") as f:
        return int(f.read().split("VmRSS:")[1].split()[0])


def test_a_hundred_broken_answers_leave_nothing_behind(start, up, key, wait_until):
    d = start()
    modes = ["rst-mid", "truncated", "fin-before-head", "status:503", "event-garbage", "ok", "half-event", "html",
             "error-mid", "long-line"]
    for i in range(100):
        terminal(chat(d, modes[i % len(modes)], f"{key}-{i}", i % 2 == 0))
    files = len(open_files(d))
    for i in range(100):
        terminal(chat(d, modes[i % len(modes)], f"{key}-again-{i}", i % 2 == 0))
    assert len(open_files(d)) <= files + 8
    settled(d, up, key, wait_until)


def open_files(d):
    return os.listdir(f"/proc/{d.process.pid}/fd")


# ---- HTTP/2


@pytest.fixture(scope="module")
def h2_up(tmp_path_factory):
    chaos_h2 = pytest.importorskip("chaos_h2", reason="the package h2 is not installed")
    with chaos_h2.H2Upstream(tmp_path_factory.mktemp("h2")) as upstream:
        yield upstream


@pytest.fixture
def h2_daemon(make_daemon, h2_up):
    config = (f'provider "fake" {{ kind = "openai" url = "{h2_up.url}" key_env = "CHAOS_KEY" ca_file = "{h2_up.ca}"\n'
              "  connect_timeout = 2 first_byte_timeout = 2 idle_timeout = 2 }\n")
    return make_daemon(config, {"CHAOS_KEY": KEY}, model=False)


@STREAM
@pytest.mark.parametrize("mode", ["ok", "goaway-after", "goaway-mid", "goaway-unseen", "refused-stream"])
def test_a_connection_that_says_goodbye_costs_no_answer(h2_daemon, h2_up, key, mode, stream):
    for i in range(2):
        end = terminal(chat(h2_daemon, mode, f"{key}-{i}", stream))
        assert (end.text, end.finish) == (TEXT, "stop"), end
        assert h2_up.counts[f"{key}-{i}"] == (2 if mode in ("goaway-unseen", "refused-stream") else 1)


@STREAM
@pytest.mark.parametrize("mode, expected", [("goaway-kill", "upstream_unreachable"), ("hang-mid", "timeout"),
                                            ("reset-mid", "upstream_unreachable"), ("end-mid", "upstream"),
                                            ("reset-before-head", "upstream_unreachable")])
def test_a_stream_that_dies_over_http_2_has_one_end(h2_daemon, h2_up, key, mode, expected, stream):
    reply = chat(h2_daemon, mode, key, stream)
    end = terminal(reply)
    check_error(reply, end, expected)
    assert bool(end.text) == (stream and mode != "reset-before-head")
    assert mode == "reset-before-head" or h2_up.counts[key] == 1
    assert terminal(chat(h2_daemon, "ok", key, stream)).text == TEXT


@STREAM
def test_a_client_that_leaves_resets_its_stream_and_not_its_neighbours(h2_daemon, h2_up, key, wait_until, stream):
    assert terminal(chat(h2_daemon, "ok", key, stream)).finish == "stop"
    before = h2_up.connections
    leaver = send(h2_daemon, {"model": f"fake/hang-mid@{key}-leaver", "messages": QUESTION, "stream": stream})
    wait_until(lambda: h2_up.counts.get(key + "-leaver"))
    neighbour = send(h2_daemon, {"model": f"fake/slowly@{key}-stays", "messages": QUESTION, "stream": True})
    wait_until(lambda: h2_up.counts.get(key + "-stays"))
    leaver.close()
    wait_until(lambda: key + "-leaver" in h2_up.reset, what="the stream is reset upstream")
    assert terminal(parse(read_end(neighbour))).text == TEXT
    assert h2_up.connections == before  # all of it was one connection


# ---- a host that answers no connection


@pytest.fixture
def deaf():
    """A port whose queue of connections is full: nobody answers any more."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fill = [socket.socket() for _ in range(4)]
        for s in fill:
            s.setblocking(False)
            s.connect_ex(listener.getsockname())
        yield "http://127.0.0.1:%d/v1" % listener.getsockname()[1]
        for s in fill:
            s.close()


@STREAM
def test_a_connection_that_nobody_answers_ends_at_its_deadline_and_the_daemon_can_stop(make_daemon, deaf, stream):
    d = make_daemon(f'provider "fake" {{ kind = "openai" url = "{deaf}" connect_timeout = 1 }}\n', model=False)
    end = terminal(chat(d, "ok", "k", stream))
    assert end.code in ("timeout", "upstream_unreachable")
    assert gauge(d, "hob_running") == 0
    d.stop()


@STREAM
def test_a_client_that_leaves_while_a_connection_is_made_leaves_nothing(make_daemon, deaf, wait_until, stream):
    d = make_daemon(f'provider "fake" {{ kind = "openai" url = "{deaf}" connect_timeout = 40 }}\n', model=False)
    sock = send(d, {"model": "fake/ok", "messages": QUESTION, "stream": stream})
    wait_until(lambda: gauge(d, "hob_running") == 1)
    sock.close()
    wait_until(lambda: gauge(d, "hob_running") == 0)
    d.stop()
