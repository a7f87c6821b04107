"""Models in managed llama-server processes, through the daemon.

With llama.cpp's own server: the wheel xllamacpp behind tests/llama_server_launcher.py, and a llama-server binary
where one is on PATH.
"""

import importlib.util
import json
import os
import pathlib
import shutil
import signal
import stat
import sys
import threading

import pytest

from conftest import MODEL, MODEL_NAME

LAUNCHER = pathlib.Path(__file__).resolve().parent.parent / "llama_server_launcher.py"
SECRET = "sk-never-in-a-child-0123456789"
LONG = {
    "model": "child",
    "messages": [{"role": "user", "content": "Count from one to two hundred, in words."}],
    "temperature": 0,
    "max_tokens": 900,
    "ignore_eos": True,
}


def script(folder, text, name="llama-server"):
    path = pathlib.Path(folder) / name
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o700)
    return path


@pytest.fixture(params=["xllamacpp", "llama-server"])
def program(request, tmp_path):
    """Path of a server that takes llama-server's flags."""
    if request.param == "llama-server":
        found = shutil.which("llama-server")
        if not found:
            pytest.skip("no llama-server on PATH")
        return found
    if not importlib.util.find_spec("xllamacpp"):
        pytest.skip("the wheel xllamacpp is not installed")
    return script(tmp_path, f"exec {sys.executable} {LAUNCHER} \"$@\"\n")


def config(program, cache="", model="", path=None):
    return (f'cache {{ llama_server = "{program}" ctx = 1024 slots = 2 {cache} }}\n'
            f'model "child" {{ path = "{path or MODEL}" backend = "llama-server" {model} }}\n')


@pytest.fixture
def daemon(make_daemon, program):
    return make_daemon(config(program), {"OPENROUTER_API_KEY": SECRET, "FAKE_KEY": SECRET})


def ask(d, content="What is the capital of France?", **more):
    body = {"model": "child", "messages": [{"role": "user", "content": content}], "temperature": 0, **more}
    return d.request("POST", "/v1/chat/completions", body)


def descendants(pid):
    """Numbers of all processes below."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child)] + descendants(int(child))
    return found


def children(d):
    """Processes below the daemon that are not its engine."""
    found = []
    for pid in descendants(d.process.pid):
        try:
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] and b"engine" not in words:
            found.append(pid)
    return found


def alive(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def row(d, name="child"):
    return next((m for m in d.request("GET", "/v1/hob/cache")[2]["models"] if m["name"] == name), {})


def start_answer(d):
    events = d.stream(LONG)
    for event in events:
        if event["choices"] and event["choices"][0]["delta"].get("content"):
            return events
    raise AssertionError("no text came")


def test_a_chat_is_answered_whole_and_streamed_alike(daemon):
    status, headers, r = ask(daemon, max_tokens=16)
    assert status == 200, r
    text = r["choices"][0]["message"]["content"]
    assert text and headers["x-hob-provider"] == "llama-server"
    assert r["choices"][0]["finish_reason"] == "length"
    assert r["usage"]["completion_tokens"] == 16 and r["usage"]["prompt_tokens"] > 10
    assert r["usage"]["cost"] == 0
    assert r["hob"]["prefill_ms"] > 0 and r["hob"]["decode_ms"] > 0
    body = {"model": "child", "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "temperature": 0, "max_tokens": 16, "stream_options": {"include_usage": True}}
    chunks = list(daemon.stream(body))
    assert chunks[-1] == "[DONE]"
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks[:-1] if c["choices"]) == text
    assert chunks[-2]["usage"]["completion_tokens"] == 16
    assert chunks[-2]["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    # what the process holds was measured: the file and a cache at least
    assert row(daemon)["bytes"] > os.path.getsize(MODEL) / 2
    assert row(daemon)["ctx"] == 1024


def test_a_raw_prompt_is_completed(daemon):
    body = {"model": "child", "prompt": "Once upon a", "temperature": 0, "max_tokens": 8}
    status, _, r = daemon.request("POST", "/v1/completions", body)
    assert status == 200, r
    assert r["choices"][0]["text"].startswith(" time")


def test_a_prompt_over_the_context_is_refused_as_such(daemon):
    status, _, r = ask(daemon, "word " * 3000, max_tokens=4)
    assert status == 400, r
    assert r["error"]["code"] == "context_length_exceeded"
    assert ask(daemon, max_tokens=2)[0] == 200


def test_keys_stay_out_of_environment_and_command_and_the_folder_is_private(daemon):
    assert ask(daemon, max_tokens=2)[0] == 200
    pid = children(daemon)[0]
    environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    assert b"PATH=" in environment
    assert SECRET.encode() not in environment and b"OPENROUTER" not in environment
    words = pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    assert "--api-key" not in words and "--api-key-file" in words
    folder = daemon.home / "run/hob/children"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # the key file is gone since the process has read it, and without the key nobody is served
    assert [p.suffix for p in folder.iterdir()] == [".sock"]
    plain = daemon.connection()
    plain.path = str(next(folder.iterdir()))
    plain.request("POST", "/v1/chat/completions", json.dumps(LONG), {"Content-Type": "application/json"})
    assert plain.getresponse().status == 401
    plain.close()


def test_arguments_of_the_model_are_passed_on(make_daemon, program):
    d = make_daemon(config(program, model='args = {"--temp", "0.25"}'))
    assert ask(d, max_tokens=2)[0] == 200
    words = pathlib.Path(f"/proc/{children(d)[0]}/cmdline").read_text().split("\0")
    assert words[words.index("--temp") + 1] == "0.25"
    assert words[words.index("-c") + 1] == "2048" and words[words.index("-np") + 1] == "2"


def test_a_client_that_leaves_ends_the_work(make_daemon, program, wait_until):
    d = make_daemon(config(program), start=False)
    d.start("-v")
    c = d.connection()
    c.request("POST", "/v1/chat/completions", json.dumps({**LONG, "stream": True}))
    response = c.getresponse()
    while b"content" not in response.readline():
        pass
    response.close()
    c.close()
    wait_until(lambda: "cancel task" in d.log.read_text(), 60, "llama-server hears of it")
    assert ask(d, max_tokens=2)[0] == 200


def test_a_killed_child_is_an_error_event_and_the_next_request_works(daemon):
    events = start_answer(daemon)
    pid = children(daemon)[0]
    os.kill(pid, signal.SIGKILL)
    errors = [e["error"] for e in events if isinstance(e, dict) and "error" in e]
    assert len(errors) == 1 and "'child' died (signal 9)" in errors[0]["message"], errors
    status, _, r = ask(daemon, max_tokens=4)
    assert status == 200, r
    assert children(daemon)[0] != pid


def test_a_child_killed_while_idle_is_started_again(daemon, wait_until):
    assert ask(daemon, max_tokens=2)[0] == 200
    os.kill(children(daemon)[0], signal.SIGKILL)
    wait_until(lambda: not row(daemon), what="it is not listed any more")
    assert ask(daemon, max_tokens=2)[0] == 200


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_child_outlives_the_daemon(make_daemon, program, wait_until, number):
    d = make_daemon(config(program))
    assert ask(d, max_tokens=2)[0] == 200
    pids = children(d)
    assert pids
    d.kill(number)
    wait_until(lambda: not any(map(alive, pids)), what="the children are gone")
    left = list((d.home / "run/hob/children").iterdir())
    assert not left or number == signal.SIGKILL
    d.start()  # and what was left behind goes when the next one is started
    assert ask(d, max_tokens=2)[0] == 200
    assert len(list((d.home / "run/hob/children").iterdir())) == 1


def test_a_child_that_listens_to_nobody_dies_with_a_killed_daemon(make_daemon, tmp_path, wait_until):
    deaf = script(tmp_path, "trap '' TERM\nexec sleep 1000\n")
    d = make_daemon(config(deaf))
    threading.Thread(target=lambda: pytest.raises(OSError, ask, d), daemon=True).start()
    pid = wait_until(lambda: next(iter(children(d)), None), what="it was started")
    wait_until(lambda: b"sleep" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes(), what="it is what it is to be")
    assert os.getpgid(pid) == pid and os.getsid(pid) == pid
    assert "NoNewPrivs:\t1" in pathlib.Path(f"/proc/{pid}/status").read_text()
    inherited = [os.readlink(f) for f in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
    assert sorted(f.split(":")[0] for f in inherited if not f.endswith("llama-server")) == ["pipe", "socket", "socket"]
    d.kill(signal.SIGKILL)
    wait_until(lambda: not alive(pid), what="it is gone")


def test_the_hidden_command_serves_its_parent_alone(make_daemon):
    d = make_daemon(model=False, start=False)
    assert d.run("--child").returncode == 2
    assert d.run("--child", "x", "--", "true").returncode == 2
    assert d.run("--child", "1", "--", "true").returncode == 1  # that is not its parent
    us = str(os.getpid())
    assert d.run("--child", us, "--", "sh", "-c", "exit 5").returncode == 5
    missing = d.run("--child", us, "--", "/no/such/program")
    assert missing.returncode == 127 and "/no/such/program" in missing.stderr


def test_child_and_native_model_take_turns_under_one_budget(make_daemon, program):
    d = make_daemon(config(program))
    assert ask(d, max_tokens=2)[0] == 200 and d.chat("Say hello.", max_tokens=2)[0] == 200
    sizes = [row(d)["bytes"], row(d, MODEL_NAME)["bytes"]]
    guess = os.path.getsize(MODEL) + 2 * 1024 * 2 * int(os.path.getsize(MODEL) ** 0.5) + (64 << 20)
    budget = int(max(*sizes, guess) * 1.1)
    assert sum(sizes) > budget, sizes  # room for each, not for both
    d.stop()
    d.write_config(config(program, f'budget = "{budget}"'))
    d.start()
    for _ in range(2):
        status, _, r = ask(d, max_tokens=4)
        assert status == 200, r
        assert row(d)["state"] == "ready" and len(children(d)) == 1
        status, _, r = d.chat("Say hello.", max_tokens=4)
        assert status == 200, r
        assert row(d, MODEL_NAME)["state"] == "ready"
        assert not children(d) and row(d).get("state") != "ready"


def test_what_the_engine_does_not_speak_goes_to_a_child(make_daemon, program, tmp_path):
    """A file of an unknown architecture; the program is given the real one instead."""
    data = bytearray(pathlib.Path(MODEL).read_bytes())
    at = data.index(b"general.architecture") + len(b"general.architecture") + 4 + 8
    assert data[at:at + 5] == b"llama"
    data[at:at + 5] = b"lamax"
    other = tmp_path / "other.gguf"
    other.write_bytes(data)
    same = tmp_path / "same.gguf"
    same.symlink_to(other)
    wrapper = script(tmp_path, f'[ "$1" = -m ] || exit 9\nshift 2\nexec {program} -m {MODEL} "$@"\n', "wrapper")
    d = make_daemon(f'cache {{ llama_server = "{wrapper}" ctx = 1024 slots = 1 }}\n'
                    f'model "auto" {{ path = "{other}" }}\n'
                    f'model "ours" {{ path = "{same}" backend = "engine" }}\n')
    status, headers, r = ask(d, model="auto", max_tokens=4)
    assert status == 200, r
    assert headers["x-hob-provider"] == "llama-server"
    status, _, r = ask(d, model="ours", max_tokens=4)
    assert status >= 400 and "lamax" in r["error"]["message"], r


def test_a_missing_program_is_named(make_daemon):
    d = make_daemon(config("no-such-llama-server"))
    status, _, r = ask(d)
    assert status >= 400 and "no-such-llama-server" in r["error"]["message"], r


def test_after_three_crashes_the_error_says_when_it_is_tried_again(make_daemon, tmp_path, wait_until):
    d = make_daemon(config(script(tmp_path, "echo 'E no such tensor' >&2\nexit 1\n")))

    def refused():
        status, _, r = ask(d)
        assert status == 503, r
        message = r["error"]["message"]
        return message if "3 times in a row" in message else None

    message = wait_until(refused, 60, "the breaker")
    assert "no such tensor" in message and "tried again in " in message
    log = d.log.read_text()
    assert log.count("loading, pid") == 3  # and no fourth process
    assert "error: llama-server 'child': no such tensor" in log
