"""Fallback through the daemon: the real local model and an upstream that misbehaves on request."""

import json
import os
import signal
import threading
import time

import pytest

from conftest import MODEL_NAME, PARIS, text_of
from fake_upstream import WORDS

TEXT = "".join(WORDS)
AWAY = "http://127.0.0.1:1/v1"  # nobody listens there


def config(url, more="", cache=""):
    return (f'provider "fake" {{ kind = "openai" url = "{url}"\n'
            "  connect_timeout = 2 first_byte_timeout = 2 idle_timeout = 2 }\n"
            f"cache {{ {cache} }}\n{more}\n")


def fallback(to):
    return f'model "{MODEL_NAME}" {{ fallback = {{"{to}"}} }}\n'


def route(*candidates, more=""):
    return 'route "r" { candidates = {%s} %s }\n' % (", ".join(f'"{c}"' for c in candidates), more)


def ask(d, model, headers=None, **more):
    return d.ask(model, headers, **{"messages": PARIS, "temperature": 0, "max_tokens": 24, **more})


def assert_remote(answer, model="fake/ok"):
    status, headers, r = answer
    assert status == 200, r
    assert r["choices"][0]["message"]["content"] == TEXT
    assert (headers["x-hob-model"], headers["x-hob-provider"]) == (model, "fake")
    assert r["hob"]["upstream_model"] == "fake/upstream-model"
    return headers, r["hob"]


def assert_local(answer):
    status, headers, r = answer
    assert status == 200, r
    assert "Paris" in r["choices"][0]["message"]["content"]
    assert (headers["x-hob-model"], headers["x-hob-provider"]) == (MODEL_NAME, "local")
    assert headers["x-hob-cost"] == "0" and r["hob"]["cost_usd"] == 0
    return headers, r["hob"]


# -- from here to there


def test_a_model_that_does_not_fit_is_answered_for_by_its_fallback(make_daemon, up):
    d = make_daemon(config(up.url, fallback("fake/ok"), 'budget = "1MiB"'))
    headers, hob = assert_remote(ask(d, MODEL_NAME))
    assert MODEL_NAME in headers["x-hob-reason"]
    assert float(headers["x-hob-cost"]) == pytest.approx(0.000125) and hob["cost_usd"] == pytest.approx(0.000125)


def test_a_prompt_longer_than_the_context_goes_to_a_larger_one(make_daemon, up):
    d = make_daemon(config(up.url, fallback("fake/ok") + 'model "fake/ok" { ctx = 200000 }\n'))
    long = [{"role": "user", "content": "word " * 9000}]
    assert_remote(ask(d, MODEL_NAME, messages=long))
    assert len(up.seen) == 1
    assert_local(ask(d, MODEL_NAME))


def test_a_queue_beyond_the_routes_patience_goes_on_to_the_next(make_daemon, up):
    d = make_daemon(config(up.url, route(MODEL_NAME, "fake/ok", more="patience = 1"), "slots = 1"))
    busy = d.stream({"model": MODEL_NAME, "messages": PARIS, "max_tokens": 3500, "ignore_eos": True})
    next(busy)
    try:
        headers, _ = assert_remote(ask(d, "r"))
        assert headers["x-hob-route"] == "r"
    finally:
        busy.close()
        d.last_response.close()


def test_an_engine_that_keeps_dying_is_answered_for_by_the_fallback(make_daemon, up):
    d = make_daemon(config(up.url, fallback("fake/ok")))
    stop = threading.Event()

    def kill():
        while not stop.is_set():
            try:
                pid = d.engine_pid()
                if pid:
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        headers, hob = assert_remote(ask(d, MODEL_NAME))
    finally:
        stop.set()
        killer.join()
    assert int(headers["x-hob-attempts"]) == len(hob["attempts"]) + 1 >= 2
    assert hob["attempts"][0]["code"] == "unavailable"


# -- from there to here


@pytest.mark.parametrize("mode, code", [
    ("401", "upstream_auth"), ("402", "payment_required"), ("404", "model_not_found"), ("429", "busy"),
    ("500", "unavailable"), ("503", "unavailable"), ("refuses", "upstream"), ("silent", "timeout"),
    ("empty", "upstream"), ("error-first", "busy"),
])
def test_a_remote_that_fails_before_its_first_token_is_answered_for_here(make_daemon, up, mode, code):
    d = make_daemon(config(up.url, route("fake/" + mode, MODEL_NAME)))
    headers, hob = assert_local(ask(d, "r"))
    assert hob["route"] == headers["x-hob-route"] == "r"
    assert [a["model"] for a in hob["attempts"]] == ["fake/" + mode] * len(hob["attempts"])
    assert len(up.seen) == len(hob["attempts"]) == int(headers["x-hob-attempts"]) - 1
    assert f"{MODEL_NAME} is next" in headers["x-hob-reason"] and f"fake/{mode}" in headers["x-hob-reason"]
    assert hob["attempts"][0]["code"].startswith(code), hob  # a lost connection is "upstream_unreachable" too


def test_offline_the_local_model_answers(make_daemon):
    d = make_daemon(config(AWAY, route("fake/ok", MODEL_NAME)))
    assert_local(ask(d, "r"))


def test_a_stream_that_fell_back_says_so_in_its_head_and_first_chunk(make_daemon, up):
    d = make_daemon(config(up.url, route("fake/503", MODEL_NAME)))
    ask(d, MODEL_NAME, max_tokens=1)  # loaded: the head waits 2 s for a first token, no longer
    chunks = list(d.stream({"model": "r", "messages": PARIS, "temperature": 0, "max_tokens": 24}))
    assert "Paris" in text_of(chunks) and chunks[-1] == "[DONE]"
    headers = d.last_response.headers
    assert (headers["x-hob-model"], headers["x-hob-provider"]) == (MODEL_NAME, "local")
    assert headers["x-hob-attempts"] == "2" and headers["x-hob-cost"] == "0"
    assert chunks[0]["hob"]["attempts"][0]["model"] == "fake/503"
    assert chunks[0]["model"] == MODEL_NAME


# -- what never happens


@pytest.mark.parametrize("mode", ["gone", "truncated", "mid-error", "garbage", "stalls"])
def test_after_the_first_token_nothing_else_is_tried(make_daemon, up, mode):
    d = make_daemon(config(up.url, route("fake/" + mode, MODEL_NAME)))
    chunks = list(d.stream({"model": "r", "messages": PARIS}))
    assert text_of(chunks) and TEXT.startswith(text_of(chunks))
    assert [c for c in chunks if isinstance(c, dict) and "error" in c]
    assert "[DONE]" not in chunks
    assert len(up.seen) == 1
    assert d.engine_pid() is None  # the local model was not even loaded


@pytest.mark.parametrize("mode", ["400", "context"])
def test_a_request_that_is_at_fault_is_not_tried_elsewhere(make_daemon, up, mode):
    d = make_daemon(config(up.url, route("fake/" + mode, MODEL_NAME)))
    status, headers, r = ask(d, "r")  # the local context is smaller than the one that was refused
    assert status == 400, r
    assert len(up.seen) == 1 and headers["x-should-retry"] == "false"


def test_a_private_prompt_is_answered_here_or_refused(make_daemon, up):
    d = make_daemon(config(up.url, route("fake/ok", MODEL_NAME) + fallback("fake/ok")))
    private = {"x-hob-private": "1"}
    assert_local(ask(d, "r", private))
    status, _, r = ask(d, "fake/ok", private)
    assert status == 403 and "private" in r["error"]["message"]
    long = [{"role": "user", "content": "word " * 9000}]
    status, _, r = ask(d, MODEL_NAME, private, messages=long)
    assert status in (400, 403), r
    assert up.seen == []


# -- what the client is told when nothing is left


def test_when_all_fail_the_first_ones_error_names_the_others_and_ends_retries(make_daemon, up):
    d = make_daemon(config(up.url, route("fake/503", "fake/500")))
    status, headers, r = ask(d, "r")
    assert status == 503, r
    assert "fake/503: " in r["error"]["message"] and "fake/500: " in r["error"]["message"]
    assert headers["x-should-retry"] == "false"


def test_a_sole_remote_that_stays_ill_ends_the_clients_retries_too(make_daemon, up):
    d = make_daemon(config(up.url))
    status, headers, r = ask(d, "fake/503")
    assert status == 503 and headers["x-should-retry"] == "false", r
    assert len(up.seen) == 3  # ours were these


def test_a_client_that_leaves_while_we_wait_for_a_busy_server_ends_it(make_daemon, up, wait_until):
    d = make_daemon(config(up.url))
    c = d.connection()
    c.request("POST", "/v1/chat/completions", json.dumps({"model": "fake/429", "messages": PARIS, "stream": True}))
    wait_until(lambda: up.seen, what="the call")
    time.sleep(0.2)  # it was told to wait 7 s
    c.close()
    wait_until(lambda: "\nhob_running 0\n" in d.request("GET", "/metrics")[2], seconds=3, what="nothing runs")
    assert len(up.seen) == 1


def test_a_stream_gets_comments_while_its_first_token_is_on_its_way(make_daemon, up):
    d = make_daemon(config(up.url, route("fake/silent", MODEL_NAME)))
    c = d.connection()
    start = time.monotonic()
    c.request("POST", "/v1/chat/completions",
              json.dumps({"model": "r", "messages": PARIS, "max_tokens": 24, "temperature": 0, "stream": True}),
              {"x-hob-progress": "1"})
    r = c.getresponse()
    assert r.status == 200 and time.monotonic() - start < 1.9  # the upstream is silent for 2 s
    assert "x-hob-model" not in r.headers  # not known yet
    first = r.readline()
    assert first.startswith(b": hob "), first
    rest = r.read().decode()
    assert "Paris" in text_of([json.loads(line[6:]) for line in rest.splitlines() if line.startswith("data: {\"id")])
    assert rest.rstrip().endswith("data: [DONE]")


# -- conversations and fields


def test_a_conversation_that_falls_back_goes_on(make_daemon, up):
    d = make_daemon(config(up.url, route("fake/503", MODEL_NAME)))
    _, hob = assert_local(ask(d, "r", conversation="new"))
    status, headers, r = ask(d, "fake/ok", conversation=hob["conversation"],
                             messages=[{"role": "user", "content": "And of Spain?"}])
    assert status == 200 and headers["x-hob-context"] == "kept=2, summarised=0, dropped=0", r
    sent = up.seen[-1]["body"]["messages"]
    assert [m["role"] for m in sent] == ["user", "assistant", "user"] and "Paris" in sent[1]["content"]


@pytest.mark.parametrize("value", ["", "much", "-1", "1e99", "nan", "0.05 USD"])
def test_a_budget_that_is_no_amount_is_refused(make_daemon, up, value):
    d = make_daemon(config(up.url), model=False)
    status, _, r = ask(d, "fake/ok", {"x-hob-budget": value})
    assert status == 400 and "x-hob-budget" in r["error"]["message"]
    assert ask(d, "fake/ok", {"x-hob-budget": "0.05", "x-hob-client": "zed"})[0] in (200, 402)
