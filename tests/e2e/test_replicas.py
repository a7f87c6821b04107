"""Several servers behind one provider: processes of their own, which are slow, die and come back."""

import collections
import concurrent.futures
import json
import pathlib
import subprocess
import sys
import time
import urllib.request

import pytest

FAKE = str(pathlib.Path(__file__).parent / "fake_vllm.py")


class Replica:
    def __init__(self, name, delay_s=0.0, *more):
        self.args, self.port, self.process = [name, str(delay_s), *more], 0, None
        self.start()

    def start(self):
        self.process = subprocess.Popen([sys.executable, FAKE, str(self.port), *self.args], stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as r:
            return json.loads(r.read())

    def chats(self):
        return self.get("/stats")["chats"]


@pytest.fixture
def cluster(make_daemon):
    """cluster([(name, delay, …)…]) → (daemon, replicas)."""
    replicas = []

    def make(rows, more=""):
        replicas.extend(Replica(*row) for row in rows)
        urls = ", ".join(f'"http://127.0.0.1:{r.port}/v1"' for r in replicas)
        d = make_daemon(f'provider "pool" {{ kind = "openai" urls = {{{urls}}} warm = false {more}\n'
                        "  connect_timeout = 2 first_byte_timeout = 10 idle_timeout = 10 }\n", model=False)
        return d, replicas

    yield make
    for r in replicas:
        if r.process.poll() is None:
            r.kill()


def ask(d, text, history=(), **more):
    messages = [{"role": "user", "content": text}, *history]
    status, _, r = d.request("POST", "/v1/chat/completions", {"model": "pool/m", "messages": messages, **more})
    return status, r["choices"][0]["message"]["content"] if status == 200 else r


def ask_all(d, texts, workers):
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda t: ask(d, t), texts))


def test_calls_at_the_same_time_are_spread(cluster):
    d, replicas = cluster([("a", 0.5), ("b", 0.5), ("c", 0.5)])
    answers = ask_all(d, [f"question {i}" for i in range(12)], 12)
    assert [s for s, _ in answers] == [200] * 12
    count = collections.Counter(text for _, text in answers)
    assert len(count) == 3 and max(count.values()) - min(count.values()) <= 2  # a poll may see a call that we count, too


def test_a_slow_one_gets_fewer_calls(cluster):
    d, replicas = cluster([("fast", 0.05), ("slow", 1.5)])
    answers = ask_all(d, [f"question {i}" for i in range(40)], 4)
    assert [s for s, _ in answers] == [200] * 40
    count = collections.Counter(text for _, text in answers)
    assert count["slow"] >= 1  # nothing was known of it at first
    assert count["fast"] > 4 * count["slow"]


def test_one_that_others_keep_busy_is_avoided(cluster, wait_until):
    d, (a, b) = cluster([("a",), ("b",)])
    a.get("/busy?running=3&waiting=9")
    ask(d, "first")
    wait_until(lambda: a.get("/stats")["polls"] and b.get("/stats")["polls"], what="polls")
    time.sleep(0.2)
    assert {ask(d, f"question {i}")[1] for i in range(8)} == {"b"}
    a.get("/busy?running=0&waiting=0")
    b.get("/busy?kv=0.99")  # no room for another prompt
    polls = a.get("/stats")["polls"], b.get("/stats")["polls"]
    wait_until(lambda: (ask(d, "keeps the polls going"), a.get("/stats")["polls"] > polls[0] and
                        b.get("/stats")["polls"] > polls[1])[1], what="new polls")
    time.sleep(0.2)
    assert ask(d, "another one")[1] == "a"


def test_a_conversation_stays_where_its_prefix_is(cluster):
    d, replicas = cluster([("a",), ("b",), ("c",)])
    seen = set()
    for n in range(6):
        history, homes = [], []
        for turn in range(4):
            status, text = ask(d, f"conversation {n}", history)
            assert status == 200
            homes.append(text)
            history += [{"role": "assistant", "content": text}, {"role": "user", "content": f"turn {turn}"}]
        assert len(set(homes)) == 1, homes
        seen.add(homes[0])
    assert len(seen) == 3  # and not all on one


def test_one_that_dies_in_mid_run_is_avoided_and_comes_back(cluster, wait_until):
    d, replicas = cluster([("a", 0.05), ("b", 0.05), ("c", 0.05)])
    assert {ask(d, f"warm-up {i}")[1] for i in range(9)} == {"a", "b", "c"}
    b = replicas[1]
    b.kill()
    answers = ask_all(d, [f"question {i}" for i in range(60)], 3)
    # Only calls that were there before its death was known can meet it; retries hide even those.
    assert sum(s != 200 for s, _ in answers) <= 3, answers
    assert {text for s, text in answers if s == 200} == {"a", "c"}
    b.start()  # on the same port
    assert b.chats() == []
    wait_until(lambda: any(ask(d, f"again {time.monotonic()}")[1] == "b" for _ in range(3)), what="its return")


def test_a_conversation_moves_when_its_server_dies(cluster):
    d, replicas = cluster([("a",), ("b",)])
    home = ask(d, "a long talk")[1]
    assert ask(d, "a long talk")[1] == home
    next(r for r in replicas if r.args[0] == home).kill()
    answers = [ask(d, "a long talk") for _ in range(4)]
    assert sum(s != 200 for s, _ in answers) <= 1, answers  # the one that found out
    assert {text for s, text in answers if s == 200} == {"a", "b"} - {home}


def test_without_metrics_our_own_calls_decide(cluster):
    d, replicas = cluster([("a", 0.4, "no-metrics"), ("b", 0.4, "no-metrics")])
    answers = ask_all(d, [f"question {i}" for i in range(8)], 8)
    count = collections.Counter(text for _, text in answers)
    assert sorted(count.values()) == [4, 4]


def test_when_all_are_dead_the_error_says_so_and_one_return_is_enough(cluster, wait_until):
    d, replicas = cluster([("a",), ("b",)])
    assert ask(d, "hello")[0] == 200
    for r in replicas:
        r.kill()
    status, r = ask(d, "anybody?")
    assert status in (502, 503), r
    replicas[1].start()
    wait_until(lambda: ask(d, "and now?")[1] == "b", what="its return")


def test_nothing_is_polled_before_a_call_nor_long_after(cluster, wait_until):
    d, (a, b) = cluster([("a",), ("b",)])
    time.sleep(2.5)
    assert a.get("/stats")["polls"] == 0
    ask(d, "hello")
    wait_until(lambda: a.get("/stats")["polls"] >= 3, what="polls after the call")
    time.sleep(12)
    polls = a.get("/stats")["polls"]
    assert polls <= 8
    time.sleep(2.5)
    assert a.get("/stats")["polls"] == polls


def test_a_stop_with_calls_and_polls_in_flight_is_clean(cluster, wait_until):
    d, (a, b) = cluster([("a", 20), ("b", 20)])
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(ask, d, f"question {i}") for i in range(4)]
        wait_until(lambda: a.get("/stats")["running"] + b.get("/stats")["running"] == 4, what="calls")
        for r in (a, b):
            r.kill()
        assert all(c.result()[0] in (502, 503) for c in calls)
    d.stop()
