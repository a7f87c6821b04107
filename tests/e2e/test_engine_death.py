"""kill -9 of the engine: the client hears of it, and the next request works."""

import json
import os
import signal
import time

import pytest

from conftest import MODEL_NAME

LONG = {
    "model": MODEL_NAME,
    "messages": [{"role": "user", "content": "Count from one to two hundred, in words."}],
    "temperature": 0,
    "max_tokens": 1500,
    "ignore_eos": True,
}


def start_answer(daemon):
    """A stream of which the first text has arrived."""
    events = daemon.stream(LONG)
    for event in events:
        if event["choices"] and event["choices"][0]["delta"].get("content"):
            return events
    raise AssertionError("no text came")


def test_a_killed_engine_is_an_error_event_and_the_next_request_works(daemon):
    events = start_answer(daemon)
    pid = daemon.engine_pid()
    os.kill(pid, signal.SIGKILL)
    rest = list(events)
    errors = [e for e in rest if isinstance(e, dict) and "error" in e]
    assert len(errors) == 1, rest[-3:]
    assert "engine died (signal 9)" in errors[0]["error"]["message"]
    assert not any(e["choices"][0].get("finish_reason") for e in rest if isinstance(e, dict) and e.get("choices"))
    status, _, body = daemon.chat("Say hello.", max_tokens=8)
    assert status == 200, body
    assert body["choices"][0]["message"]["content"]
    assert daemon.engine_pid() not in (None, pid)


def test_both_of_two_streams_hear_of_the_death(daemon):
    first, second = start_answer(daemon), start_answer(daemon)
    os.kill(daemon.engine_pid(), signal.SIGKILL)
    for events in (first, second):
        assert [e for e in events if isinstance(e, dict) and "error" in e]
    assert daemon.chat("Say hello.", max_tokens=4)[0] == 200


def test_a_stopped_engine_process_holds_up_no_other_part(daemon):
    assert daemon.chat("Say hello.", max_tokens=4)[0] == 200
    pid = daemon.engine_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        assert daemon.request("GET", "/healthz")[0] == 200
        assert daemon.request("GET", "/v1/models")[0] == 200
    finally:
        os.kill(pid, signal.SIGCONT)
    assert daemon.chat("Say hello.", max_tokens=4)[0] == 200


@pytest.mark.parametrize("times", [3])
def test_an_engine_killed_while_idle_is_not_noticed_by_the_next_client(daemon, wait_until, times):
    for _ in range(times):
        assert daemon.chat("Say hello.", max_tokens=4)[0] == 200
        pid = daemon.engine_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: daemon.engine_pid() != pid, what="the dead engine is gone")
        assert daemon.chat("Say hello.", max_tokens=4)[0] == 200


@pytest.mark.parametrize("after_ms", [0, 5, 20, 50, 100, 200])
def test_an_engine_killed_at_any_moment_leaves_an_answer_or_an_error(daemon, after_ms):
    """Before the request arrives, in loading, prefill or decoding: never a hang, never silence."""
    daemon.chat("Say hello.", max_tokens=1)
    pid = daemon.engine_pid()
    c = daemon.connection(timeout=30)
    c.request("POST", "/v1/chat/completions", json.dumps(LONG | {"stream": True, "max_tokens": 64}))
    time.sleep(after_ms / 1000)
    os.kill(pid, signal.SIGKILL)
    r = c.getresponse()
    data = r.read().decode()
    if r.status == 200:
        assert data.rstrip().endswith("data: [DONE]") or '"error"' in data, data[-300:]
    else:
        assert r.status == 503 and '"error"' in data, data
    assert daemon.chat("Say hello.", max_tokens=4)[0] == 200
