"""The commands of a person at a terminal or in a script, with the real binary and the real model."""

import json
import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest
from conftest import HOB, MODEL_NAME

QUESTION = "What is the capital of France? Answer in one sentence."


@pytest.fixture
def home(make_daemon):
    """A world without a running daemon; one that a command starts ends with the test."""
    d = make_daemon(start=False)
    yield d
    subprocess.run([HOB, "stop"], env=d.env, capture_output=True, timeout=60)


class Terminal:
    """A command on a pseudo-terminal of `columns`; what it shows is kept in `seen`."""

    def __init__(self, d, *args, columns=80, **env):
        master, slave = pty.openpty()
        self.fd, self.seen = master, ""
        import fcntl, struct, termios  # noqa: E401

        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.slave = slave
        self.found = termios.tcgetattr(slave)

        def take_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen([HOB, *args], env={**d.env, "TERM": "xterm", **env}, stdin=slave,
                                        stdout=slave, stderr=slave, preexec_fn=take_terminal)

    def send(self, text):
        os.write(self.fd, text.encode())

    def expect(self, pattern, seconds=60):
        """Waits for it in what came since the last expect(), progress lines aside; returns the match."""
        deadline = time.monotonic() + seconds
        while True:
            self.seen = re.sub(r"(\r\x1b\[K(queued|loading|prefill)( \d+ %)?)+\r\x1b\[K", "", self.seen)
            found = re.search(pattern, self.seen)
            if found:
                self.seen = self.seen[found.end():]
                return found
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self.seen!r}"
            if select.select([self.fd], [], [], left)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
                except OSError as e:
                    raise AssertionError(f"ended without {pattern!r}: {self.seen!r}") from e

    def end(self):
        return self.process.wait(30)

    def is_as_found(self):
        import termios

        return termios.tcgetattr(self.slave)[:4] == self.found[:4]


def test_run_starts_the_daemon_and_answers(home):
    r = home.run("run", MODEL_NAME, QUESTION, "--temperature", "0", "--max-tokens", "40", "--stats", stdin=subprocess.DEVNULL)
    assert r.returncode == 0, r.stderr
    assert "Paris" in r.stdout
    assert r.stdout.endswith("\n")
    assert re.search(r"^\d+ tokens, \d+\.\d tokens/s$", r.stderr, re.M)
    assert stat.S_IMODE(os.stat(home.home / "state/hob/serve.log").st_mode) == 0o600
    assert home.run("ps").returncode == 0
    assert home.run("stop").returncode == 0
    assert home.run("ps").returncode == 4


def daemons_of(home):
    """Process ids of every `hob serve` in this world."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
            environment = open(f"/proc/{pid}/environ", "rb").read()
        except OSError:
            continue
        if b"serve" in command[1:2] and str(home.home).encode() in environment:
            found.append(pid)
    return found


def test_two_commands_at_once_start_one_daemon(home, wait_until):
    runs = [subprocess.Popen([HOB, "ls"], env=home.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for r in runs:
        out, err = r.communicate(timeout=60)
        assert r.returncode == 0, err
        assert MODEL_NAME in out
    wait_until(lambda: len(daemons_of(home)) == 1, what="one daemon stays")


def test_no_start_does_not_start(home):
    for args in (["run", "--no-start", "hi"], ["ls", "--no-start"], ["ps"], ["stop"], ["chat", "--no-start"]):
        r = home.run(*args, stdin=subprocess.DEVNULL)
        assert r.returncode == 4, (args, r)
        assert "not running" in r.stderr
    assert not os.path.exists(home.socket)


def test_a_daemon_that_cannot_start_is_quoted(home):
    home.config.write_text("server {\n  prot = 1\n}\n")
    start = time.monotonic()
    r = home.run("run", "hi", stdin=subprocess.DEVNULL)
    assert r.returncode == 4
    assert "prot" in r.stderr and "port" in r.stderr
    assert time.monotonic() - start < 9


def test_a_taken_port_is_quoted(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        home.config.write_text(f"server {{ port = {port} }}\n")
        r = home.run("run", "hi", stdin=subprocess.DEVNULL)
    assert r.returncode == 4
    assert str(port) in r.stderr


def test_a_command_started_without_standard_input_does_not_wait_for_any(make_daemon, up):
    d = make_daemon('provider "fake" { kind = "openai" url = "%s" }\n' % up.url, model=False)
    r = subprocess.run(["sh", "-c", '"$0" run -m fake/ok hi <&-', HOB], env=d.env, text=True,
                       capture_output=True, timeout=60)
    assert r.returncode == 0, r.stderr
    assert r.stdout == "The capital of France is Paris.\n"


def test_an_unknown_model_is_status_3(daemon):
    r = daemon.run("run", "no-such-model", "hi", stdin=subprocess.DEVNULL)
    assert r.returncode == 3
    assert "no-such-model" in r.stderr
    assert r.stdout == ""


def test_json_is_one_object(daemon):
    r = daemon.run("run", MODEL_NAME, QUESTION, "--json", "-t", "0", "-n", "30", stdin=subprocess.DEVNULL)
    o = json.loads(r.stdout)
    assert "Paris" in o["text"]
    assert o["finish_reason"] in ("stop", "length")
    assert o["usage"]["completion_tokens"] > 0
    assert o["model"] and o["provider"]


def test_standard_input_goes_after_the_prompt(daemon):
    one = daemon.run("run", MODEL_NAME, "--json", "-t", "0", "-n", "1", "Count:", input="a\nb\n")
    assert one.returncode == 0, one.stderr
    alone = daemon.run("run", MODEL_NAME, "--json", "-t", "0", "-n", "1", input="Count:\n\na\nb\n")
    assert alone.returncode == 0, alone.stderr
    tokens = lambda r: json.loads(r.stdout)["usage"]["prompt_tokens"]  # noqa: E731
    assert tokens(one) == tokens(alone)


def test_one_word_is_the_prompt_of_the_default_model(daemon):
    r = daemon.run("run", "--json", "-n", "1", "hello", stdin=subprocess.DEVNULL)
    assert r.returncode == 0, r.stderr


@pytest.mark.parametrize("args", [["run"], ["run", "--temprature", "1", "hi"], ["run", "-n", "x", "hi"], ["ls", "x", "y"], ["chat", "a", "b"]])
def test_wrong_usage_is_status_2(daemon, args):
    r = daemon.run(*args, stdin=subprocess.DEVNULL)
    assert r.returncode == 2
    assert "usage: hob" in r.stderr
    assert r.stdout == ""


@pytest.mark.parametrize("command", ["run", "chat", "ls", "ps", "history", "stop", "pull", "serve"])
def test_every_command_has_help(daemon, command):
    r = daemon.run(command, "--help", stdin=subprocess.DEVNULL)
    assert r.returncode == 0
    assert r.stdout.lower().startswith(f"usage: hob {command}")
    assert r.stderr == ""


def test_ls_and_ps_show_the_model(daemon):
    daemon.run("run", "-n", "1", "hi", stdin=subprocess.DEVNULL)
    ls, ps = daemon.run("ls"), daemon.run("ps")
    assert re.search(rf"^{MODEL_NAME} +98\.4 MB +ready$", ls.stdout, re.M), ls.stdout
    assert MODEL_NAME in ps.stdout and "engine ready" in ps.stdout
    assert any(m["id"] == MODEL_NAME for m in json.loads(daemon.run("ls", "--json").stdout)["data"])
    assert json.loads(daemon.run("ps", "--json").stdout)["models"][0]["name"] == MODEL_NAME


def test_ctrl_c_stops_run_with_130(daemon):
    p = subprocess.Popen([HOB, "run", MODEL_NAME, "Write a poem of 100 lines.", "-t", "0"], env=daemon.env, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert os.read(p.stdout.fileno(), 1)
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=10)
    assert p.returncode == 130


def test_a_closed_pipe_ends_run(daemon):
    p = subprocess.Popen([HOB, "run", MODEL_NAME, "Write a poem of 100 lines.", "-t", "0"], env=daemon.env, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.read(p.stdout.fileno(), 1)
    p.stdout.close()
    assert p.wait(20) != 0


def test_a_full_disk_is_named(daemon):
    with open("/dev/full", "wb") as full:
        r = subprocess.run([HOB, "run", "-n", "3", "hi"], env=daemon.env, stdin=subprocess.DEVNULL, stdout=full,
                           stderr=subprocess.PIPE, text=True, timeout=60)
    assert r.returncode == 1
    assert "No space left" in r.stderr


def test_chat_reads_a_pipe(daemon):
    r = daemon.run("chat", MODEL_NAME, "-t", "0", "-n", "30", input=QUESTION + "\n/nope\n")
    assert "Paris" in r.stdout
    assert "/nope" in r.stderr
    assert "\033" not in r.stdout
    assert r.returncode == 2


def test_a_conversation_goes_on(daemon):
    first = daemon.run("chat", MODEL_NAME, "-t", "0", "-n", "8", input="My cat is called Mio.\nSay hello.\n")
    assert first.returncode == 0, first.stderr
    then = daemon.run("chat", "-c", "-t", "0", "-n", "8", input="Go on.\n/history\n")
    assert then.returncode == 0, then.stderr
    assert "user: My cat is called Mio." in then.stdout
    assert "user: Go on." in then.stdout
    listed = daemon.run("history")
    newest = json.loads(daemon.run("history", "--json").stdout)["conversations"][0]
    assert newest["id"] in listed.stdout
    assert "My cat is called Mio." in daemon.run("history", newest["id"]).stdout
    named = daemon.run("chat", "--conversation", newest["id"], "-n", "4", input="/history\n")
    assert "user: Go on." in named.stdout


def test_chat_goes_on_when_the_daemon_was_restarted(home):
    t = Terminal(home, "chat", MODEL_NAME, "-t", "0", "-n", "8")
    t.expect("> ")
    t.send("Remember the word basalt.\r")
    t.expect(r"tokens/s")
    assert home.run("stop").returncode == 0
    t.send("Go on.\r")
    t.expect(r"tokens/s")
    t.send("/history\r")
    t.expect("user:.{0,8} Remember the word basalt")
    t.send("/quit\r")
    assert t.end() == 0


def test_chat_without_memory_remembers_by_itself(make_daemon):
    d = make_daemon("memory { enabled = false }")
    r = d.run("chat", MODEL_NAME, "-t", "0", "-n", "8", input="One.\nTwo.\n/history\n")
    assert r.returncode == 0, r.stderr
    assert "user: One." in r.stdout and "user: Two." in r.stdout


@pytest.mark.parametrize("columns,term", [(80, "xterm"), (40, "xterm"), (40, "dumb")])
def test_ctrl_c_stops_the_answer_and_not_the_chat(daemon, columns, term):
    t = Terminal(daemon, "chat", MODEL_NAME, "-t", "0", "-n", "400", columns=columns, TERM=term)
    t.expect("> ")
    t.send("Write a poem of 100 lines.\r")  # greedy, it never ends by itself
    # Typed before the line editor has the terminal, the question is seen twice: that is no answer yet.
    t.expect(r"lines\.\s+(?!> |Write a )\S+ \S+ \S+")
    t.send("\x03")
    t.expect(r"\(stopped\)", 10)
    t.expect("> ")
    t.send("not sent\x03")
    t.expect("leaves")
    t.send("Say yes.\r")
    t.expect(rf"{MODEL_NAME} · ")  # the status line; at 40 columns its end is cut
    t.send("\x04")
    assert t.end() == 0
    assert t.is_as_found()


def test_a_signal_gives_the_terminal_back(daemon):
    t = Terminal(daemon, "chat", MODEL_NAME)
    t.expect("> ")
    time.sleep(0.2)
    assert not t.is_as_found()
    t.process.send_signal(signal.SIGTERM)
    assert t.end() == -signal.SIGTERM
    assert t.is_as_found()


def test_model_switches_and_names_the_nearest(daemon):
    t = Terminal(daemon, "chat")
    t.expect("> ")
    t.send("/model smolm2:135m\r")
    t.expect(rf"did you mean '{MODEL_NAME}'")
    t.send("/model\r")
    t.expect(rf"  {MODEL_NAME}")
    t.send(f"/model {MODEL_NAME}\r")
    t.expect(rf"now: {MODEL_NAME}")
    t.send("/quit\r")
    assert t.end() == 0


def test_typed_lines_are_kept_in_a_private_file(daemon):
    t = Terminal(daemon, "chat", MODEL_NAME, "-n", "2")
    t.expect("> ")
    t.send("first \\\r")
    t.send("second\r")
    t.expect("tokens")
    t.send("\x04")
    assert t.end() == 0
    path = daemon.home / "state/hob/chat_history"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert "\nfirst \\012second\n" in path.read_text().replace("\\040", " ")


REMOTE = 'provider "fake" {{ kind = "openai" url = "{}" }}\n'


@pytest.fixture
def remote(make_daemon, up):
    return make_daemon(REMOTE.format(up.url), model=False)


def test_run_composes_with_pipes_files_and_words(remote, up):
    (remote.home / "a.py").write_text("x = '```'")
    r = remote.run("run", "--file", str(remote.home / "a.py"), "fake/ok", "Review", "this.", input="diff\n")
    assert r.returncode == 0, r.stderr
    seen = up.seen[-1]
    assert seen["body"]["messages"][0]["content"] == "a.py:\n````py\nx = '```'\n````\n\nReview this.\n\ndiff\n"


def test_run_sends_an_image_and_refuses_what_is_none(remote, up):
    (remote.home / "a.gif").write_bytes(b"GIF89a" + bytes(9))
    (remote.home / "b.gif").write_bytes(b"no image\n")
    r = remote.run("run", "--image", str(remote.home / "a.gif"), "-m", "fake/ok", "What is it?", input="")
    assert r.returncode == 0, r.stderr
    assert up.seen[-1]["body"]["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/gif;base64,R0lG")
    r = remote.run("run", "--image", str(remote.home / "b.gif"), "-m", "fake/ok", "What?", input="")
    assert r.returncode == 2 and "is no PNG" in r.stderr
    assert len(up.seen) == 1


def test_an_answer_that_is_no_json_fails_a_schema(remote, up):
    schema = '{"type":"object","properties":{"a":{"type":"integer"}}}'
    r = remote.run("run", "--schema", schema, "-m", "fake/ok", "A number.", input="")
    assert r.returncode == 1
    assert "the answer is not JSON" in r.stderr and r.stdout == ""
    sent = up.seen[-1]["body"]["response_format"]
    assert sent["type"] == "json_schema" and sent["json_schema"]["strict"] is True
    assert sent["json_schema"]["schema"] == json.loads(schema)


@pytest.mark.parametrize("schema", ["{broken", "/nowhere/schema.json"])
def test_a_schema_that_cannot_be_read_is_wrong_usage(remote, up, schema):
    r = remote.run("run", "--schema", schema, "-m", "fake/ok", "A number.", input="")
    assert r.returncode == 2 and "schema" in r.stderr
    assert up.seen == []


def test_an_answer_of_a_schema_is_printed_and_parsed(remote, up):
    r = remote.run("run", "--schema", '{"type":"object"}', "-m", "fake/number", "A number.", input="")
    assert (r.returncode, r.stdout) == (0, '{"n": 7}\n'), r.stderr
    schema = remote.home / "schema.json"
    schema.write_text('{"type":"object"}')
    r = remote.run("run", "--schema", str(schema), "--json", "-m", "fake/number", "A number.", input="")
    assert r.returncode == 0, r.stderr
    assert json.loads(r.stdout)["json"] == {"n": 7}


def test_an_engine_that_cannot_keep_to_a_schema_says_so(daemon):
    """Or keeps to it, once it can: never an answer that only looks like one."""
    schema = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}'
    r = daemon.run("run", "--schema", schema, "-t", "0", "-n", "60", "-m", MODEL_NAME, "A number.", input="")
    if r.returncode:
        assert r.returncode == 1 and "json_schema" in r.stderr and r.stdout == ""
    else:
        assert isinstance(json.loads(r.stdout)["n"], int)


def test_run_private_does_not_go_to_a_remote_model(remote, up):
    r = remote.run("run", "--private", "-m", "fake/ok", "hi", input="")
    assert r.returncode != 0 and "private" in r.stderr
    assert up.seen == []


EVIL = "a\x1b]0;owned\x07b\x1b[2Jc\u009b31md\re\x7ff\u00e9"


@pytest.fixture
def evil_daemon(tmp_path_factory):
    """A daemon that answers with control characters, as a model could."""
    if not HOB:
        pytest.skip("HOB does not name the binary to test")
    import tempfile

    path = os.path.join(tempfile.mkdtemp(prefix="hob-evil-"), "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    chunks = [{"model": "m\x1b[31m", "choices": [{"index": 0, "delta": {"content": EVIL}, "finish_reason": None}]},
              {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
    body = "".join(f"data: {json.dumps(c, ensure_ascii=False)}\n\n" for c in chunks) + "data: [DONE]\n\n"
    reply = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}".encode()

    def serve():
        while True:
            try:
                c, _ = listener.accept()
            except OSError:
                return
            if c.recv(65536):
                c.sendall(reply)
            c.close()

    threading.Thread(target=serve, daemon=True).start()
    yield {**os.environ, "HOB_SOCKET": path, "HOB_CONFIG": "/dev/null"}
    listener.close()
    os.unlink(path)
    os.rmdir(os.path.dirname(path))


def test_an_answer_cannot_command_the_terminal(evil_daemon):
    r = subprocess.run([HOB, "run", "hi"], env=evil_daemon, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    assert r.returncode == 0, r.stderr
    assert r.stdout.decode() == "a]0;ownedb[2Jc31mdef\u00e9\n"
