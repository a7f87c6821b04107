"""Remote models through the daemon, against an upstream on loopback that misbehaves on request."""

import json
import signal
import threading
import time

import pytest

from conftest import ASK, HOB, error_of, text_of
from fake_upstream import SIZED, USAGE, WORDS

KEY = "sk-test-0123456789abcdef"
TEXT = "".join(WORDS)


def config(url, more='key_env = "FAKE_KEY"'):
    return (f'provider "fake" {{ kind = "openai" url = "{url}" {more}\n'
            "  connect_timeout = 2 first_byte_timeout = 2 idle_timeout = 2 }\n")


@pytest.fixture
def daemon(make_daemon, up):
    return make_daemon(config(up.url), {"FAKE_KEY": KEY}, model=False)


def ask(d, mode, headers=None, **more):
    return d.ask("fake/" + mode, headers, **more)


def events(d, mode, **more):
    return list(d.stream({"model": "fake/" + mode, "messages": ASK, **more}))


def test_an_answer_comes_back_with_its_usage_and_cost(daemon, up):
    status, headers, r = ask(daemon, "ok")
    assert status == 200, r
    assert r["choices"][0]["message"]["content"] == TEXT
    assert r["choices"][0]["finish_reason"] == "stop"
    assert r["usage"]["prompt_tokens"] == USAGE["prompt_tokens"]
    assert r["usage"]["completion_tokens"] == USAGE["completion_tokens"]
    assert r["usage"]["prompt_tokens_details"]["cached_tokens"] == 4
    assert r["usage"]["cost"] == pytest.approx(USAGE["cost"])
    assert headers["x-hob-provider"] == "fake"


def test_an_answer_streams(daemon):
    chunks = events(daemon, "ok")
    assert text_of(chunks) == TEXT
    assert chunks[-1] == "[DONE]"
    assert len([c for c in chunks if isinstance(c, dict) and c["choices"]]) >= len(WORDS)


def test_upstream_sees_what_was_asked_and_only_that(daemon, up):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    assert ask(daemon, "ok", temperature=0.5, max_tokens=9, stop=["END"], seed=3, tools=tools)[0] == 200
    seen = up.seen[-1]
    assert seen["path"] == "/v1/chat/completions"
    assert seen["headers"]["authorization"] == "Bearer " + KEY
    body = seen["body"]
    assert body["model"] == "ok" and body["messages"] == ASK
    assert body["stream"] is True and body["stream_options"] == {"include_usage": True}
    assert (body["temperature"], body["max_tokens"], body["seed"]) == (0.5, 9, 3)
    assert body["stop"] == ["END"] and body["tools"] == tools
    assert not {"top_p", "top_k", "min_p", "session_id"} & body.keys()


def test_a_message_with_parts_goes_on_as_it_came(daemon, up):
    messages = [{"role": "user", "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]
    status, _, r = ask(daemon, "ok", messages=messages)
    assert status == 200, r
    assert up.seen[-1]["body"]["messages"] == messages


def test_connections_are_kept(daemon, up):
    for _ in range(5):
        assert ask(daemon, "ok")[0] == 200
    assert len({s["port"] for s in up.seen}) <= 2  # the list of models is asked for beside them


@pytest.mark.parametrize("mode", ["comments", "crlf", "no-done", "no-finish", "json", "reasoning", "hangs-after-done"])
def test_odd_but_good_streams_are_understood(daemon, mode):
    start = time.monotonic()
    chunks = events(daemon, mode)
    assert text_of(chunks) == TEXT
    assert error_of(chunks) is None
    assert chunks[-1] == "[DONE]"
    assert time.monotonic() - start < 1.5


@pytest.mark.parametrize("tcp", [False, True])
def test_chunks_of_all_sizes_arrive_whole(daemon, tcp):
    assert text_of(daemon.stream({"model": "fake/sizes", "messages": ASK}, tcp=tcp)) == "".join(SIZED)


@pytest.mark.parametrize("mode, text", [("utf8", "Grüße 🔥 日本"), ("utf8-deltas", "a🔥z")])
def test_characters_split_on_the_way_are_whole_again(daemon, mode, text):
    assert text_of(events(daemon, mode)) == text


def test_reasoning_is_told_apart_from_text(daemon):
    chunks = events(daemon, "reasoning")
    thought = "".join(c["choices"][0]["delta"].get("reasoning_content") or "" for c in chunks[:-1] if c["choices"])
    assert thought == "hmm yes"


def test_tool_calls_go_through(daemon):
    status, _, r = ask(daemon, "tools")
    assert status == 200 and r["choices"][0]["finish_reason"] == "tool_calls"
    call = r["choices"][0]["message"]["tool_calls"][0]
    assert call["id"] == "c1" and call["function"] == {"name": "weather", "arguments": '{"city":1}'}


@pytest.mark.parametrize("mode, status, code, text", [
    ("400", 400, "invalid", "temperature is odd"),
    ("context", 400, "context_length_exceeded", "context"),
    ("401", 502, "upstream_auth", "$FAKE_KEY"),
    ("403", 502, "upstream_auth", "$FAKE_KEY"),
    ("402", 402, "payment_required", "credit"),
    ("404", 404, "model_not_found", "does not have"),
    ("429", 429, "busy", "after 7 s"),
    ("500", 503, "unavailable", "Oops"),
    ("503", 503, "unavailable", "overloaded"),
    ("502-html", 503, "unavailable", "502"),
    ("html", 502, "upstream", "web page"),
    ("redirect", 502, "upstream", "redirects"),
    ("empty", 502, "upstream", "empty"),
    ("json-garbage", 502, "upstream", "neither"),
    ("json-error", 503, "unavailable", "late Oops"),
    ("error-first", 429, "busy", "Upstream is busy"),
    ("binary", 502, "upstream", "truncated"),
    ("refuses", 502, "upstream_unreachable", "connection was lost"),
    ("long-line", 502, "upstream", "a line over"),
    ("silent", 504, "timeout", "no answer"),
    ("only-comments", 504, "timeout", "no answer"),
])
def test_each_failure_has_its_status_and_says_what_happened(daemon, mode, status, code, text):
    got, _, r = ask(daemon, mode)
    assert got == status, r
    assert r["error"]["code"] == code
    assert text in r["error"]["message"]
    assert KEY not in json.dumps(r)


@pytest.mark.parametrize("mode, text", [
    ("truncated", "truncated"), ("gone", "connection was lost"), ("mid-error", "Provider died"),
    ("garbage", "no JSON"), ("stalls", "silent"),
])
def test_a_stream_that_breaks_ends_with_an_error_and_never_with_success(daemon, mode, text):
    chunks = events(daemon, mode)
    assert error_of(chunks) and text in error_of(chunks)["message"]
    assert TEXT.startswith(text_of(chunks)) and text_of(chunks)
    assert not any(c["choices"][0].get("finish_reason") in ("stop", "length") for c in chunks
                   if isinstance(c, dict) and c.get("choices"))
    assert daemon.request("GET", "/healthz")[0] == 200


def test_a_client_that_leaves_ends_the_call_upstream(daemon, up):
    stream = daemon.stream({"model": "fake/slow", "messages": ASK})
    for _ in range(3):
        next(stream)
    stream.close()  # the generator's frame holds the connection
    daemon.last_response.close()
    assert up.wait_gone()
    assert ask(daemon, "ok")[0] == 200


def test_a_client_that_leaves_before_the_first_byte_ends_the_call_too(daemon, up):
    c = daemon.connection()
    c.request("POST", "/v1/chat/completions", json.dumps({"model": "fake/silent", "messages": ASK}))
    while not up.seen:
        time.sleep(0.01)
    c.close()
    assert up.wait_gone(1.5)  # before first_byte_timeout would


def test_a_slow_reader_gets_all_and_the_daemon_stays_small(daemon):
    c = daemon.connection()
    c.request("POST", "/v1/chat/completions",
              json.dumps({"model": "fake/big", "messages": ASK, "stream": True}))
    r = c.getresponse()
    time.sleep(1)
    with open(f"/proc/{daemon.process.pid}/status") as f:
        kib = int(f.read().split("VmRSS:")[1].split()[0])
    data = r.read()
    assert data.count(b"x") >= 4096 * 1024
    if "asan" not in HOB:
        assert kib < 24 * 1024


def test_many_at_once(daemon):
    results = []

    def one():
        results.append(ask(daemon, "ok")[2]["choices"][0]["message"]["content"])

    threads = [threading.Thread(target=one) for _ in range(24)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [TEXT] * 24


def test_a_missing_key_says_what_to_set(make_daemon, up):
    env = {"FAKE_KEY": ""}
    d = make_daemon(config(up.url), env, model=False)
    status, _, r = ask(d, "ok")
    assert status == 401 and "FAKE_KEY" in r["error"]["message"]
    assert up.seen == []


def test_a_key_file_that_others_can_read_is_refused(make_daemon, up, tmp_path):
    key = tmp_path / "key"
    key.write_text(KEY + "\n")
    key.chmod(0o644)
    d = make_daemon(config(up.url, f'key_file = "{key}"'), model=False)
    status, _, r = ask(d, "ok")
    assert status == 401 and "chmod 600" in r["error"]["message"] and KEY not in json.dumps(r)
    key.chmod(0o600)
    assert ask(d, "ok")[0] == 200
    assert up.seen[-1]["headers"]["authorization"] == "Bearer " + KEY


def test_a_key_is_in_no_log_and_no_command_line(make_daemon, up, tmp_path):
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    d = make_daemon(config(up.url, f'key_file = "{key}"'), model=False)
    for mode in ("ok", "401", "403", "500", "gone"):
        ask(d, mode)
    argv = open(f"/proc/{d.process.pid}/cmdline").read()
    assert KEY not in d.log.read_text() and KEY not in argv


def test_an_upstream_that_is_away_is_named(make_daemon):
    d = make_daemon(config("http://127.0.0.1:1/v1", ""), model=False)
    status, _, r = ask(d, "ok")
    assert status == 502
    assert "fake" in r["error"]["message"] and "127.0.0.1" in r["error"]["message"]


def test_a_private_prompt_does_not_go_to_a_gateway_on_this_machine(daemon):
    """Loopback alone is not enough: what listens there may be a gateway."""
    status, _, r = ask(daemon, "ok", {"X-Hob-Private": "1"})
    assert status == 403, r


def test_the_proxy_variable_does_not_capture_loopback(make_daemon, up):
    d = make_daemon(config(up.url), {"FAKE_KEY": KEY, "http_proxy": "http://127.0.0.1:1"}, model=False)
    assert ask(d, "ok")[0] == 200


def test_remote_hosts_go_through_the_proxy(make_daemon, up):
    proxy = up.url.rsplit("/", 1)[0]
    d = make_daemon(config("http://models.invalid/v1", ""), {"http_proxy": proxy, "no_proxy": ""}, model=False)
    assert ask(d, "ok")[0] == 200
    assert up.seen[-1]["path"] == "http://models.invalid/v1/chat/completions"


def test_the_daemon_stops_while_calls_run(daemon, up):
    codes = []

    def one():
        try:
            codes.append(ask(daemon, "silent")[0])
        except OSError:
            codes.append(0)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for t in threads:
        t.start()
    while len(up.seen) < 3:
        time.sleep(0.01)
    daemon.stop()
    for t in threads:
        t.join(20)
    assert len(codes) == 3


def test_models_of_providers_and_routes_are_listed(make_daemon, up, wait_until):
    d = make_daemon(config(up.url) + 'model "fake/declared" { ctx = 4000 price_input = 2.5 price_output = 10.0 }\n'
                    'model "fake/ok" { price_input = 1.0 price_output = 3.0 images = true }\n'
                    'route "smart" { candidates = {"fake/ok"} }\n', {"FAKE_KEY": KEY}, model=False)

    def listed():
        return {m["id"]: m for m in d.request("GET", "/v1/models")[2]["data"]}

    wait_until(lambda: "fake/ok" in listed(), what="the provider's list")
    models = listed()
    assert models["smart"]["owned_by"] == "route" and models["smart"]["hob"]["candidates"] == ["fake/ok"]
    assert models["fake/ok"]["owned_by"] == "remote"
    assert models["fake/ok"]["hob"]["price_output"] == 3 and models["fake/ok"]["hob"]["images"] is True
    assert models["fake/declared"]["hob"]["ctx"] == 4000 and models["fake/declared"]["hob"]["price_input"] == 2.5
    assert d.request("GET", "/v1/models/fake/declared")[2]["id"] == "fake/declared"
    assert d.request("GET", "/v1/models/fake/none")[0] == 404
    r = d.run("ls", "declared")
    assert "2.5 in, 10 out" in r.stdout and "fake/ok" not in r.stdout
    assert "and 2 remote ones" in d.run("ls").stdout


def test_a_reload_changes_providers_under_a_running_answer(make_daemon, up, wait_until):
    d = make_daemon(config(up.url), {"FAKE_KEY": KEY}, model=False)
    c = d.connection()
    c.request("POST", "/v1/chat/completions", json.dumps({"model": "fake/slow", "messages": ASK, "stream": True}))
    r = c.getresponse()
    assert r.readline().startswith(b"data: ")
    d.write_config(config(up.url).replace('"fake"', '"other"'))
    d.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "reload: done" in d.log.read_text(), what="the reload")
    assert "provider 'fake' has left" in d.log.read_text()
    assert d.ask("other/ok")[0] == 200
    assert d.ask("fake/ok")[0] == 404
    lines = [r.readline() for _ in range(80)]  # 2 s: the provider is not closed under it
    assert sum(b"tick" in line for line in lines) >= 30
    r.close()
    c.close()
    wait_until(lambda: any(s["gone"] for s in up.seen), what="the end of the answer")
    assert d.ask("other/ok")[0] == 200
