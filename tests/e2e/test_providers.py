"""Providers that speak other protocols than OpenAI's, through the daemon, in OpenAI's dialect."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time

import pytest

from conftest import ASK, MODEL, error_of
from fake_protocols import KEY, TEXT, FakeAnthropic, FakeOllama
from fake_upstream import FakeUpstream

TOOLS = [{"type": "function", "function": {"name": "weather", "description": "of a city",
                                            "parameters": {"type": "object", "properties": {"city": {}}}}}]


@pytest.fixture
def anthropic(make_daemon):
    with FakeAnthropic() as up:
        d = make_daemon(f'provider "claude" {{ kind = "anthropic" url = "{up.url}" key_env = "FAKE_KEY" }}\n',
                        {"FAKE_KEY": KEY}, model=False)
        d.up = up
        yield d


@pytest.fixture
def ollama(make_daemon):
    with FakeOllama() as up:
        d = make_daemon(f'provider "box" {{ kind = "ollama" url = "{up.url}" local = true }}\n', model=False)
        d.up = up
        yield d


def events(d, model, **more):
    return [c for c in d.stream({"model": model, "messages": ASK, **more})]


def joined(chunks, key):
    return "".join(c["choices"][0]["delta"].get(key) or "" for c in chunks
                   if isinstance(c, dict) and c.get("choices"))


# -- Anthropic


def test_claude_answers_in_openais_words(anthropic):
    status, headers, r = anthropic.ask("claude/ok")
    assert status == 200, r
    assert r["choices"][0]["message"]["content"] == TEXT
    assert r["choices"][0]["finish_reason"] == "stop"
    assert r["usage"]["prompt_tokens"] == 109 and r["usage"]["completion_tokens"] == 15
    assert r["usage"]["prompt_tokens_details"]["cached_tokens"] == 100
    assert headers["x-hob-provider"] == "claude"


def test_claude_streams_thoughts_and_text(anthropic):
    chunks = events(anthropic, "claude/think", reasoning_effort="low", max_tokens=8000)
    assert joined(chunks, "reasoning_content") == "France? Easy."
    assert joined(chunks, "content") == TEXT
    assert chunks[-1] == "[DONE]" and not error_of(chunks)
    assert anthropic.up.asked()["body"]["thinking"] == {"type": "enabled", "budget_tokens": 1600}


def test_claude_sees_its_own_dialect_and_only_that(anthropic):
    status, _, r = anthropic.ask("claude/ok", {"x-hob-private": "0"}, temperature=0.5, stop=["END"], tools=TOOLS,
                       keep_alive="5m", **{"class": "batch"})
    assert status == 200, r
    seen = anthropic.up.asked()
    assert seen["path"] == "/v1/messages"
    assert seen["headers"]["x-api-key"] == KEY and "authorization" not in seen["headers"]
    assert seen["headers"]["anthropic-version"] == "2023-06-01"
    assert not [h for h in seen["headers"] if h.startswith("x-hob")]
    assert seen["body"] == {
        "model": "ok", "max_tokens": 4096, "stream": True, "temperature": 0.5, "stop_sequences": ["END"],
        "messages": [{"role": "user", "content": [{"type": "text", "text": ASK[0]["content"]}]}],
        "tools": [{"name": "weather", "description": "of a city",
                   "input_schema": {"type": "object", "properties": {"city": {}}}}]}


@pytest.mark.parametrize("model", ["claude/tool"])
def test_claudes_tools_go_there_and_back(anthropic, model):
    status, _, r = anthropic.ask(model, tools=TOOLS)
    assert status == 200, r
    choice = r["choices"][0]
    call = choice["message"]["tool_calls"][0]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] == "Let me look."
    assert call["id"] == "toolu_01" and call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    more = ASK + [choice["message"], {"role": "tool", "tool_call_id": "toolu_01", "content": "sunny"}]
    status, _, r = anthropic.request("POST", "/v1/chat/completions",
                                     {"model": "claude/ok", "messages": more, "tools": TOOLS})
    assert status == 200, r
    sent = anthropic.up.asked()["body"]["messages"]
    assert sent[1]["content"][1] == {"type": "tool_use", "id": "toolu_01", "name": "weather",
                                     "input": {"city": "Paris"}}
    assert sent[2] == {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_01",
                                                    "content": [{"type": "text", "text": "sunny"}]}]}


@pytest.mark.parametrize("mode, status, code", [
    ("overloaded-inside", 503, "unavailable"),
    ("529", 503, "unavailable"),
    ("limited", 429, "busy"),
    ("refuses", 400, "content_filter"),
    ("nobody", 404, "model_not_found"),
])
def test_claudes_failures_have_their_status(anthropic, mode, status, code):
    got, _, r = anthropic.ask("claude/" + mode)
    assert (got, r["error"]["code"]) == (status, code), r


@pytest.mark.parametrize("mode", ["truncated", "overloaded-late"])
def test_claudes_broken_streams_end_with_an_error(anthropic, mode):
    chunks = events(anthropic, "claude/" + mode)
    assert error_of(chunks) and joined(chunks, "content") == "The capital "
    assert not any(c["choices"][0].get("finish_reason") in ("stop", "length") for c in chunks
                   if isinstance(c, dict) and c.get("choices"))


@pytest.mark.parametrize("more, says", [
    ({"logprobs": True}, "logprobs"),
    ({"response_format": {"type": "json_object"}}, "json_object"),
])
def test_what_claude_cannot_do_is_said_before_anything_is_sent(anthropic, more, says):
    status, _, r = anthropic.ask("claude/ok", **more)
    assert status == 400 and says in r["error"]["message"], r
    assert not anthropic.up.seen or not [s for s in anthropic.up.seen if s["body"]]


def test_claude_has_no_raw_completions(anthropic):
    status, _, r = anthropic.request("POST", "/v1/completions", {"model": "claude/ok", "prompt": "a"})
    assert status == 400 and r["error"]["code"] == "unsupported", r


def test_a_client_that_leaves_ends_claudes_call(anthropic, wait_until):
    stream = anthropic.stream({"model": "claude/slow", "messages": ASK})
    for _ in range(3):
        next(stream)
    stream.close()
    anthropic.last_response.close()
    wait_until(lambda: anthropic.up.asked()["gone"], 5, "the upstream noticed")


SERVE = """
import sys, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.hostnames, p.port = sys.argv[1], ["127.0.0.1"], int(sys.argv[2])
p.n_ctx, p.n_parallel, p.ui = 2048, 1, False
p.api_keys = [sys.argv[3]]
server = xllamacpp.Server(p)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def llama_cpp():
    """llama.cpp's HTTP server, which speaks OpenAI's and Anthropic's protocols by itself."""
    pytest.importorskip("xllamacpp")
    if not MODEL:
        pytest.skip("HOB_TEST_MODEL does not name the model to test with")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-c", SERVE, MODEL, str(port), KEY], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert server.stdout.readline() == b"ready\n"
    yield f"http://127.0.0.1:{port}"
    server.kill()
    server.wait()


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_an_independent_server_answers_the_same_by_both_protocols(make_daemon, llama_cpp, kind):
    d = make_daemon(f'provider "up" {{ kind = "{kind}" url = "{llama_cpp}/v1" key_env = "FAKE_KEY" }}\n',
                    {"FAKE_KEY": KEY}, model=False)
    more = {"temperature": 0, "max_tokens": 24, "messages": [
        {"role": "system", "content": "You answer in one sentence."}] + ASK}
    status, _, r = d.request("POST", "/v1/chat/completions", {"model": "up/any", **more})
    assert status == 200, r
    assert "Paris" in r["choices"][0]["message"]["content"]
    assert r["usage"]["prompt_tokens"] > 20 and 0 < r["usage"]["completion_tokens"] <= 24
    chunks = list(d.stream({"model": "up/any", **more, "max_tokens": 3}))
    assert joined(chunks, "content") and not error_of(chunks)
    assert [c["choices"][0]["finish_reason"] for c in chunks
            if isinstance(c, dict) and c["choices"] and c["choices"][0]["finish_reason"]] == ["length"]


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_an_independent_server_refuses_a_wrong_key_and_a_long_prompt(make_daemon, llama_cpp, kind):
    d = make_daemon(f'provider "up" {{ kind = "{kind}" url = "{llama_cpp}/v1" key_env = "FAKE_KEY" }}\n'
                    f'provider "wrong" {{ kind = "{kind}" url = "{llama_cpp}/v1" key_env = "WRONG_KEY" }}\n',
                    {"FAKE_KEY": KEY, "WRONG_KEY": "sk-wrong"}, model=False)
    status, _, r = d.ask("wrong/any")
    assert (status, r["error"]["code"]) == (502, "upstream_auth"), r
    long = [{"role": "user", "content": "word " * 5000}]
    status, _, r = d.request("POST", "/v1/chat/completions", {"model": "up/any", "messages": long})
    assert (status, r["error"]["code"]) == (400, "context_length_exceeded"), r


# -- Ollama


def test_ollama_answers_in_openais_words(ollama):
    status, _, r = ollama.ask("box/ok", max_tokens=9, seed=3)
    assert status == 200, r
    assert r["choices"][0]["message"]["content"] == TEXT
    assert (r["usage"]["prompt_tokens"], r["usage"]["completion_tokens"]) == (11, 6)
    seen = ollama.up.asked()
    assert seen["path"] == "/api/chat"
    assert seen["body"] == {"model": "ok", "stream": True, "messages": ASK, "options": {"num_predict": 9, "seed": 3}}


def test_ollama_streams_thoughts_and_text(ollama):
    chunks = events(ollama, "box/think")
    assert joined(chunks, "reasoning_content") == "Easy." and joined(chunks, "content") == TEXT


def test_ollamas_tools_go_there_and_back(ollama):
    status, _, r = ollama.ask("box/tool", tools=TOOLS)
    assert status == 200, r
    choice = r["choices"][0]
    call = choice["message"]["tool_calls"][0]
    assert choice["finish_reason"] == "tool_calls" and call["id"]
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}
    more = ASK + [choice["message"], {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}]
    status, _, r = ollama.request("POST", "/v1/chat/completions", {"model": "box/ok", "messages": more})
    assert status == 200, r
    sent = ollama.up.asked()["body"]["messages"]
    assert sent[1]["tool_calls"] == [{"function": {"name": "weather", "arguments": {"city": "Paris"}}}]
    assert sent[2] == {"role": "tool", "content": "sunny", "tool_name": "weather"}


def test_ollama_has_raw_completions(ollama):
    status, _, r = ollama.request("POST", "/v1/completions", {"model": "box/ok", "prompt": "Once"})
    assert status == 200 and r["choices"][0]["text"] == TEXT, r
    assert ollama.up.asked()["body"]["prompt"] == "Once" and ollama.up.asked()["body"]["raw"] is True


@pytest.mark.parametrize("mode, status, code", [("busy", 503, "unavailable"), ("nobody", 404, "model_not_found")])
def test_ollamas_failures_have_their_status(ollama, mode, status, code):
    got, _, r = ollama.ask("box/" + mode)
    assert (got, r["error"]["code"]) == (status, code), r


def test_an_ollama_that_dies_ends_the_stream_with_an_error(ollama):
    chunks = events(ollama, "box/dies")
    assert joined(chunks, "content") == "The capital " and "terminated" in error_of(chunks)["message"]


def test_a_base_that_ends_with_v1_is_understood(make_daemon):
    with FakeOllama() as up:
        d = make_daemon(f'provider "box" {{ kind = "ollama" url = "{up.url}/v1/" }}\n', model=False)
        assert d.ask("box/ok")[0] == 200


# -- keys


@pytest.mark.parametrize("mode", ["echo", "echo-inside"])
def test_a_key_that_the_server_echoes_is_taken_out(anthropic, mode):
    _, _, r = anthropic.ask("claude/" + mode)
    assert KEY[:12] not in json.dumps(r) and "***" in r["error"]["message"], r
    assert KEY not in anthropic.log.read_text()


def claude_with(up, key):
    return f'provider "claude" {{ kind = "anthropic" url = "{up.url}" {key} }}\n'


def test_a_key_comes_from_a_command_that_runs_once(make_daemon, tmp_path):
    runs = tmp_path / "runs"
    with FakeAnthropic() as up:
        d = make_daemon(claude_with(up, f'key_command = "echo x >> {runs}; echo {KEY}"'), model=False)
        for _ in range(3):
            assert d.ask("claude/ok")[0] == 200
        assert up.asked()["headers"]["x-api-key"] == KEY
        assert runs.read_text() == "x\n"
        assert KEY not in d.log.read_text()


def test_a_command_that_fails_says_so(make_daemon):
    with FakeAnthropic() as up:
        d = make_daemon(claude_with(up, 'key_command = "echo secret; exit 7"'), model=False)
        status, _, r = d.ask("claude/ok")
        assert status == 401 and "exit status 7" in r["error"]["message"]
        assert "secret" not in json.dumps(r)


def test_a_refused_key_is_read_again(make_daemon, tmp_path):
    key = tmp_path / "key"
    key.write_text("sk-old-and-revoked")
    key.chmod(0o600)
    with FakeAnthropic() as up:
        d = make_daemon(claude_with(up, f'key_file = "{key}"'), model=False)
        status, _, r = d.ask("claude/ok")
        assert status == 502 and r["error"]["code"] == "upstream_auth"
        assert "sk-old" not in json.dumps(r)
        key.write_text(KEY)
        assert d.ask("claude/ok")[0] == 200


def dies_with_a_core(process):
    """Whether the kernel wrote a core dump when SIGABRT ended it."""
    resource.prlimit(process.pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    process.send_signal(signal.SIGABRT)
    dumped = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT).si_code == os.CLD_DUMPED
    process.wait()
    return dumped


def test_no_core_dump_holds_a_key(make_daemon, tmp_path):
    other = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
    try:
        if not dies_with_a_core(other):
            pytest.skip("this system writes no core dumps at all")
    except (OSError, ValueError):
        other.kill()
        other.wait()
        pytest.skip("the limit of core dumps cannot be raised here")
    assert not dies_with_a_core(make_daemon(model=False).process)


# -- what may leave this machine


def test_a_private_prompt_goes_only_to_what_is_declared_local(make_daemon):
    with FakeOllama() as up:
        d = make_daemon(f'provider "mine" {{ kind = "ollama" url = "{up.url}" local = true }}\n'
                        f'provider "gateway" {{ kind = "ollama" url = "{up.url}" }}\n', model=False)
        assert d.ask("mine/ok", {"X-Hob-Private": "1"})[0] == 200
        status, _, r = d.ask("gateway/ok", {"X-Hob-Private": "1"})
        assert status == 403, r
        assert len([s for s in up.seen if s["path"] == "/api/chat"]) == 1


def test_a_call_has_a_deadline_in_all(make_daemon):
    with FakeUpstream() as up:
        d = make_daemon(f'provider "fake" {{ url = "{up.url}" total_timeout = 1 }}\n', model=False)
        start = time.monotonic()
        chunks = events(d, "fake/slow")
        assert error_of(chunks) and "tick" in joined(chunks, "content")
        assert time.monotonic() - start < 20  # the upstream would talk for 30
