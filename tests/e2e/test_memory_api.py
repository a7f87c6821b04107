"""hob's own API for conversations: rows, paths, heads, search, notes, personas, forgetting, moving."""

import json
import re
import stat
import urllib.parse

import pytest

from conftest import MODEL_NAME
from fake_upstream import WORDS

TEXT = "".join(WORDS)
ROWS = "/v1/hob/conversations"
NO_ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
HASH = re.compile(r"[0-9a-f]{32}$")


def config(up, more=""):
    return (f'default_model = "fake/ok"\nprovider "fake" {{ kind = "openai" url = "{up.url}" key_env = "FAKE_KEY" '
            f"local = true }}\n{more}")


@pytest.fixture
def daemon(make_daemon, up):
    return make_daemon(config(up), {"FAKE_KEY": "sk-test"}, model=False)


def ok(reply):
    status, _, body = reply
    assert status == 200, body
    return body


def say(d, text, conversation="new", headers=None, **more):
    """One turn; the conversation's id."""
    status, fields, body = d.ask("fake/ok", {"x-hob-conversation": conversation, **(headers or {})},
                                 messages=[{"role": "user", "content": text}], **more)
    assert status == 200, body
    return fields["x-hob-conversation"]


def texts(d, conversation, query=""):
    found = ok(d.request("GET", f"{ROWS}/{conversation}{query}"))["messages"]
    return [m["content"] for m in found]


def search(d, words, **more):
    query = urllib.parse.urlencode({"q": words, **more})
    return ok(d.request("GET", f"/v1/hob/search?{query}"))["hits"]


# -- rows and paths


def test_a_row_says_what_a_conversation_is_and_its_path_what_was_said(daemon):
    c = say(daemon, "My cat is called Mio.")
    row = ok(daemon.request("GET", f"{ROWS}/{c}"))
    assert row["id"] == c and row["title"] == "My cat is called Mio." and row["model"] == "fake/ok"
    assert row["status"] == "done" and row["partial"] is None and row["forked_from"] is None
    assert (row["pinned"], row["private"], row["incognito"], row["metadata"]) == (False, False, False, {})
    assert row["message_count"] == 2
    user, reply = row["messages"]
    assert (user["role"], user["content"], reply["role"], reply["content"]) == (
        "user", "My cat is called Mio.", "assistant", TEXT)
    assert HASH.match(user["hash"]) and row["head"] == reply["hash"]
    assert row["created_ms"] <= row["updated_ms"]
    listed = ok(daemon.request("GET", ROWS))["conversations"]
    assert [r["id"] for r in listed] == [c]
    assert {k: v for k, v in row.items() if k != "messages"} == listed[0]
    assert texts(daemon, c, "?at=" + user["hash"]) == ["My cat is called Mio."]
    assert ok(daemon.request("GET", f"{ROWS}/last"))["id"] == c


def test_a_list_goes_on_behind_its_last_row(daemon):
    made = [say(daemon, f"number {n}") for n in range(5)]
    first = ok(daemon.request("GET", ROWS + "?limit=2"))["conversations"]
    rest = ok(daemon.request("GET", f"{ROWS}?limit=9&before={first[-1]['id']}"))["conversations"]
    assert [r["id"] for r in first + rest] == made[::-1]
    ok(daemon.request("PATCH", f"{ROWS}/{made[1]}", {"pinned": True}))
    assert [r["id"] for r in ok(daemon.request("GET", ROWS + "?pinned=1"))["conversations"]] == [made[1]]


def test_a_row_is_changed_and_keeps_it(daemon):
    c = say(daemon, "Hello")
    row = ok(daemon.request("PATCH", f"{ROWS}/{c}", {"title": "Grüße", "pinned": True, "private": True,
                                                     "model": "fake/length", "metadata": {"a": {"b": 1}}}))
    assert (row["title"], row["pinned"], row["private"], row["model"], row["metadata"]) == (
        "Grüße", True, True, "fake/length", {"a": {"b": 1}})
    assert ok(daemon.request("PATCH", f"{ROWS}/{c}", {"pinned": False, "nonsense": 1}))["title"] == "Grüße"
    daemon.stop()
    daemon.start()
    row = ok(daemon.request("GET", f"{ROWS}/{c}"))
    assert (row["title"], row["pinned"], row["private"], row["metadata"]) == ("Grüße", False, True, {"a": {"b": 1}})


def test_a_conversation_is_made_with_messages_and_goes_on(daemon, up):
    raw = {"role": "user", "content": [{"type": "text", "text": "Look"},
                                       {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
    row = ok(daemon.request("POST", ROWS, {"title": "Made", "private": True, "metadata": {"x": "y"}, "messages": [
        {"role": "system", "content": "Be brief."}, raw, {"role": "assistant", "content": "A cat."}]}))
    assert (row["title"], row["message_count"], row["private"], row["metadata"]) == ("Made", 3, True, {"x": "y"})
    messages = ok(daemon.request("GET", f"{ROWS}/{row['id']}"))["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant"]
    assert messages[1]["message"] == raw and "message" not in messages[2]
    say(daemon, "And now?", row["id"])
    assert [m["content"] for m in up.seen[-1]["body"]["messages"] if m["role"] != "user"] == ["Be brief.", "A cat."]
    assert ok(daemon.request("GET", f"{ROWS}/{row['id']}"))["title"] == "Made"


def test_heads_move_back_and_conversations_fork(daemon):
    c = say(daemon, "One")
    say(daemon, "Two", c)
    assert texts(daemon, c) == ["One", TEXT, "Two", TEXT]
    hashes = [m["hash"] for m in ok(daemon.request("GET", f"{ROWS}/{c}"))["messages"]]
    assert ok(daemon.request("POST", f"{ROWS}/{c}/head", {"to": "undo"}))["head"] == hashes[1]
    assert texts(daemon, c) == ["One", TEXT]
    assert ok(daemon.request("POST", f"{ROWS}/{c}/head", {"to": hashes[3]}))["message_count"] == 4
    other = ok(daemon.request("POST", f"{ROWS}/{c}/fork", {"at": hashes[1]}))
    assert other["id"] != c and other["forked_from"] == c and other["head"] == hashes[1]
    whole = ok(daemon.request("POST", f"{ROWS}/{c}/fork"))
    assert whole["head"] == hashes[3]
    assert ok(daemon.request("POST", f"{ROWS}/{c}/head", {"to": "root"}))["head"] is None
    assert texts(daemon, c) == [] and len(texts(daemon, whole["id"])) == 4


def test_turns_say_who_answered_and_what_it_took(daemon):
    c = say(daemon, "One")
    status = daemon.ask("fake/500", {"x-hob-conversation": c}, messages=[{"role": "user", "content": "Two"}])[0]
    assert status >= 500
    done, failed = ok(daemon.request("GET", f"{ROWS}/{c}/turns"))["turns"]
    assert done["status"] == "done" and done["error"] is None and done["request"].startswith("hob-")
    assert done["tokens_in"] == 11 and done["tokens_cached"] == 4 and done["tokens_out"] == 6
    assert done["base"] is None and HASH.match(done["prompt"]) and HASH.match(done["reply"])
    assert failed["status"] == "error" and failed["error"] and failed["reply"] is None
    assert failed["base"] == done["reply"]
    assert len(ok(daemon.request("GET", f"{ROWS}/{c}/turns?limit=1"))["turns"]) == 1


def test_what_is_deleted_is_gone(daemon):
    c = say(daemon, "A word: xylophone")
    assert len(search(daemon, "xylophone")) == 1
    assert ok(daemon.request("DELETE", f"{ROWS}/{c}")) == {"id": c, "deleted": True}
    assert daemon.request("GET", f"{ROWS}/{c}")[0] == 404
    assert daemon.request("DELETE", f"{ROWS}/{c}")[0] == 404
    assert search(daemon, "xylophone") == []


# -- wrong inputs


WRONG = [
    ("GET", ROWS + "?limit=0", None, 400, "limit"),
    ("GET", ROWS + "?limit=1001", None, 400, "limit"),
    ("GET", ROWS + "?before=..%2F", None, 400, "before"),
    ("GET", ROWS + "?pinned=yes", None, 400, "pinned"),
    ("GET", ROWS + "/%00", None, 400, "id"),
    ("GET", ROWS + "/a%2Fb", None, 400, "id"),
    ("GET", ROWS + "/" + "x" * 70, None, 400, "id"),
    ("GET", ROWS + "/new", None, 400, "new"),
    ("GET", ROWS + "/" + NO_ID, None, 404, NO_ID),
    ("GET", ROWS + "/Z" + NO_ID[1:], None, 404, "Z" + NO_ID[1:]),
    ("GET", f"{ROWS}/{NO_ID}?at=xyz", None, 400, "at"),
    ("PATCH", f"{ROWS}/{NO_ID}", {"title": "x"}, 404, NO_ID),
    ("PATCH", f"{ROWS}/{NO_ID}", {"title": 5}, 400, "'title'"),
    ("PATCH", f"{ROWS}/{NO_ID}", {"title": "x" * 401}, 400, "'title'"),
    ("PATCH", f"{ROWS}/{NO_ID}", {"pinned": "yes"}, 400, "'pinned'"),
    ("PATCH", f"{ROWS}/{NO_ID}", {"metadata": []}, 400, "'metadata'"),
    ("PATCH", f"{ROWS}/{NO_ID}", {"metadata": {"x": "y" * 17000}}, 400, "'metadata'"),
    ("PATCH", f"{ROWS}/{NO_ID}", [], 400, "object"),
    ("PATCH", f"{ROWS}/{NO_ID}", "{", 400, "body"),
    ("PATCH", f"{ROWS}/{NO_ID}", b'{"title":"\xff"}', 400, "body"),
    ("PUT", f"{ROWS}/{NO_ID}", {}, 405, "allowed"),
    ("POST", ROWS, {"messages": []}, 400, "'messages'"),
    ("POST", ROWS, {"messages": [{"role": "robot", "content": "x"}]}, 400, "role"),
    ("POST", ROWS, {"incognito": 1}, 400, "'incognito'"),
    ("POST", f"{ROWS}/{NO_ID}/head", {}, 400, "'to'"),
    ("POST", f"{ROWS}/{NO_ID}/head", {"to": "up"}, 400, "'to'"),
    ("POST", f"{ROWS}/{NO_ID}/head", {"to": "undo"}, 404, NO_ID),
    ("POST", f"{ROWS}/{NO_ID}/fork", {"at": "ABC"}, 400, "'at'"),
    ("POST", f"{ROWS}/{NO_ID}/fork", {}, 404, NO_ID),
    ("GET", f"{ROWS}/{NO_ID}/turns?limit=no", None, 400, "limit"),
    ("GET", f"{ROWS}/{NO_ID}/export?format=pdf", None, 400, "markdown"),
    ("GET", f"{ROWS}/{NO_ID}/export", None, 404, NO_ID),
    ("POST", ROWS + "/import", "", 400, "empty"),
    ("POST", ROWS + "/import", "not a line", 400, ""),
    ("GET", "/v1/hob/search", None, 400, "q"),
    ("GET", "/v1/hob/search?q=%20", None, 400, ""),
    ("GET", "/v1/hob/search?q=%zz", None, 400, "q"),
    ("GET", "/v1/hob/search?q=x&limit=201", None, 400, "limit"),
    ("GET", "/v1/hob/search?q=" + "x" * 1025, None, 400, "1024"),
    ("GET", "/v1/hob/search?q=x&conversation=a%20b", None, 400, "id"),
    ("POST", "/v1/hob/notes", {}, 400, "'text'"),
    ("POST", "/v1/hob/notes", {"text": " \n"}, 400, "'text'"),
    ("POST", "/v1/hob/notes", {"text": "x" * 4097}, 400, "4096"),
    ("POST", "/v1/hob/notes", {"text": "x", "conversation": NO_ID}, 404, NO_ID),
    ("DELETE", "/v1/hob/notes/0", None, 400, "number"),
    ("DELETE", "/v1/hob/notes/x", None, 400, "number"),
    ("DELETE", "/v1/hob/notes/7", None, 404, ""),
    ("POST", "/v1/hob/forget", {}, 400, "one of"),
    ("POST", "/v1/hob/forget", {"all": False}, 400, "one of"),
    ("POST", "/v1/hob/forget", {"all": True, "before_ms": 5}, 400, "one of"),
    ("POST", "/v1/hob/forget", {"before_ms": -1}, 400, "'before_ms'"),
    ("POST", "/v1/hob/forget", {"conversation": NO_ID}, 404, NO_ID),
    ("POST", "/v1/hob/forget", {"conversation": "a/b"}, 400, "id"),
    ("POST", "/v1/hob/backup", {}, 400, "'path'"),
    ("POST", "/v1/hob/backup", {"path": "here.db"}, 400, "absolute"),
    ("POST", "/v1/hob/backup", {"path": "/" + "x" * 5000}, 400, "'path'"),
]


def test_wrong_inputs_are_refused_and_named(daemon):
    for method, path, body, status, says in WRONG:
        got, _, reply = daemon.request(method, path, body)
        assert got == status, (method, path, body, reply)
        assert says in reply["error"]["message"], (method, path, reply)
    assert ok(daemon.request("GET", ROWS))["conversations"] == []
    assert ok(daemon.request("GET", "/v1/hob/notes"))["notes"] == []


def test_without_memory_each_call_says_so(make_daemon, up):
    d = make_daemon(config(up, "memory { enabled = false }"), {"FAKE_KEY": "k"}, model=False)
    for method, path, body in (("GET", ROWS, None), ("GET", ROWS + "/last", None), ("POST", ROWS, {}),
                               ("GET", "/v1/hob/search?q=x", None), ("GET", "/v1/hob/notes", None),
                               ("POST", "/v1/hob/forget", {"all": True}),
                               ("POST", "/v1/hob/backup", {"path": "/tmp/x"})):
        status, _, reply = d.request(method, path, body)
        assert status == 400 and "memory is off" in reply["error"]["message"], (path, reply)
    assert ok(d.request("GET", "/v1/hob/memory"))["status"] == "off"


# -- search


def test_search_finds_what_was_said_and_marks_it(daemon):
    c = say(daemon, "The quick brown xylophone, and a cat\x1b[31m.")
    other = say(daemon, "Another xylophone of the other one.")
    hits = search(daemon, "xylophone")
    assert {h["conversation"] for h in hits} == {c, other}
    hit = next(h for h in hits if h["conversation"] == c)
    assert hit["role"] == "user" and HASH.match(hit["message"]) and "\x02xylophone\x03" in hit["snippet"]
    assert hit["title"] and hit["created_ms"] > 0
    assert [h["conversation"] for h in search(daemon, "xylophone", conversation=other)] == [other]
    assert len(search(daemon, "xylophone", limit=1)) == 1
    assert search(daemon, "xylophone unheard-of-word") == []
    assert {h["role"] for h in search(daemon, "Paris")} == {"assistant"}


# -- incognito


def test_incognito_conversations_are_read_by_id_and_are_in_no_listing(daemon):
    row = ok(daemon.request("POST", ROWS, {"incognito": True, "messages": [{"role": "user", "content": "psst marimba"}]}))
    assert row["incognito"] is True and row["id"].startswith("Z")
    say(daemon, "And?", row["id"])
    assert texts(daemon, row["id"]) == ["psst marimba", "And?", TEXT]
    assert ok(daemon.request("GET", ROWS))["conversations"] == []
    assert search(daemon, "marimba") == []
    assert len(search(daemon, "marimba", conversation=row["id"])) == 1
    ok(daemon.request("POST", "/v1/hob/notes", {"text": "A secret.", "conversation": row["id"]}))
    assert ok(daemon.request("GET", "/v1/hob/notes"))["notes"] == []
    (note,) = ok(daemon.request("GET", "/v1/hob/notes?conversation=" + row["id"]))["notes"]
    ok(daemon.request("DELETE", f"/v1/hob/notes/{note['id']}?conversation={row['id']}"))
    done = ok(daemon.request("POST", "/v1/hob/forget", {"all": True}))
    assert done["conversations"] == 1
    assert daemon.request("GET", f"{ROWS}/{row['id']}")[0] == 404


# -- notes


def test_a_note_reaches_the_model_and_goes_when_it_is_deleted(daemon, up):
    note = ok(daemon.request("POST", "/v1/hob/notes", {"text": "My cat is called Mio."}))
    assert note["text"] == "My cat is called Mio." and note["scope"] == "" and note["created_ms"] > 0
    c = say(daemon, "Hello")
    assert "Mio" in json.dumps(up.seen[-1]["body"]["messages"])
    own = ok(daemon.request("POST", "/v1/hob/notes", {"text": "Here it is Rio.", "conversation": "last"}))
    assert own["scope"] == c
    listed = ok(daemon.request("GET", "/v1/hob/notes?conversation=" + c))["notes"]
    assert [n["id"] for n in listed] == [note["id"], own["id"]]
    assert [n["id"] for n in ok(daemon.request("GET", "/v1/hob/notes"))["notes"]] == [note["id"]]
    say(daemon, "Again", c)
    sent = json.dumps(up.seen[-1]["body"]["messages"])
    assert "Mio" in sent and "Rio" in sent
    say(daemon, "Elsewhere")
    assert "Rio" not in json.dumps(up.seen[-1]["body"]["messages"])
    ok(daemon.request("DELETE", f"/v1/hob/notes/{note['id']}"))
    ok(daemon.request("DELETE", f"/v1/hob/notes/{own['id']}"))
    say(daemon, "Third", c)
    sent = json.dumps(up.seen[-1]["body"]["messages"])
    assert "Mio" not in sent and "Rio" not in sent
    assert not any("Mio" in t for t in texts(daemon, c))


# -- personas


PERSONAS = """
persona "brief" { system = "Be brief." model = "fake/ok" temperature = 0.25 top_p = 0.5 max_tokens = 7
  description = "Says little" }
persona "file" { system_file = "%s" }
persona "quiet" { system = "Tell nobody." private = true }
"""


@pytest.fixture
def personas(make_daemon, up, tmp_path):
    prompt = tmp_path / "prompt.md"
    d = make_daemon(config(up, PERSONAS % prompt), {"FAKE_KEY": "k"}, model=False)
    d.prompt = prompt
    return d


def sent(up):
    return up.seen[-1]["body"]


def test_a_persona_reaches_the_model_and_yields_to_the_request(personas, up):
    assert ok(personas.request("GET", "/v1/hob/personas"))["personas"][0] == {
        "name": "brief", "model": "fake/ok", "description": "Says little", "private": False}
    for headers, more in (({"x-hob-persona": "brief"}, {}), ({}, {"persona": "brief"})):
        assert personas.ask("default", headers, **more)[0] == 200
        body = sent(up)
        assert body["messages"][0] == {"role": "system", "content": "Be brief."}
        assert (body["temperature"], body["top_p"], body["model"]) == (0.25, 0.5, "ok")
        assert 7 in (body.get("max_tokens"), body.get("max_completion_tokens"))
        assert "persona" not in body
    own = [{"role": "system", "content": "Mine."}, {"role": "user", "content": "x"}]
    assert personas.ask("fake/length", {"x-hob-persona": "brief"}, messages=own, temperature=1)[0] == 200
    body = sent(up)
    assert body["messages"] == own and body["temperature"] == 1 and body["model"] == "length"


def test_a_personas_system_prompt_is_said_once_in_a_conversation(personas, up):
    c = say(personas, "One", headers={"x-hob-persona": "brief"})
    say(personas, "Two", c, {"x-hob-persona": "brief"})
    assert [m["content"] for m in sent(up)["messages"]] == ["Be brief.", "One", TEXT, "Two"]
    assert texts(personas, c) == ["Be brief.", "One", TEXT, "Two", TEXT]
    say(personas, "Three", c, {"x-hob-persona": "quiet"})
    assert [m["content"] for m in sent(up)["messages"] if m["role"] == "system"] == ["Be brief."]
    assert "Tell nobody." not in texts(personas, c)


def test_a_persona_goes_with_responses_too(personas, up):
    head = {"x-hob-persona": "brief"}
    first = ok(personas.request("POST", "/v1/responses", {"input": "One"}, head))
    assert sent(up)["messages"][0] == {"role": "system", "content": "Be brief."} and sent(up)["temperature"] == 0.25
    ok(personas.request("POST", "/v1/responses", {"input": "Two", "previous_response_id": first["id"]}, head))
    assert [m["content"] for m in sent(up)["messages"]] == ["Be brief.", "One", TEXT, "Two"]
    ok(personas.request("POST", "/v1/responses", {"input": "x", "instructions": "Mine."}, head))
    assert [m["content"] for m in sent(up)["messages"]] == ["Mine.", "x"]
    status, _, reply = personas.request("POST", "/v1/responses", {"input": "x"}, {"x-hob-persona": "nobody"})
    assert status == 400 and "no persona 'nobody'" in reply["error"]["message"]


def test_a_persona_reads_its_file_when_it_is_used(personas, up):
    status, _, reply = personas.ask("fake/ok", {"x-hob-persona": "file"})
    assert status == 500 and str(personas.prompt) in reply["error"]["message"]
    personas.prompt.write_text("From a file.\n")
    assert personas.ask("fake/ok", {"x-hob-persona": "file"})[0] == 200
    assert sent(up)["messages"][0]["content"] == "From a file."
    personas.prompt.write_text("From a changed file.\n")
    assert personas.ask("fake/ok", {"x-hob-persona": "file"})[0] == 200
    assert sent(up)["messages"][0]["content"] == "From a changed file."


def test_an_unknown_persona_is_a_mistake(personas, up):
    status, _, reply = personas.ask("fake/ok", {"x-hob-persona": "brie"})
    assert status == 400 and "did you mean 'brief'?" in reply["error"]["message"]
    status, _, reply = personas.ask("fake/ok", persona=["brief"])
    assert status == 400 and "'persona'" in reply["error"]["message"]
    assert up.seen == []


def test_a_private_persona_leaves_nothing_to_the_network(make_daemon, up):
    far = config(up, 'persona "quiet" { system = "Tell nobody." private = true }').replace("local = true", "")
    d = make_daemon(far, {"FAKE_KEY": "k"}, model=False)
    assert d.ask("fake/ok", {"x-hob-persona": "quiet"})[0] != 200
    assert up.seen == []
    assert d.ask("fake/ok")[0] == 200


def test_personas_follow_the_configuration(personas, up, wait_until):
    personas.write_config(config(up, 'persona "late" { system = "Late." }'))
    personas.process.send_signal(1)
    wait_until(lambda: [p["name"] for p in ok(personas.request("GET", "/v1/hob/personas"))["personas"]] == ["late"])
    assert personas.ask("fake/ok", {"x-hob-persona": "late"})[0] == 200
    assert sent(up)["messages"][0]["content"] == "Late."


# -- the store as a whole


def test_figures_follow_what_is_kept(daemon):
    before = ok(daemon.request("GET", "/v1/hob/memory"))
    assert before["status"] == "ok" and before["store"] == "opt-in" and before["path"] == str(daemon.database)
    assert before["conversations"] == 0 and before["messages"] == 0 and before["oldest_ms"] == 0
    say(daemon, "One")
    c = say(daemon, "Two")
    after = ok(daemon.request("GET", "/v1/hob/memory"))
    assert after["conversations"] == 2 and after["bytes"] > 0 and after["oldest_ms"] > 0
    assert after["messages"] == 4 and after["max_bytes"] == 2 << 30 and after["evicted"] == 0
    text = daemon.request("GET", "/metrics")[2]
    assert "\nhob_store_conversations 2\n" in text and "\nhob_store_messages 4\n" in text
    assert re.search(r"\nhob_store_bytes [1-9]\d*\n", text) and "\nhob_store_evicted_total 0\n" in text
    ok(daemon.request("DELETE", f"{ROWS}/{c}"))
    assert ok(daemon.request("GET", "/v1/hob/memory"))["conversations"] == 1


def test_a_backup_is_made_for_the_socket_and_never_over_tcp(daemon, make_daemon, up):
    c = say(daemon, "Keep this xylophone.")
    target = daemon.home / "copy.db"
    status, _, reply = daemon.request("POST", "/v1/hob/backup", {"path": str(target)}, tcp=True)
    assert status == 403 and not target.exists(), reply
    done = ok(daemon.request("POST", "/v1/hob/backup", {"path": str(target)}))
    assert done == {"path": str(target), "bytes": target.stat().st_size}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert daemon.request("POST", "/v1/hob/backup", {"path": str(target)})[0] == 409
    status, _, reply = daemon.request("POST", "/v1/hob/backup", {"path": "/nowhere/at/all.db"})
    assert status >= 400 and "/nowhere/at/all.db" in reply["error"]["message"]
    other = make_daemon(config(up, f'memory {{ path = "{target}" }}'), {"FAKE_KEY": "k"}, model=False)
    assert texts(other, c) == ["Keep this xylophone.", TEXT]


def test_forgetting_spares_what_is_pinned_until_it_is_meant(daemon):
    a, b, pinned = (say(daemon, f"conversation {x}") for x in ("alpha", "beta", "gamma"))
    ok(daemon.request("PATCH", f"{ROWS}/{pinned}", {"pinned": True}))
    done = ok(daemon.request("POST", "/v1/hob/forget", {"conversation": a}))
    assert done["conversations"] == 1 and done["messages"] == 2
    assert ok(daemon.request("POST", "/v1/hob/forget", {"before_ms": 1000}))["conversations"] == 0
    assert ok(daemon.request("POST", "/v1/hob/forget", {"all": True}))["conversations"] == 1
    assert [r["id"] for r in ok(daemon.request("GET", ROWS))["conversations"]] == [pinned]
    assert ok(daemon.request("POST", "/v1/hob/forget", {"all": True, "pinned": True}))["conversations"] == 1
    assert ok(daemon.request("GET", ROWS))["conversations"] == []
    assert daemon.request("GET", f"{ROWS}/{b}")[0] == 404


def test_conversations_move_out_and_in_again(daemon):
    c = say(daemon, "My xylophone is **old**.")
    before = ok(daemon.request("GET", f"{ROWS}/{c}"))
    status, headers, _ = daemon.request("GET", f"{ROWS}/{c}/export")
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    lines = raw(daemon, f"{ROWS}/{c}/export?format=jsonl")
    assert ok(daemon.request("GET", f"{ROWS}/{c}/export?format=openai")) == [
        {"role": "user", "content": "My xylophone is **old**."}, {"role": "assistant", "content": TEXT}]
    assert "My xylophone is **old**." in raw(daemon, f"{ROWS}/{c}/export?format=markdown")
    again = ok(daemon.request("POST", ROWS + "/import", lines))
    assert (again["conversations"], again["messages"], again["known"]) == (0, 0, 1)
    ok(daemon.request("DELETE", f"{ROWS}/{c}"))
    done = ok(daemon.request("POST", ROWS + "/import", lines))
    assert done == {"conversations": 1, "messages": 2, "known": 0, "last": c}
    after = ok(daemon.request("GET", f"{ROWS}/{c}"))
    assert after["messages"] == before["messages"] and after["title"] == before["title"]
    assert len(search(daemon, "xylophone")) == 1


def raw(d, path):
    c = d.connection()
    c.request("GET", path)
    r = c.getresponse()
    data = r.read().decode()
    assert r.status == 200, data
    c.close()
    return data


def files_with(folder, needle):
    return [str(p) for p in folder.rglob("*")
            if p.is_file() and not p.is_symlink() and needle.lower() in p.read_bytes().lower()]


CANARY = "qzcanaryxw"


def test_a_reload_says_what_of_memory_waits_for_the_next_start(daemon, up, wait_until):
    daemon.write_config(config(up, 'memory { durability = "normal" store = "all" max_bytes = "5MiB" }'))
    daemon.process.send_signal(1)
    wait_until(lambda: "reload: done" in daemon.log.read_text())
    assert "of memory change" not in daemon.log.read_text()
    now = ok(daemon.request("GET", "/v1/hob/memory"))
    assert (now["store"], now["max_bytes"]) == ("all", 5 << 20)
    say(daemon, "Kept all the same")
    daemon.write_config(config(up, "memory { enabled = false }"))
    daemon.process.send_signal(1)
    wait_until(lambda: "reload: enabled and path of memory change at the next start" in daemon.log.read_text())
    assert len(ok(daemon.request("GET", ROWS))["conversations"]) == 1


def saved_state(d):
    return list((d.home / "cache/hob/kv").glob("*"))


def test_forgetting_leaves_no_byte_in_any_file(make_daemon, up):
    """The real model, so that computed state is saved as well; a trace is recorded; the log is verbose."""
    d = make_daemon(start=False)
    d.write_config(config(up, 'cache { trace = "%s/trace.ndjson" }' % d.home))
    d.env["FAKE_KEY"] = "k"
    d.start("--verbose")
    c = say(d, f"The word is {CANARY}. Remember it.")
    status, _, body = d.chat(f"The word is {CANARY} twice. Say it: {CANARY}", {"x-hob-conversation": "new"},
                             max_tokens=8)
    assert status == 200, body
    ok(d.request("POST", "/v1/hob/notes", {"text": f"Note {CANARY}", "conversation": c}))
    ok(d.request("PATCH", f"{ROWS}/{c}", {"title": f"About {CANARY}", "metadata": {"k": CANARY}}))
    assert d.request("POST", "/v1/chat/completions", {"model": f"no-{MODEL_NAME}", "messages": [
        {"role": "user", "content": CANARY}]}, {"x-hob-conversation": c})[0] != 200
    assert len(search(d, CANARY)) >= 2
    assert any("memory.db" in f for f in files_with(d.home, CANARY.encode()))
    done = ok(d.request("POST", "/v1/hob/forget", {"all": True, "pinned": True}))
    assert done["conversations"] == 2
    assert files_with(d.home, CANARY.encode()) == []
    d.stop()
    assert files_with(d.home, CANARY.encode()) == []


@pytest.mark.parametrize("how", ["forget", "delete"])
def test_forgetting_takes_what_the_engine_computed_along(make_daemon, how, wait_until):
    """The tokens of a prompt are its text, so saved KV state must go too: files, and what would become some."""
    d = make_daemon()
    long = "This is sentence number %d of a long text about cats. "
    fields = d.chat("".join(long % n for n in range(26)), {"x-hob-conversation": "new"}, max_tokens=4)[1]
    c = fields["x-hob-conversation"]
    ok(d.request("POST", "/v1/hob/cache/unload", {"model": MODEL_NAME}))  # what the slots hold is saved
    wait_until(lambda: saved_state(d), seconds=60, what="saved state")
    assert d.chat("".join(long % n for n in range(100, 126)), {"x-hob-conversation": c}, max_tokens=4)[0] == 200
    if how == "forget":
        assert ok(d.request("POST", "/v1/hob/forget", {"conversation": c}))["conversations"] == 1
    else:
        ok(d.request("DELETE", f"{ROWS}/{c}"))
    wait_until(lambda: not saved_state(d), seconds=60, what="no saved state")
    d.stop()
    assert saved_state(d) == []
    d.start()
    assert d.chat("Hello", max_tokens=4)[0] == 200  # and it still answers
