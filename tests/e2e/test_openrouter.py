"""OpenRouter through the daemon, against a server on loopback that speaks as it does."""

import json
import os
import stat
import time

import pytest

from conftest import ASK
from fake_openrouter import USAGE, WORDS, FakeOpenRouter

KEY = "sk-or-v1-0123456789abcdef"
TEXT = "".join(WORDS)


def section(url, more=""):
    return (f'provider "openrouter" {{ kind = "openrouter" url = "{url}" key_env = "FAKE_KEY" {more}\n'
            "  connect_timeout = 2 first_byte_timeout = 5 idle_timeout = 5 }\n")


@pytest.fixture
def router():
    with FakeOpenRouter() as r:
        yield r


@pytest.fixture
def serve(make_daemon, router):
    def make(more="", key=KEY):
        return make_daemon(section(router.url, more), {"FAKE_KEY": key} if key else {}, model=False)

    return make


def ask(d, mode="ok", **more):
    return d.ask("openrouter/" + mode, **more)


def catalogue(d):
    path = d.home / "cache/hob/catalogue/openrouter.json"
    return path if path.exists() else None


def test_comments_and_metadata_are_no_text_and_usage_is_read(serve):
    status, _, r = ask(serve())
    assert status == 200, r
    assert r["choices"][0]["message"]["content"] == TEXT
    usage = r["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (21, 8)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 16
    assert usage["cost"] == pytest.approx(USAGE["cost"])


def test_what_is_asked_for_by_default(serve, router):
    assert ask(serve())[0] == 200
    seen = router.chats[-1]
    assert seen["headers"]["authorization"] == "Bearer " + KEY
    assert seen["headers"]["x-openrouter-title"] == "hob"
    assert "http-referer" not in seen["headers"]
    body = seen["body"]
    assert body["plugins"] == [{"id": "context-compression", "enabled": False}]
    assert "provider" not in body and "session_id" not in body
    assert body["user"].startswith("hob-") and len(body["user"]) == 36


def test_the_section_is_passed_on(serve, router):
    d = serve('data_collection = "deny" zdr = true sort = "latency" order = {"a", "b"} ignore = {"c"}'
              ' app_url = "https://example.org" app_title = "My App"')
    assert ask(d, tools=[{"type": "function", "function": {"name": "f"}}])[0] == 200
    seen = router.chats[-1]
    assert seen["body"]["provider"] == {"order": ["a", "b"], "ignore": ["c"], "sort": "latency", "zdr": True,
                                        "data_collection": "deny", "require_parameters": True}
    assert seen["headers"]["http-referer"] == "https://example.org"
    assert seen["headers"]["x-openrouter-title"] == "My App"


def test_a_client_cannot_undo_what_the_section_forbids(serve, router):
    d = serve('data_collection = "deny" zdr = true only = {"a"}')
    assert ask(d, provider={"data_collection": "allow", "zdr": False, "only": ["b"], "sort": "price"},
               user="jane@example.org", plugins=[{"id": "web"}])[0] == 200
    body = router.chats[-1]["body"]
    assert body["provider"] == {"only": ["a"], "sort": "price", "data_collection": "deny", "zdr": True}
    assert "jane" not in json.dumps(body)
    assert [p["id"] for p in body["plugins"]] == ["web", "context-compression"]


def test_the_pseudonym_is_random_kept_and_closed_to_others(serve, router, make_daemon):
    d = serve()
    ask(d)
    ask(d)
    path = d.home / "state/hob/openrouter-user"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    d.stop()
    d.start()
    ask(d)
    other = serve()
    ask(other)
    users = [c["body"]["user"] for c in router.chats]
    assert users[0] == users[1] == users[2] == path.read_text().strip()
    assert users[3] != users[0]
    path.write_text("../../etc\n\x00")
    d.stop()
    d.start()
    ask(d)
    assert router.chats[-1]["body"]["user"].startswith("hob-")


def test_a_message_with_signed_reasoning_goes_back_as_it_came(serve, router):
    details = [{"type": "reasoning.encrypted", "data": "AbC==", "id": "r1", "format": "x-v1", "index": 0}]
    messages = [ASK[0], {"role": "assistant", "content": "Paris.", "reasoning_details": details},
                {"role": "user", "content": "And of Spain?"}]
    assert ask(serve(), messages=messages)[0] == 200
    assert router.chats[-1]["body"]["messages"] == messages


@pytest.mark.parametrize("mode, status", [("error-first", 503), ("busy-retryable", 429), ("gone-model", 404),
                                          ("no-credit", 402), ("moderated", 400)])
def test_errors_before_the_text_have_the_right_class(serve, mode, status):
    got, headers, r = ask(serve(), mode)
    assert r["error"]["message"]
    assert KEY not in json.dumps(r)
    assert got == status, r


def test_an_error_in_mid_stream_ends_it_with_that_error(serve):
    chunks = list(serve().stream({"model": "openrouter/error-late", "messages": ASK}))
    errors = [c for c in chunks if isinstance(c, dict) and c.get("error")]
    assert len(errors) == 1
    assert "Provider disconnected" in errors[0]["error"]["message"]


def test_the_catalogue_is_fetched_at_the_start_and_kept(serve, router, wait_until):
    d = serve()
    path = wait_until(lambda: catalogue(d), what="a catalogue on disk")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(path.parent).st_mode) == 0o700
    models = {m["id"]: m for m in json.loads(path.read_text())["models"]}
    assert sorted(models) == ["auto", "odd", "ok"]
    assert models["ok"]["ctx"] == 65536 and models["ok"]["max_output"] == 8192
    assert models["ok"]["input"] == pytest.approx(1.25e-6)
    assert models["ok"]["images"] is True and models["ok"]["tools"] is True
    assert "input" not in models["auto"] and "input" not in models["odd"] and "output" not in models["odd"]
    assert len(router.asked("models")) == 1
    for _ in range(3):
        ask(d)
    d.stop()
    d.start()  # young enough: not asked again
    ask(d)
    assert len(router.asked("models")) == 1


def test_an_old_catalogue_is_fetched_anew(serve, router, wait_until):
    d = serve()
    path = wait_until(lambda: catalogue(d), what="a catalogue on disk")
    d.stop()
    old = json.loads(path.read_text())
    old["got_unix_s"] -= 3700
    path.write_text(json.dumps(old))
    d.start()
    wait_until(lambda: len(router.asked("models")) == 2, what="a second question")


def test_a_model_that_is_not_there_makes_the_catalogue_doubtful(serve, router, wait_until):
    d = serve("warm = false")
    time.sleep(0.5)
    assert router.gets == []  # not warm: nothing before it is used
    for _ in range(4):
        assert ask(d, "gone-model")[0] == 404
    wait_until(lambda: router.asked("models"), what="a question")
    assert len(router.asked("models")) == 1  # and not one for each


def test_after_a_failure_the_catalogue_rests(serve, router, wait_until):
    router.models_status = 500
    d = serve()
    wait_until(lambda: router.asked("models"), what="a question")
    for _ in range(5):
        ask(d)
    assert len(router.asked("models")) == 1


def test_without_a_key_nothing_is_sent(serve, router):
    d = serve(key=None)
    status, _, r = ask(d)
    assert "FAKE_KEY" in r["error"]["message"]
    time.sleep(0.5)
    assert router.gets == [] and router.chats == []


def test_the_quota_is_asked_for_with_use_and_not_again_soon(serve, router, wait_until):
    d = serve("warm = false")
    assert router.asked("key") == []
    ask(d)
    wait_until(lambda: router.asked("key"), what="a question for the quota")
    for _ in range(3):
        ask(d)
    time.sleep(0.3)
    assert len(router.asked("key")) == 1
    assert router.asked("key")[0]["headers"]["authorization"] == "Bearer " + KEY


def cancel_one(d, wait_until, router):
    """Starts an endless answer and leaves after its first text."""
    before = len(router.chats)
    c = d.connection()
    c.request("POST", "/v1/chat/completions",
              json.dumps({"model": "openrouter/endless", "messages": ASK, "stream": True}), {})
    r = c.getresponse()
    while b"Paris" not in r.readline():
        pass
    c.sock.close() if c.sock else None
    r.close()
    return router.chats[before]["generation"]


def test_a_cancelled_answers_bill_is_asked_for_until_it_is_there(serve, router, wait_until):
    d = serve("warm = false")
    router.bills["gen-0"] = 1  # the cost is there at the second question
    generation = cancel_one(d, wait_until, router)
    left = time.monotonic()
    wait_until(lambda: len(router.asked("generation")) == 2, what="two questions")
    first, second = router.asked("generation")
    assert first["query"] == {"id": [generation]} == second["query"]
    assert first["at"] - left > 0.5 and second["at"] - first["at"] > 1.0
    time.sleep(8)
    assert len(router.asked("generation")) == 2


def test_a_finished_answer_has_its_price_already(serve, router):
    d = serve("warm = false")
    ask(d)
    time.sleep(1.5)
    assert router.asked("generation") == []


def test_many_cancels_and_a_stop_leave_nothing_behind(serve, router, wait_until):
    d = serve("warm = false")
    for _ in range(12):
        cancel_one(d, wait_until, router)
    wait_until(lambda: len(router.asked("generation")) >= 6, what="questions")
    ids = {g["query"]["id"][0] for g in router.asked("generation")}
    assert len(ids) >= 6
    assert ask(d)[0] == 200
    d.stop()  # with bills outstanding: exit 0, and no leak where sanitizers watch
