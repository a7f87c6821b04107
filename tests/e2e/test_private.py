"""Private prompts and a local-only daemon open no socket beyond loopback: the kernel's calls are read.

The daemon runs in a network namespace of its own with a route to everywhere, so that a call outward
would begin, under strace, which writes down each call on sockets.  What counts as leaving:
an address that is not loopback, and any look-up of a name, also by a resolver on loopback.
Each watch has its counterpart that must see something, or the tests above it would mean nothing.
"""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from chaos_upstream import ChaosUpstream
from conftest import HOB, MODEL, MODEL_NAME, PARIS, Daemon
from strict_client import ask, terminal

FAR_NAME, FAR_ADDRESS = "models.far-away.invalid", "198.51.100.7"  # RFC 2606 and RFC 5737
FAR_V6 = "2001:db8::7"

# A world with only loopback, over which there is a way to everywhere that leads nowhere; then the command.
WORLD = """
ip link set lo up
ip addr add 192.0.2.2/32 dev lo
ip route add default dev lo src 192.0.2.2
ip -6 addr add 2001:db8::2/128 dev lo || true
ip -6 route add default dev lo || true
exec "$@"
"""

CONFIG = f"""
provider "name" {{ kind = "openai" url = "https://{FAR_NAME}/v1" key_env = "FAR_KEY" connect_timeout = 1 }}
provider "address" {{ kind = "openai" url = "http://{FAR_ADDRESS}:4000/v1" key_env = "FAR_KEY" connect_timeout = 1 }}
provider "v6" {{ kind = "openai" url = "http://[{FAR_V6}]:4000/v1" key_env = "FAR_KEY" connect_timeout = 1 }}
"""
REMOTES = ["name/any", "address/any", "v6/any", "openrouter/vendor/any"]
ROUTES = """
route "mixed" { candidates = {"name/any", "address/any", "smollm2:135m"} }
route "far" { candidates = {"name/any", "v6/any"} }
model "smollm2:135m" { fallback = {"name/any", "address/any"} }
"""


def parts_missing():
    for program in ("strace", "unshare", "ip"):
        if not shutil.which(program):
            return program + " is not installed"
    if subprocess.run(UNSHARE + ["true"], capture_output=True).returncode:
        return "no network namespace may be made here"
    probe = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True)
    return "strace may not trace here" if probe.returncode else None


UNSHARE = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]


class WatchedDaemon(Daemon):
    """`hob serve` in that world.  Its Unix socket is reached from outside, its port is not."""

    def start(self, *args):
        self.trace = self.home / "trace"
        wrapper = self.home / "watched"
        command = UNSHARE + ["sh", "-ec", WORLD, "sh", "strace", "-f", "-qq", "-s", "128", "-e", "trace=network",
                             "-o", str(self.trace), HOB]
        quoted = " ".join("'%s'" % c.replace("'", "'\\''") for c in command)
        wrapper.write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
        wrapper.chmod(0o755)
        # LeakSanitizer cannot work under a tracer; the other tests look for leaks.
        self.env["ASAN_OPTIONS"] = self.env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([wrapper, "serve", *args], env=self.env, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end and b"serving on" not in self.log.read_bytes():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.02)
        return self

    def stop(self):
        """The signal is for hob; strace ends with it, and with its status."""
        if self.process and self.process.poll() is None:
            hob = children_of(self.process.pid)
            for pid in hob:
                os.kill(pid, signal.SIGTERM)
            try:
                assert self.process.wait(40) == 0, self.log.read_text()[-3000:]
            except subprocess.TimeoutExpired:
                for pid in hob:  # it would outlive its tracer
                    os.kill(pid, signal.SIGKILL)
                raise

    def left(self):
        """Each call that left loopback, as strace wrote it."""
        return [line for line in self.trace.read_text(errors="replace").splitlines() if leaves(line)]


def children_of(pid):
    """hob itself: strace's child."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as f:
            found += [int(p) for p in f.read().split()]
    return found


CALL = re.compile(r"\b(connect|sendto|sendmsg|sendmmsg)\(")
INET = re.compile(r"sin_port=htons\((\d+)\), sin_addr=inet_addr\(\"([^\"]+)\"\)")
INET6 = re.compile(r"sin6_port=htons\((\d+)\),.*?inet_pton\(AF_INET6, \"([^\"]+)\"")


def leaves(line):
    if not CALL.search(line):
        return False
    for port, address in INET.findall(line) + INET6.findall(line):
        loopback = address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1")
        if not loopback or port == "53":
            return True
    # Resolvers that are asked over a Unix socket.
    return any(s in line for s in ("systemd/resolve", "nscd/socket", "avahi-daemon/socket"))


def test_a_line_of_a_trace_is_judged_right():
    for line in ('1 connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("8.8.8.8")}, 16) = 0',
                 '1 connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0',
                 '1 sendto(3, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("10.0.0.1")}, 16) = 1',
                 '1 connect(3, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, '
                 '"2001:db8::7", &sin6_addr), sin6_scope_id=0}, 28) = -1 EINPROGRESS',
                 '1 connect(3, {sa_family=AF_UNIX, sun_path="/run/systemd/resolve/io.systemd.Resolve"}, 42) = 0'):
        assert leaves(line), line
    for line in ('1 connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = 0',
                 '1 connect(3, {sa_family=AF_UNIX, sun_path="/run/x.sock"}, 20) = 0', '1 socket(AF_INET, SOCK_STREAM, 0) = 3',
                 '1 bind(3, {sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr("127.0.0.1")}, 16) = 0',
                 '1 accept4(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.1")}, 16) = 4'):
        assert not leaves(line), line


@pytest.fixture
def watch():
    """watch(config, *arguments) → a daemon whose calls are written down."""
    if not HOB:
        pytest.skip("HOB does not name the binary to test")
    why = parts_missing()
    if why:
        pytest.skip(why)
    made = []

    def make(config, *args, env=None, model=False):
        if model and not (MODEL and os.path.exists(MODEL)):
            pytest.skip("HOB_TEST_MODEL does not name the model to test with")
        d = WatchedDaemon(config, {"FAR_KEY": "sk-far", "OPENROUTER_API_KEY": "sk-or-far", "no_proxy": "",
                                   "NO_PROXY": "", **(env or {})}, model)
        made.append(d)
        return d.start(*args)

    yield make
    for d in made:
        d.cleanup()


def prompt(d, model, private=True, stream=False):
    return ask(d, {"model": model, "messages": PARIS, "stream": stream, "max_tokens": 8, "temperature": 0},
               {"X-Hob-Private": "1"} if private else {}, timeout=60)


WARM_S = 1.5  # what would be made ready in the background has begun by then


@pytest.mark.parametrize("model", REMOTES[:3])
def test_the_watch_sees_a_prompt_that_may_leave(watch, model):
    """The counterpart: without it, none of the tests below could fail."""
    d = watch(cold(CONFIG))
    assert prompt(d, model, private=False).status >= 400
    left = d.left()
    assert left
    if model.startswith("address"):
        assert any(FAR_ADDRESS in line for line in left)
    if model.startswith("v6"):
        assert any(FAR_V6 in line for line in left)


def test_the_watch_sees_what_is_made_ready_at_start(watch):
    """The other counterpart: connections to providers that are not cold begin without a prompt."""
    d = watch(CONFIG)
    time.sleep(WARM_S)
    assert any(FAR_ADDRESS in line for line in d.left())


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_private_prompt_to_a_remote_model_is_refused_and_nothing_leaves(watch, stream):
    d = watch(cold(CONFIG))
    for model in REMOTES:
        reply = prompt(d, model, stream=stream)
        assert reply.status == 403, reply.body
        assert terminal(reply).code == "forbidden"
    time.sleep(WARM_S)
    assert d.left() == []


@pytest.mark.parametrize("model, runs", [("mixed", True), ("far", False), ("auto", True), (MODEL_NAME, True)])
def test_a_private_prompt_to_a_route_stays_here_or_is_refused(watch, model, runs):
    d = watch(cold(CONFIG) + ROUTES, model=True)
    reply = prompt(d, model)
    if runs:
        assert reply.status == 200 and terminal(reply).text, reply.body
        assert reply.headers["x-hob-provider"] not in ("name", "address", "v6", "openrouter")
    else:
        assert reply.status == 403, reply.body
    time.sleep(WARM_S)
    assert d.left() == []


def cold(config):
    """Providers that are not made ready at start, so that only the prompt could leave."""
    return config.replace("connect_timeout", "warm = false connect_timeout") + \
        'provider "openrouter" { preset = "openrouter" warm = false }\n'


LOCAL_ONLY = [pytest.param("server { port = -1 local_only = true }\n", (), id="configured"),
              pytest.param("", ("--local-only",), id="commanded")]


@pytest.mark.parametrize("config, args", LOCAL_ONLY)
def test_a_local_only_daemon_never_leaves(watch, config, args):
    """Providers are there and have keys: nothing is made ready, no name is looked up, no prompt goes."""
    d = watch(CONFIG + ROUTES + config, *args, model=True)
    time.sleep(WARM_S)
    assert d.left() == []
    for model in REMOTES:
        assert prompt(d, model, private=False).status == 403
    for path in ("/v1/models", "/v1/hob/providers", "/metrics"):
        d.request("GET", path)
    assert prompt(d, "mixed", private=False).status == 200
    assert prompt(d, "far", private=False).status == 403
    assert terminal(prompt(d, MODEL_NAME, private=False)).text
    time.sleep(WARM_S)
    assert d.left() == []


@pytest.mark.parametrize("config, args", LOCAL_ONLY)
def test_a_local_only_daemon_does_not_make_a_local_model_escape_by_its_fallback(watch, config, args):
    """The prompt is too long for the model, and its stand-in is remote."""
    d = watch(CONFIG + ROUTES + config, *args, model=True)
    reply = ask(d, {"model": MODEL_NAME, "messages": [{"role": "user", "content": "word " * 9000}]})
    assert terminal(reply).code == "context_length_exceeded"
    assert d.left() == []


def test_a_private_prompt_that_is_too_long_does_not_escape_by_the_fallback(watch):
    d = watch(cold(CONFIG) + ROUTES, model=True)
    reply = ask(d, {"model": MODEL_NAME, "messages": [{"role": "user", "content": "word " * 9000}]},
                {"X-Hob-Private": "1"})
    assert terminal(reply).code == "context_length_exceeded"
    time.sleep(WARM_S)
    assert d.left() == []


# ---- a proxy on loopback would carry it out, and no trace would show it


@pytest.fixture
def proxy():
    """Takes what is for far hosts; says what it saw."""
    with ChaosUpstream() as up:
        yield up


FAR = f'provider "far" {{ kind = "openai" url = "http://{FAR_NAME}/v1" connect_timeout = 1 %s }}\n'


def test_a_proxy_sees_a_prompt_that_may_leave(make_daemon, proxy):
    """The counterpart."""
    d = make_daemon(FAR % "", {"http_proxy": proxy.origin, "no_proxy": ""}, model=False)
    assert prompt(d, "far/ok", private=False).status == 200
    assert len(proxy.calls()) == 1


def test_a_private_prompt_does_not_leave_through_a_proxy_on_loopback(make_daemon, proxy):
    d = make_daemon(FAR % "", {"http_proxy": proxy.origin, "no_proxy": ""}, model=False)
    assert prompt(d, "far/ok").status == 403
    assert proxy.calls() == []


@pytest.mark.parametrize("config, args", LOCAL_ONLY)
def test_a_local_only_daemon_uses_no_proxy(make_daemon, proxy, config, args):
    d = make_daemon(FAR % "" + config, {"http_proxy": proxy.origin, "no_proxy": ""}, model=False, start=False)
    d.start(*args)
    assert prompt(d, "far/ok", private=False).status == 403
    time.sleep(WARM_S)
    assert proxy.calls() == [] and proxy.others == []


def test_a_loopback_upstream_that_is_not_called_local_gets_no_private_prompt(make_daemon, proxy):
    """It may well be a gateway to elsewhere: only `local = true` says that it is not."""
    config = (f'provider "gateway" {{ kind = "openai" url = "{proxy.url}" }}\n'
              f'provider "mine" {{ kind = "openai" url = "{proxy.url}" local = true }}\n')
    d = make_daemon(config, model=False)
    assert prompt(d, "gateway/ok").status == 403
    assert proxy.calls() == []
    assert prompt(d, "mine/ok").status == 200
    assert len(proxy.calls()) == 1
