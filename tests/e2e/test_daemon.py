"""Start, stop, reload, and what bad surroundings get: a message that says what, where and what to do."""

import os
import pathlib
import signal
import socket
import stat
import subprocess
import time

from conftest import HOB, MODEL, MODEL_NAME, PARIS, Daemon


def test_it_starts_small(make_daemon):
    d = make_daemon(model=False)
    assert d.request("GET", "/healthz")[2]["status"] == "ok"
    if "build-asan" not in HOB:  # shadow memory counts as resident
        status = pathlib.Path(f"/proc/{d.process.pid}/status").read_text()
        resident_kib = int(status.split("VmRSS:")[1].split()[0])
        assert resident_kib < 15 * 1024
    assert d.engine_pid() is None


def test_the_socket_is_private(make_daemon):
    d = make_daemon(model=False)
    assert stat.S_IMODE(os.stat(d.socket).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(d.socket)).st_mode) == 0o700


def test_a_second_instance_is_refused_and_the_first_goes_on(make_daemon):
    d = make_daemon(model=False)
    r = d.run("serve", timeout=None) if False else subprocess.run([HOB, "serve"], env=d.env, capture_output=True, text=True, timeout=20)
    assert r.returncode == 3
    assert "another" in r.stderr
    assert d.request("GET", "/healthz")[0] == 200


def test_a_stale_socket_is_replaced(make_daemon):
    d = make_daemon(model=False)
    d.kill()
    assert os.path.exists(d.socket)
    d.start()
    assert d.request("GET", "/healthz")[0] == 200


def test_a_port_in_use_is_named(make_daemon):
    d = make_daemon(model=False, start=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        r = subprocess.run([HOB, "serve", "--port", str(port)], env=d.env, capture_output=True, text=True, timeout=20)
    assert r.returncode != 0
    assert str(port) in r.stderr


def test_a_wrong_key_is_named_with_its_line(make_daemon):
    d = make_daemon(model=False, start=False)
    d.config.write_text("server {\n  prot = 1\n}\n")
    r = subprocess.run([HOB, "serve"], env=d.env, capture_output=True, text=True, timeout=20)
    assert r.returncode == 2
    assert ":2:" in r.stderr and "did you mean 'port'" in r.stderr


def test_a_public_address_needs_a_token(make_daemon):
    d = make_daemon(model=False, start=False)
    d.config.write_text('server { bind = "0.0.0.0" port = 0 }\n')
    d.config.write_text('server { bind = "0.0.0.0" port = 4629 }\n')
    r = subprocess.run([HOB, "serve"], env=d.env, capture_output=True, text=True, timeout=20)
    assert r.returncode != 0
    assert "token" in r.stderr


def test_foreign_pages_are_refused(make_daemon):
    d = make_daemon(model=False)
    assert d.request("GET", "/v1/models", tcp=True)[0] == 200
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert d.request("GET", "/v1/models", headers=headers, tcp=True)[0] == 403, headers


def test_sigterm_finishes_the_answer_that_runs(make_daemon):
    d = make_daemon()
    chat = d.stream({"model": MODEL_NAME, "messages": PARIS, "temperature": 0, "max_tokens": 40})
    first = next(chat)
    d.process.send_signal(signal.SIGTERM)
    rest = list(chat)
    assert first and rest[-1] == "[DONE]"
    assert d.process.wait(40) == 0


def test_sighup_reads_the_configuration_again(make_daemon, wait_until):
    d = make_daemon()
    d.write_config(f'model "second" {{ path = "{MODEL}" }}\n')
    d.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "second" in str(d.request("GET", "/v1/models")[2]), what="the new model")
    d.config.write_text("nonsense")
    d.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the old configuration stays" in d.log.read_text(), what="the refusal")
    assert "second" in str(d.request("GET", "/v1/models")[2])


def test_a_reload_keeps_what_the_command_line_said(make_daemon, wait_until):
    d = make_daemon(start=False)
    socket = str(d.home / "run/other.sock")
    d.start("--socket", socket, "--port", "0")
    d.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "reload: done" in d.log.read_text(), what="the reload")
    assert "at the next start" not in d.log.read_text()
    d.socket = socket
    assert d.request("GET", "/healthz")[0] == 200


def test_a_vanished_client_stops_the_computation(daemon, wait_until):
    def metric(name):
        text = daemon.request("GET", "/metrics")[2]
        return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(name + " ")))

    chat = daemon.stream({"model": MODEL_NAME, "messages": [{"role": "user", "content": "Write a very long story."}],
                          "temperature": 0, "max_tokens": 3000, "ignore_eos": True})
    next(chat), next(chat)
    assert metric("hob_running") == 1
    chat.close()
    daemon.last_response.close()
    wait_until(lambda: metric("hob_running") == 0, 5, "the job's end")
    # The slot is free: a new answer comes at once, and the engine is idle afterwards.
    assert daemon.chat("Hi", max_tokens=2)[0] == 200


def test_a_newer_request_supersedes_the_older_one_with_its_key(daemon):
    body = {"model": MODEL_NAME, "messages": PARIS, "temperature": 0, "max_tokens": 3000, "ignore_eos": True}
    key, other = {"x-hob-supersede": "editor-1"}, {"x-hob-supersede": "editor-2"}
    older, bystander = daemon.stream(body, key), daemon.stream(body, other)
    next(older), next(bystander)
    assert daemon.chat("Hi", key, max_tokens=2)[0] == 200
    last = [e for e in older if isinstance(e, dict) and "error" in e]
    assert len(last) == 1 and "superseded" in last[0]["error"]["message"]
    next(bystander)
    bystander.close()


def test_keep_alive_and_supersede_are_checked(daemon):
    for value, ok in ((5, True), ("5m", True), (-1, True), ("forever", True), ("soon", False), (True, False)):
        status, _, body = daemon.chat("Hi", max_tokens=1, keep_alive=value)
        assert (status == 200) == ok, (value, body)
        assert ok or "'keep_alive'" in body["error"]["message"]
    assert daemon.chat("Hi", {"x-hob-supersede": "k" * 200}, max_tokens=1)[0] == 400


def test_two_names_within_a_budget_for_one(make_daemon):
    """The idle model goes for the new one; both answer."""
    d = make_daemon("cache { budget = \"400MB\" ctx = 2048 slots = 2 }\nserver { port = -1 }\n")
    copy = d.models / "copy.gguf"
    copy.symlink_to(MODEL)
    for name in (MODEL_NAME, "copy", MODEL_NAME):
        status, _, body = d.request("POST", "/v1/chat/completions", {
            "model": name, "messages": PARIS, "temperature": 0, "max_tokens": 40})
        assert status == 200, body
        assert "Paris" in body["choices"][0]["message"]["content"]
    ps = d.request("GET", "/v1/hob/cache")[2]
    assert ps["used_bytes"] <= ps["budget_bytes"]


def test_a_model_larger_than_the_budget_is_refused_with_numbers(make_daemon):
    d = make_daemon('cache { budget = "10MB" }\nserver { port = -1 }\n')
    status, _, body = d.chat("Hi")
    assert status == 503
    assert "needs" in body["error"]["message"]


def test_bad_model_files_are_named_and_harm_nobody(make_daemon):
    d = make_daemon()
    whole = pathlib.Path(MODEL).read_bytes()
    (d.models / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    (d.models / "noise.gguf").write_bytes(b"GGUF" + os.urandom(5000))
    (d.models / "text.gguf").write_text("hello")
    (d.models / "empty.gguf").write_bytes(b"")
    for name in ("cut", "noise", "text", "empty"):
        status, _, body = d.request("POST", "/v1/chat/completions", {"model": name, "messages": PARIS})
        assert status >= 400, name
        assert name in body["error"]["message"], body
    assert d.chat("Hi", max_tokens=2)[0] == 200


def test_a_full_disk_costs_memory_and_not_the_answer(make_daemon):
    """A tiny file-size limit stands in for a full disk: SQLite's writes fail the same way."""
    import resource

    d = make_daemon(start=False)
    (d.home / "data/hob").mkdir(exist_ok=True)
    d.start()
    resource.prlimit(d.process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    status, _, body = d.chat("Hi", {"x-hob-conversation": "new"}, max_tokens=4)
    assert status == 200, body
    assert d.request("GET", "/healthz")[0] == 200
    d.kill()


def test_socket_activation(make_daemon):
    d = make_daemon(model=False, start=False)
    path = d.home / "run/activated.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))
        s.listen()
        script = f'exec 3<&{s.fileno()}; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" serve'
        with open(d.log, "ab") as log:
            d.process = subprocess.Popen(["bash", "-c", script, HOB], env=d.env, pass_fds=[s.fileno()], stdout=log, stderr=log)
    d.socket = str(path)
    deadline = time.monotonic() + 20
    while True:
        try:
            assert d.request("GET", "/healthz")[0] == 200
            return
        except OSError:
            assert time.monotonic() < deadline, d.log.read_text()
            time.sleep(0.05)
