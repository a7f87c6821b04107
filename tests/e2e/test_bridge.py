"""The cold-start bridge: a remote model answers while the local one is loaded behind it."""

import os
import shutil

import pytest

from conftest import MODEL, PARIS
from fake_upstream import WORDS

TEXT = "".join(WORDS)


@pytest.fixture
def daemon(make_daemon, up):
    """A model whose file looks so large that loading it should take seconds: the tail is a hole."""
    d = make_daemon(f'provider "fake" {{ url = "{up.url}" }}\n'
                    'route "b" { candidates = {"cold"} bridge = "fake/ok" }\n'
                    'route "ill" { candidates = {"cold"} bridge = "fake/503" }\n'
                    'route "none" { candidates = {"cold"} }\n', start=False)
    path = d.models / "cold.gguf"
    shutil.copyfile(MODEL, path)
    os.truncate(path, 1 << 30)
    return d.start()


def ask(d, model, headers=None, **more):
    return d.ask(model, headers, **{"messages": PARIS, "temperature": 0, "max_tokens": 24, **more})


def state_of(d, name):
    models = d.request("GET", "/v1/hob/cache")[2]["models"]
    return next((m["state"] for m in models if m["name"] == name), None)


def test_the_first_prompt_is_answered_elsewhere_and_the_conversation_comes_home(daemon, up, wait_until):
    status, headers, r = ask(daemon, "b", conversation="new")
    assert status == 200 and r["choices"][0]["message"]["content"] == TEXT, r
    assert headers["x-hob-model"] == "fake/ok" and "cold" in headers["x-hob-reason"]
    wait_until(lambda: state_of(daemon, "cold") == "ready", what="the model is loaded behind the answer")
    status, headers, r = ask(daemon, "b", conversation=r["hob"]["conversation"])
    assert status == 200 and "Paris" in r["choices"][0]["message"]["content"], r
    assert headers["x-hob-model"] == "cold" and headers["x-hob-context"] == "kept=2, summarised=0, dropped=0"
    assert len(up.seen) == 1


def test_a_bridge_that_fails_leaves_the_prompt_to_the_model_that_loads(daemon, up):
    status, headers, r = ask(daemon, "ill")
    assert status == 200 and headers["x-hob-model"] == "cold", r
    assert headers["x-hob-attempts"] == "2" and len(up.seen) == 1


def test_without_a_bridge_and_for_private_prompts_nothing_leaves(daemon, up):
    status, headers, r = ask(daemon, "b", {"x-hob-private": "1"})
    assert status == 200 and headers["x-hob-model"] == "cold", r
    assert ask(daemon, "none")[0] == 200
    assert up.seen == []


def test_a_client_that_leaves_does_not_stop_the_load(daemon, up, wait_until):
    c = daemon.connection()
    c.request("POST", "/v1/chat/completions",
              '{"model":"b","stream":true,"messages":[{"role":"user","content":"hi"}]}')
    wait_until(lambda: up.seen, what="the bridge's call")
    c.close()
    wait_until(lambda: state_of(daemon, "cold") == "ready", what="the model is loaded")


def test_the_daemon_stops_while_a_model_is_loaded_behind_an_answer(daemon, up):
    assert ask(daemon, "b")[0] == 200
    daemon.stop()
