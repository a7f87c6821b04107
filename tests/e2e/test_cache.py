"""The cache from outside: tiers, switches, pins, keep-alive, queues, commands, events, saved KV."""

import json
import os
import re
import signal
import threading
import time

import pytest

from conftest import MODEL, PARIS

MODEL2 = os.environ.get("HOB_TEST_MODEL2")
ENDLESS = {"temperature": 0, "max_tokens": 3000, "ignore_eos": True}
needs_two = pytest.mark.skipif(not (MODEL2 and os.path.exists(MODEL2)),
                               reason="HOB_TEST_MODEL2 does not name a second model")


def two_models(cache="", one="", two=""):
    return (f'model "one" {{ path = "{MODEL}" {one} }}\nmodel "two" {{ path = "{MODEL2}" {two} }}\n'
            f"cache {{ ctx = 1024 slots = 2 {cache} }}\n")


def complete(d, model, prompt="The capital of France is", headers=None, **more):
    body = {"model": model, "prompt": prompt, "temperature": 0, "max_tokens": 4, **more}
    return d.request("POST", "/v1/completions", body, headers)


def rows(d):
    return {r["name"]: r for r in d.request("GET", "/v1/hob/cache")[2]["models"]}


def bytes_of_both(make_daemon):
    """What each of the two needs, measured by a daemon with room for both."""
    d = make_daemon(two_models('budget = "8GiB"'), model=False)
    for n in ("one", "two"):
        assert complete(d, n)[0] == 200
    sizes = {n: rows(d)[n]["bytes"] for n in ("one", "two")}
    d.stop()
    return sizes


@pytest.fixture
def room_for_one(make_daemon):
    """A daemon with room for the larger one of two models, the other parked."""
    def make(cache="", **more):
        sizes = bytes_of_both(make_daemon)
        budget = int(max(sizes.values()) * 1.1)
        assert budget < sum(sizes.values())
        return make_daemon(two_models(f'budget = "{budget}" parked = "8GiB" min_stay = 0 {cache}', **more), model=False)
    return make


@needs_two
def test_models_take_turns_and_the_other_one_stays_parked(room_for_one):
    d = room_for_one()
    first = {n: complete(d, n)[2]["choices"][0]["text"] for n in ("one", "two")}
    assert rows(d)["one"]["state"] == "parked" and rows(d)["two"]["state"] == "ready"
    for n in ("one", "two", "one"):
        assert complete(d, n)[2]["choices"][0]["text"] == first[n]
        assert rows(d)[n]["source"] == "parked"
    totals = d.request("GET", "/v1/hob/cache")[2]["totals"]
    assert totals["promotions"] >= 3 and totals["loads"] == 2
    assert len(rows(d)) == 2


@needs_two
def test_why_names_the_evicted_one_and_the_reason(room_for_one):
    d = room_for_one()
    for n in ("one", "two"):
        assert complete(d, n)[0] == 200
    text = d.run("why").stdout
    assert re.search(r"park\s+one\b", text) and "least recently used" in text, text
    tree = json.loads(d.run("why", "--json", "two").stdout)["decisions"]
    assert tree and all(x["model"] == "two" for x in tree)
    ready = next(x for x in tree if x["kind"] == "ready")
    assert ready["predicted_bytes"] and ready["actual_bytes"] and ready["actual_ms"]


@needs_two
def test_a_pinned_model_stays_and_the_refusal_says_the_sizes(room_for_one):
    d = room_for_one()
    assert complete(d, "one")[0] == 200
    assert d.run("pin", "one").returncode == 0
    assert "pinned" in d.run("ps").stdout
    status, _, body = complete(d, "two")
    assert status == 503
    assert re.search(r"needs \S+ [KMG]iB, free \S+ [KMG]iB, would evict", body["error"]["message"]), body
    assert d.run("unpin", "one").returncode == 0
    assert complete(d, "two")[0] == 200


@needs_two
def test_a_busy_model_is_not_evicted(room_for_one, wait_until):
    """The other one waits until the answer has ended, and both are whole."""
    d = room_for_one()
    assert complete(d, "one")[0] == 200
    answer = {}
    t = threading.Thread(target=lambda: answer.update(r=complete(d, "one", max_tokens=600, ignore_eos=True)))
    t.start()
    wait_until(lambda: rows(d)["one"]["leases"], what="the answer's begin")
    assert complete(d, "two")[0] == 200
    t.join()
    assert answer["r"][0] == 200 and answer["r"][2]["usage"]["completion_tokens"] == 600


def test_two_names_of_one_file_are_one_model(make_daemon):
    d = make_daemon(f'model "a" {{ path = "{MODEL}" }}\nmodel "b" {{ path = "{MODEL}" }}\n'
                    f'model "c" {{ path = "{MODEL}" ctx = 2048 }}\ncache {{ ctx = 1024 slots = 1 }}\n', model=False)
    for n in ("a", "b"):
        assert complete(d, n)[0] == 200
    found = list(rows(d).values())
    assert len(found) == 1 and set(found[0]["names"]) == {"a", "b"}
    alone = d.request("GET", "/v1/hob/cache")[2]["used_bytes"]
    assert complete(d, "c")[0] == 200
    both = d.request("GET", "/v1/hob/cache")[2]["used_bytes"]
    assert both - alone < 0.8 * found[0]["measured"]["weights_bytes"]  # the weights are there once
    totals = d.request("GET", "/v1/hob/cache")[2]["totals"]
    assert complete(d, "a")[0] == 200
    assert d.request("GET", "/v1/hob/cache")[2]["totals"]["loads"] == totals["loads"]


def test_keep_alive_by_request(make_daemon, wait_until):
    d = make_daemon("cache { ctx = 1024 slots = 1 }\n")
    name = "smollm2:135m"
    assert d.chat("Hi", max_tokens=1, keep_alive=0)[0] == 200
    wait_until(lambda: rows(d)[name]["state"] == "parked", what="keep_alive 0")
    assert d.chat("Hi", max_tokens=1, keep_alive="500ms")[0] == 200
    assert rows(d)[name]["state"] == "ready"
    wait_until(lambda: rows(d)[name]["state"] == "parked", what="the end of 500 ms")
    assert d.chat("Hi", max_tokens=1, keep_alive=-1)[0] == 200
    assert rows(d)[name]["expires_ms"] is None
    assert "expire" in d.run("why").stdout


def test_load_unload_and_their_errors(make_daemon):
    d = make_daemon("cache { ctx = 1024 slots = 1 }\n")
    r = d.run("load", "smollm2:135m")
    assert r.returncode == 0 and "ready" in r.stdout, r.stderr
    row = json.loads(d.run("load", "--json", "smollm2:135m").stdout)
    assert row["state"] == "ready" and row["leases"] == 0
    r = d.run("unload", "--park", "smollm2:135m")
    assert r.returncode == 0, r.stderr
    r = d.run("unload", "smollm2:135m")
    assert r.returncode == 0, r.stderr
    r = d.run("load", "smolm2:135m")
    assert r.returncode == 3 and "did you mean 'smollm2:135m'" in r.stderr
    assert d.run("load").returncode == 2
    assert d.run("load", "--keep-alive", "soon", "x").returncode == 2
    for body in ("", "[]", "{}", '{"model":5}', '{"model":"%s"}' % ("x" * 1000), '{"model":"smollm2:135m","park":3}'):
        assert d.request("POST", "/v1/hob/cache/unload", body)[0] in (400, 404), body
    d.stop()
    assert d.run("unload", "smollm2:135m").returncode == 4
    assert d.run("why").returncode == 4


def test_preload_is_ready_before_anybody_asks(make_daemon, wait_until):
    d = make_daemon(f'model "mine" {{ path = "{MODEL}" preload = true ctx = 512 }}\n', model=False)
    wait_until(lambda: rows(d).get("mine", {}).get("state") == "ready", what="the preload")


def test_a_reload_preloads_what_it_brings(make_daemon, wait_until):
    d = make_daemon("", model=False)
    d.write_config(f'model "mine" {{ path = "{MODEL}" preload = true ctx = 512 }}\n')
    d.process.send_signal(signal.SIGHUP)
    wait_until(lambda: rows(d).get("mine", {}).get("state") == "ready", what="the preload")
    loads = d.request("GET", "/v1/hob/cache")[2]["totals"]["loads"]
    d.process.send_signal(signal.SIGHUP)
    wait_until(lambda: d.log.read_text().count("reload: done") == 2, what="the second reload")
    assert d.request("GET", "/v1/hob/cache")[2]["totals"]["loads"] == loads
    assert "at the next start" not in d.log.read_text()
    d.write_config("cache { slots = 7 }\n")
    d.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "slots, threads" in d.log.read_text(), what="the warning")


def test_chat_warms_the_model(make_daemon, wait_until):
    d = make_daemon("cache { ctx = 1024 slots = 1 }\n")
    r = d.run("chat", "smollm2:135m", input="/quit\n")
    assert r.returncode == 0, r.stderr
    wait_until(lambda: rows(d).get("smollm2:135m", {}).get("state") == "ready", what="the warm model")


def events_of(d):
    """The event stream as (type, data) pairs."""
    c = d.connection()
    c.request("GET", "/v1/hob/cache/events")
    r = c.getresponse()
    kind = None
    for line in r:
        if line.startswith(b"event: "):
            kind = line[7:].strip().decode()
        elif line.startswith(b"data: "):
            yield kind, json.loads(line[6:])


def test_events_tell_a_load_and_end_with_the_daemon(make_daemon):
    d = make_daemon("cache { ctx = 1024 slots = 1 }\n")
    events = events_of(d)
    kind, data = next(events)
    assert kind == "snapshot" and data["models"] == []
    assert d.chat("Hi", max_tokens=1)[0] == 200
    seen = []
    for kind, data in events:
        seen.append((kind, data["model"]["state"] if kind == "state" else data["kind"]))
        if seen[-1] == ("state", "ready"):
            break
    assert ("decision", "load") in seen and ("state", "loading") in seen
    d.process.send_signal(signal.SIGTERM)
    for _ in events:
        pass
    assert d.process.wait(20) == 0


def test_a_full_queue_says_when_to_come_again(make_daemon, wait_until):
    d = make_daemon("cache { ctx = 4096 slots = 1 queue = 1 }\n")
    body = {"model": "smollm2:135m", "messages": PARIS, **ENDLESS}
    running = d.stream(body)
    next(running)
    waiting = d.connection()
    waiting.request("POST", "/v1/chat/completions", json.dumps(body))
    wait_until(lambda: rows(d)["smollm2:135m"]["waiters"], what="the waiting request")
    status, headers, reply = d.chat("Hi")
    assert status == 429 and int(headers["Retry-After"]) >= 1, reply
    waiting.close()
    running.close()
    d.last_response.close()
    assert d.chat("Hi", max_tokens=2)[0] == 200


def test_a_completion_does_not_wait_for_a_batch(make_daemon, wait_until):
    """One slot, taken by a batch job: the completion is served at once, and the batch job goes on afterwards."""
    d = make_daemon("cache { ctx = 4096 slots = 1 }\n")
    alone = d.chat("Name three colours.", max_tokens=1000, ignore_eos=True)[2]["choices"][0]["message"]["content"]
    result = {}

    def batch():
        result["r"] = d.chat("Name three colours.", {"x-hob-class": "batch"}, max_tokens=1000, ignore_eos=True)

    t = threading.Thread(target=batch)
    t.start()
    wait_until(lambda: rows(d)["smollm2:135m"]["leases_by_class"]["batch"], what="the batch job")
    assert d.chat("Hi", {"x-hob-class": "completion"}, max_tokens=4)[0] == 200
    assert t.is_alive()
    t.join()
    assert result["r"][2]["choices"][0]["message"]["content"] == alone


def test_unload_during_a_load_cancels_it(make_daemon):
    """Whoever waits for it hears so at once; the next request loads it again."""
    d = make_daemon("cache { ctx = 1024 slots = 1 }\n")
    for delay in (0, 0.005, 0.02, 0.05):
        d.run("unload", "smollm2:135m")
        result = {}
        t = threading.Thread(target=lambda: result.update(r=d.chat("Hi", max_tokens=1)))
        t.start()
        time.sleep(delay)
        d.request("POST", "/v1/hob/cache/unload", {"model": "smollm2:135m"})
        t.join(30)
        assert not t.is_alive()
        assert result["r"][0] in (200, 499), result
        assert d.chat("Hi", max_tokens=1)[0] == 200


def long_turns():
    story = "The ship left the harbour at dawn and the crew sang. " * 60
    return [{"role": "user", "content": story + "How did the crew feel?"}]


def second_turn(d, answer, **more):
    messages = [*long_turns(), {"role": "assistant", "content": answer}, {"role": "user", "content": "And then?"}]
    body = {"model": "one", "messages": messages, "temperature": 0, "max_tokens": 24, **more}
    return d.request("POST", "/v1/chat/completions", body)[2]


@needs_two
def test_kv_survives_a_switch_away_and_back(room_for_one, wait_until):
    d = room_for_one()
    first = d.request("POST", "/v1/chat/completions", {
        "model": "one", "messages": long_turns(), "temperature": 0, "max_tokens": 24})[2]
    answer = first["choices"][0]["message"]["content"]
    straight = second_turn(d, answer)
    assert complete(d, "two")[0] == 200
    assert rows(d)["one"]["state"] == "parked"
    back = second_turn(d, answer)
    assert back["choices"] == straight["choices"]
    wait_until(lambda: d.request("GET", "/v1/hob/cache")[2]["engine"]["saved_kv_ram_bytes"], what="what is saved shows")
    assert "saved conversations" in d.run("ps").stdout
    assert back["usage"]["prompt_tokens_details"]["cached_tokens"] >= first["usage"]["prompt_tokens"] - 1


def test_kv_survives_a_restart_with_the_same_tokens(make_daemon):
    config = f'model "one" {{ path = "{MODEL}" }}\ncache {{ ctx = 2048 slots = 1 }}\n'
    d = make_daemon(config, model=False)
    first = d.request("POST", "/v1/chat/completions", {
        "model": "one", "messages": long_turns(), "temperature": 0, "max_tokens": 24})[2]
    answer = first["choices"][0]["message"]["content"]
    d.stop()
    d.start()
    after = second_turn(d, answer)
    assert after["usage"]["prompt_tokens_details"]["cached_tokens"] >= first["usage"]["prompt_tokens"] - 1
    fresh = make_daemon(config.replace("slots", "kv_ram = 0 kv_disk = 0 slots"), model=False)
    without = second_turn(fresh, answer)
    assert without["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert after["choices"][0]["message"] == without["choices"][0]["message"]


def pack_files(d):
    """Those that are whole: they are written behind the first load."""
    return list((d.home / "cache/hob/packed").glob("*.pack"))


def test_the_ledger_remembers_sizes_over_a_restart(make_daemon, wait_until):
    d = make_daemon("cache { ctx = 1024 slots = 1 }\n")
    assert d.chat("Hi", max_tokens=1)[0] == 200
    measured = rows(d)["smollm2:135m"]["measured"]
    wait_until(lambda: pack_files(d), what="the pack file")
    d.stop()
    d.start()
    assert d.chat("Hi", max_tokens=1)[0] == 200
    row = rows(d)["smollm2:135m"]
    assert row["predicted"] == measured and row["source"] == "pack file"
    load = next(x for x in json.loads(d.run("why", "--json").stdout)["decisions"] if x["kind"] == "load")
    assert load["predicted_ms"], load


def test_a_corrupt_pack_file_is_made_again(make_daemon, wait_until):
    d = make_daemon("cache { ctx = 1024 slots = 1 }\n")
    text = d.chat("Count to ten.", max_tokens=12)[2]["choices"][0]["message"]["content"]
    wait_until(lambda: pack_files(d), what="the pack file")
    d.stop()
    packs = pack_files(d)
    assert len(packs) == 1 and packs[0].stat().st_mode & 0o077 == 0
    with open(packs[0], "r+b") as f:
        f.seek(packs[0].stat().st_size // 2)
        f.write(b"not what was here")
    d.start()
    assert d.chat("Count to ten.", max_tokens=12)[2]["choices"][0]["message"]["content"] == text
    assert rows(d)["smollm2:135m"]["source"] == "converted"


def test_simulate_replays_a_recorded_trace(make_daemon):
    d = make_daemon("", start=False)
    trace = d.home / "trace.ndjson"
    d.write_config(f'cache {{ ctx = 1024 slots = 1 trace = "{trace}" }}\n')
    d.start()
    for _ in range(3):
        assert d.chat("Hi", max_tokens=1)[0] == 200
    d.stop()
    assert trace.exists()
    r = d.run("cache", "simulate", str(trace))
    assert r.returncode == 0 and "lru" in r.stdout and "gdsf" in r.stdout, r.stderr
    result = json.loads(d.run("cache", "simulate", "--json", str(trace)).stdout)
    assert result["requests"] == 3
    trace.write_text(trace.read_text() + "{nonsense\n")
    r = d.run("cache", "simulate", str(trace))
    assert r.returncode == 1 and "line 5" in r.stderr  # the first says that the daemon started
