"""kill -9 of the daemon after each acknowledged turn: nothing acknowledged is lost."""

import sqlite3

KILLS = 50


def messages(d, conversation):
    return d.request("GET", f"/v1/hob/conversations/{conversation}")[2]["messages"]


def test_no_acknowledged_message_is_lost_in_fifty_kills(make_daemon):
    d = make_daemon(start=False)
    conversation, said = "new", []
    for i in range(KILLS):
        d.start()
        status, headers, body = d.chat(f"Say {i}.", {"x-hob-conversation": conversation}, max_tokens=4)
        assert status == 200, body
        conversation = headers["x-hob-conversation"]
        said += [f"Say {i}.", body["choices"][0]["message"]["content"]]
        d.kill()
        with sqlite3.connect(d.database) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    d.start()
    assert [m["content"] for m in messages(d, conversation)] == said


def test_a_killed_turn_is_marked_and_the_conversation_goes_on(make_daemon):
    d = make_daemon()
    story = {"model": "smollm2:135m", "messages": [{"role": "user", "content": "Tell a very long story."}],
             "temperature": 0, "max_tokens": 2000, "ignore_eos": True}
    stream = d.stream(story, {"x-hob-conversation": "new"})
    conversation = next(stream)["hob"]["conversation"]
    for _ in range(8):
        next(stream)
    d.kill()
    d.start()
    assert all(m["role"] in ("user", "assistant") for m in messages(d, conversation))
    status, _, body = d.chat("And now?", {"x-hob-conversation": conversation}, max_tokens=8)
    assert status == 200, body
    assert messages(d, conversation)[-2]["content"] == "And now?"


def test_history_is_bounded_and_the_reply_says_so(make_daemon):
    d = make_daemon("cache { ctx = 512 }\nserver { port = -1 }\n")
    conversation, dropped = "new", 0
    for i in range(12):
        status, headers, body = d.chat("Tell me about the sea. " * 10, {"x-hob-conversation": conversation}, max_tokens=16)
        assert status == 200, body
        conversation = headers["x-hob-conversation"]
        dropped = int(headers["x-hob-context"].split("dropped=")[1].split(",")[0])
    assert dropped > 0
    assert len(messages(d, conversation)) == 24  # nothing is lost from the store


def test_a_conversation_is_remembered_and_an_own_history_is_not_touched(daemon):
    status, headers, _ = daemon.chat("My name is Ada. Remember it.", {"x-hob-conversation": "new"}, max_tokens=16)
    assert status == 200
    conversation = headers["x-hob-conversation"]
    first = daemon.chat("What is my name?", {"x-hob-conversation": conversation}, max_tokens=16)[2]
    alone = daemon.chat("What is my name?", max_tokens=16)[2]
    assert first["usage"]["prompt_tokens"] > alone["usage"]["prompt_tokens"] + 8
    count = len(daemon.request("GET", "/v1/hob/conversations")[2]["conversations"])
    daemon.chat("Nobody stores this.", max_tokens=2)
    assert len(daemon.request("GET", "/v1/hob/conversations")[2]["conversations"]) == count
