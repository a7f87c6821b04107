"""Servers that others wrote as hob's providers: LiteLLM's proxy, llama.cpp's server, and another hob."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from chaos_upstream import TEXT, ChaosUpstream
from conftest import MODEL, MODEL_NAME, PARIS
from strict_client import ask, parse, read_end, send, terminal

STREAM = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
TOP = pathlib.Path(__file__).parents[2]
START_S = 180  # of a program in Python on a busy machine


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_http(process, url, log):
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            return urllib.request.urlopen(url, timeout=5)
        except OSError:
            time.sleep(0.1)
    raise AssertionError("%s did not come up:\n%s" % (url, pathlib.Path(log).read_text()[-3000:]))


def serve(args, url, log, env=None):
    with open(log, "wb") as out:
        process = subprocess.Popen([str(a) for a in args], stdout=out, stderr=out, stdin=subprocess.PIPE,
                                   env={**os.environ, **(env or {})})
    try:
        wait_http(process, url, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def chat(d, model, stream, content="What is the capital of France?", headers=None, **more):
    messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
    return ask(d, {"model": model, "messages": messages, "stream": stream, "temperature": 0, **more}, headers, timeout=120)


def told(reply):
    """What hob says about the answer; in streams the first and the last chunk have it."""
    parts = [e for e in reply.events() if e != "[DONE]"] if reply.is_stream else [reply.json]
    found = [p["hob"] for p in parts if "hob" in p]
    assert len(found) == (2 if reply.is_stream else 1)
    return found


def metric(d, pattern):
    return float(re.search(r"^%s ([0-9.e+]+)$" % pattern, d.request("GET", "/metrics")[2], re.M)[1])


# ---- LiteLLM


LITELLM = os.environ.get("HOB_TEST_LITELLM") or str(TOP / "build/venv-litellm/bin/litellm")
LITELLM_CONFIG = """
model_list:
  - model_name: "*"
    litellm_params: {model: "openai/*", api_base: "%s", api_key: sk-behind, max_retries: 0}
router_settings: {num_retries: 0, disable_cooldowns: true}
litellm_settings: {num_retries: 0, telemetry: false}
general_settings: {master_key: sk-litellm}
"""


@pytest.fixture(scope="module")
def up():
    with ChaosUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def litellm(up, tmp_path_factory):
    """The base URL of LiteLLM's proxy, with the chaos upstream behind it."""
    if not os.access(LITELLM, os.X_OK):
        pytest.skip("LiteLLM is not installed: HOB_TEST_LITELLM names its program, or ./check puts it into build/venv-litellm")
    folder = tmp_path_factory.mktemp("litellm")
    (folder / "config.yaml").write_text(LITELLM_CONFIG % up.url)
    origin = "http://127.0.0.1:%d" % free_port()
    args = [LITELLM, "--config", folder / "config.yaml", "--host", "127.0.0.1", "--port", origin.rsplit(":", 1)[1],
            "--telemetry", "False"]
    # Its table of prices is in the package; without this it asks the network for a newer one.
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "HOME": str(folder), "LITELLM_LOG": "ERROR"}
    for _ in serve(args, origin + "/health/liveliness", folder / "log", env):
        yield origin + "/v1"


@pytest.fixture
def behind_litellm(make_daemon, litellm):
    config = (f'provider "gateway" {{ kind = "openai" url = "{litellm}" key_env = "GATEWAY_KEY"\n'
              "  first_byte_timeout = 60 idle_timeout = 60 }\n")
    return make_daemon(config, {"GATEWAY_KEY": "sk-litellm"}, model=False)


@pytest.fixture
def key(request):
    return "%x" % (hash(request.node.nodeid) & 0xffffffff)


@STREAM
def test_litellm_answers(behind_litellm, up, key, stream):
    reply = chat(behind_litellm, "gateway/ok@" + key, stream, stream_options={"include_usage": True})
    end = terminal(reply)
    assert (end.text, end.finish) == (TEXT, "stop")
    assert end.usage["prompt_tokens"] == 11 and end.usage["completion_tokens"] == 6
    assert all(h["provider"] == "gateway" for h in told(reply))
    assert up.calls(key)[0].headers["authorization"] == "Bearer sk-behind"  # ours opened the gateway only


@STREAM
def test_litellm_passes_tool_calls(behind_litellm, key, stream):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    reply = chat(behind_litellm, "gateway/tools@" + key, stream, tools=tools)
    assert terminal(reply).finish == "tool_calls"
    if stream:
        deltas = [c["choices"][0]["delta"] for c in reply.events()[:-1] if c["choices"]]
        calls = [t for delta in deltas for t in delta.get("tool_calls") or []]
        name = next(t["function"]["name"] for t in calls if t["function"].get("name"))
        arguments = "".join(t["function"].get("arguments") or "" for t in calls)
    else:
        function = reply.json["choices"][0]["message"]["tool_calls"][0]["function"]
        name, arguments = function["name"], function["arguments"]
    assert name == "weather" and json.loads(arguments) == {"city": "Paris"}


@STREAM
@pytest.mark.parametrize("mode, code", [("status:400", "invalid"), ("status:401", "upstream_auth"), ("status:429", "busy"),
                                        ("status:500", "unavailable"), ("status:503", "unavailable"),
                                        ("context", "context_length_exceeded")])
def test_litellms_errors_keep_their_class(behind_litellm, key, mode, code, stream):
    reply = chat(behind_litellm, f"gateway/{mode}@{key}", stream)
    assert terminal(reply).code == code


def test_a_key_that_litellm_misses_is_an_upstream_matter(make_daemon, litellm, up, key):
    """Without a database it answers 400 to a wrong key, and 401 or 500 to none."""
    d = make_daemon(f'provider "gateway" {{ kind = "openai" url = "{litellm}" }}\n', model=False)
    reply = chat(d, "gateway/ok@" + key, False)
    assert (reply.status, terminal(reply).code) in ((502, "upstream_auth"), (503, "unavailable")), reply.body
    assert not up.calls(key)


@STREAM
def test_an_answer_that_breaks_behind_litellm_ends_once(behind_litellm, key, stream):
    end = terminal(chat(behind_litellm, "gateway/rst-mid@" + key, stream))
    assert end.error, end


def test_a_client_that_leaves_is_felt_behind_litellm(behind_litellm, up, key, wait_until):
    sock = send(behind_litellm, {"model": "gateway/slow@" + key, "stream": True,
                                 "messages": [{"role": "user", "content": "x"}]})
    while b"tick" not in sock.recv(65536):
        pass
    sock.close()
    wait_until(lambda: metric(behind_litellm, "hob_running") == 0)
    assert up.wait_gone(key, 30)


# ---- llama.cpp's server


LLAMA_SERVER = """
import os, signal, sys, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.port = sys.argv[1], int(sys.argv[2])
p.hostnames, p.n_ctx, p.n_parallel, p.ui = ["127.0.0.1"], 1024, 1, False
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
server = xllamacpp.Server(p)
sys.stdin.read()
os._exit(0)
"""


@pytest.fixture(scope="module")
def llama_server(tmp_path_factory):
    pytest.importorskip("xllamacpp", reason="the package xllamacpp is not installed")
    if not MODEL or not os.path.exists(MODEL):
        pytest.skip("HOB_TEST_MODEL does not name the model to test with")
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("llama") / "log"
    for _ in serve([sys.executable, "-c", LLAMA_SERVER, MODEL, port], origin + "/health", log):
        yield origin + "/v1"


@pytest.fixture
def behind_llama(make_daemon, llama_server):
    return make_daemon(f'provider "llama" {{ kind = "openai" url = "{llama_server}" }}\n', model=False)


@STREAM
def test_a_llama_cpp_server_answers(behind_llama, stream):
    end = terminal(chat(behind_llama, "llama/any", stream, PARIS, max_tokens=40,
                        stream_options={"include_usage": True}))
    assert "Paris" in end.text and end.finish == "stop"
    assert end.usage["completion_tokens"] > 3


@STREAM
def test_a_llama_cpp_server_that_is_stopped_by_the_limit_says_length(behind_llama, stream):
    assert terminal(chat(behind_llama, "llama/any", stream, PARIS, max_tokens=3)).finish == "length"


@STREAM
def test_a_prompt_beyond_a_llama_cpp_servers_context_is_told_as_that(behind_llama, stream):
    reply = chat(behind_llama, "llama/any", stream, "word " * 3000)
    assert terminal(reply).code == "context_length_exceeded"


def test_a_client_that_leaves_frees_the_llama_cpp_servers_slot(behind_llama, wait_until):
    """Its only slot: the next prompt is answered because the first one's was given back."""
    sock = send(behind_llama, {"model": "llama/any", "stream": True, "ignore_eos": True, "max_tokens": 100000,
                               "messages": [{"role": "user", "content": "Tell me a story."}]})
    sock.recv(65536)
    sock.close()
    wait_until(lambda: metric(behind_llama, "hob_running") == 0)
    assert "Paris" in terminal(chat(behind_llama, "llama/any", False, PARIS, max_tokens=40)).text


# ---- two hobs in a row


@pytest.fixture
def row(make_daemon):
    """(A, B): A's provider is B, which has the model."""
    b = make_daemon()
    a = make_daemon(f'provider "b" {{ kind = "openai" url = "http://127.0.0.1:{b.port}/v1" }}\n', model=False)
    for model in list(a.models.iterdir()):
        model.unlink()
    return a, b


REMOTE = "b/" + MODEL_NAME


@STREAM
def test_a_hob_behind_a_hob_answers_the_same(row, stream):
    a, b = row
    far = terminal(chat(a, REMOTE, stream, PARIS, max_tokens=40))
    near = terminal(chat(b, MODEL_NAME, stream, PARIS, max_tokens=40))
    assert "Paris" in far.text and (far.text, far.finish) == (near.text, near.finish)


@STREAM
def test_errors_pass_through_two_hobs(row, stream):
    a, _ = row
    reply = chat(a, "b/no-such-model", stream)
    assert terminal(reply).code == "model_not_found"
    reply = chat(a, REMOTE, stream, "word " * 9000)
    assert terminal(reply).code == "context_length_exceeded"


@STREAM
def test_a_cancel_at_the_first_hob_stops_the_engine_of_the_second(row, wait_until, stream):
    a, b = row
    chat(b, MODEL_NAME, False, PARIS, max_tokens=1)  # loaded
    sock = send(a, {"model": REMOTE, "stream": stream, "max_tokens": 100000, "ignore_eos": True,
                    "messages": [{"role": "user", "content": "Tell me a story."}]})
    wait_until(lambda: metric(b, "hob_running") == 1)
    if stream:
        sock.recv(65536)
    sock.close()
    wait_until(lambda: metric(b, "hob_running") == 0, what="the second hob is idle")
    assert metric(b, 'hob_requests_total\\{outcome="cancelled"\\}') == 1
    assert metric(a, 'hob_requests_total\\{outcome="cancelled"\\}') == 1


@STREAM
def test_a_conversation_is_the_first_hobs_alone(row, stream):
    a, b = row
    reply = chat(a, REMOTE, stream, "My name is Ada.", {"X-Hob-Conversation": "new"}, max_tokens=8)
    assert terminal(reply).finish
    mine = [c["id"] for c in a.request("GET", "/v1/hob/conversations")[2]["conversations"]]
    assert all(h["conversation"] in mine for h in told(reply))
    assert b.request("GET", "/v1/hob/conversations")[2]["conversations"] == []


@STREAM
def test_what_the_second_hob_says_of_itself_does_not_confuse(row, stream):
    a, _ = row
    reply = chat(a, REMOTE, stream, PARIS, max_tokens=8)
    assert terminal(reply).text
    # The head of a stream may have left before the second hob said anything.
    assert reply.headers.get("x-hob-provider", "b" if stream else None) == "b"
    assert reply.headers.get("x-hob-model", REMOTE if stream else None) == REMOTE
    assert all(h["provider"] == "b" and h["model"] == REMOTE for h in told(reply))


def test_a_second_hob_that_goes_away_ends_the_answer_with_an_error(row, wait_until):
    a, b = row
    chat(b, MODEL_NAME, False, PARIS, max_tokens=1)
    sock = send(a, {"model": REMOTE, "stream": True, "max_tokens": 100000, "ignore_eos": True,
                    "messages": [{"role": "user", "content": "Tell me a story."}]})
    raw = sock.recv(65536)
    while b'"content":"' not in raw.replace(b'"content":""', b""):
        raw += sock.recv(65536)
    b.kill()
    end = terminal(parse(raw + read_end(sock)))
    assert end.text and end.code == "upstream_unreachable"
    assert terminal(chat(a, REMOTE, False)).code == "upstream_unreachable"
