"""Conversations to files and back, and from other programs, through the commands and a real daemon."""

import json
import os
import stat

import pytest

HELLO = [{"role": "user", "content": "What is a hob?"},
         {"role": "assistant", "content": "A shelf beside the fire.\n```\nunclosed"}]


def talk(daemon, messages=HELLO, **more):
    status, _, row = daemon.request("POST", "/v1/hob/conversations", {"messages": messages, **more})
    assert status == 200, row
    return row["id"]


@pytest.fixture
def two(make_daemon):
    """Two daemons, neither with a model."""
    return make_daemon(model=False), make_daemon(model=False)


def done(p, status=0):
    assert p.returncode == status, p.stderr
    return p.stdout


def imported(daemon, *files):
    return json.loads(done(daemon.run("import", "--json", *map(str, files))))


def test_what_one_daemon_exports_another_imports_and_exports_as_the_same_bytes(two, tmp_path):
    here, there = two
    for i in range(3):
        talk(here, title=f"Number {i}")
    forked = talk(here)
    assert here.request("POST", f"/v1/hob/conversations/{forked}/fork", {})[0] == 200
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    done(here.run("export", "--all", "-o", str(first)))
    assert stat.S_IMODE(os.stat(first).st_mode) == 0o600
    assert imported(there, first)["conversations"] == 5
    done(there.run("export", "--all", "-o", str(second)))
    assert first.read_bytes() == second.read_bytes()
    again = imported(there, first)
    assert (again["conversations"], again["messages"], again["known"]) == (0, 0, 5)
    assert sorted(os.listdir(tmp_path)) == ["a.jsonl", "b.jsonl"]


def test_a_folder_gets_a_file_for_each_and_a_pipe_gets_the_text(two, tmp_path):
    daemon, _ = two
    one, other = talk(daemon, title="One # of *them*"), talk(daemon)
    done(daemon.run("export", "-f", "markdown", "-o", f"{tmp_path}/out/", one, other))
    assert sorted(os.listdir(tmp_path / "out")) == sorted([f"{one}.md", f"{other}.md"])
    text = (tmp_path / "out" / f"{one}.md").read_text()
    assert text.startswith("# One \\# of \\*them\\*\n")
    assert text.endswith("## Assistant\n\nA shelf beside the fire.\n```\nunclosed\n```\n")
    out = done(daemon.run("export", "-f", "openai", one, other))
    assert [json.loads(line) for line in out.splitlines()] == [HELLO, HELLO]
    # over HTTP the same
    connection = daemon.connection()
    connection.request("GET", f"/v1/hob/conversations/{one}/export?format=markdown")
    assert connection.getresponse().read().decode() == text


def test_a_forged_file_is_refused_and_nothing_of_it_is_kept(two, tmp_path):
    here, there = two
    talk(here)
    path = tmp_path / "a.jsonl"
    done(here.run("export", "last", "-o", str(path)))
    path.write_text(path.read_text().replace("A shelf", "A grill"))
    p = there.run("import", str(path))
    assert p.returncode == 1
    assert "line 3: the hash is not that of parent, role and parts" in p.stderr
    assert there.request("GET", "/v1/hob/conversations")[2]["conversations"] == []


def test_chatgpts_export_keeps_its_branches_and_is_known_the_second_time(two, tmp_path):
    daemon, _ = two

    def node(id, parent, role, text):
        return {"id": id, "parent": parent, "children": [], "message": {
            "author": {"role": role}, "create_time": 1700000000.5,
            "content": {"content_type": "text", "parts": [text]}, "metadata": {"model_slug": "gpt-x"}}}

    chat = {"title": "Fire", "create_time": 1700000000.0, "update_time": 1700000009.0, "conversation_id": "c-1",
            "current_node": "c", "mapping": {
                "r": {"id": "r", "parent": None, "children": ["a"], "message": None},
                "a": node("a", "r", "user", "Why is fire hot?"), "b": node("b", "a", "assistant", "First answer."),
                "c": node("c", "a", "assistant", "Second answer.")}}
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([chat]))
    first, again = imported(daemon, path), imported(daemon, path)
    assert (first["conversations"], first["messages"], first["branches"]) == (1, 3, 1)
    assert (again["conversations"], again["known"], again["last"]) == (0, 1, first["last"])
    row = daemon.request("GET", f"/v1/hob/conversations/{first['last']}")[2]
    assert [m["content"] for m in row["messages"]] == ["Why is fire hot?", "Second answer."]
    assert row["title"] == "Fire"
    assert "First answer." in done(daemon.run("export", first["last"]))
    hits = daemon.request("GET", "/v1/hob/search?q=second")[2]["hits"]
    assert [h["conversation"] for h in hits] == [first["last"]]


def test_what_llm_logged_is_imported_with_models_and_fragments(two, tmp_path):
    llm = pytest.importorskip("llm", reason="the package llm is not installed")
    import sqlite_utils

    class Canned(llm.Model):
        model_id, can_stream = "canned", False

        def execute(self, prompt, stream, response, conversation):
            yield "About " + prompt.prompt.split()[-1]

    path = tmp_path / "logs.db"
    db = sqlite_utils.Database(path)
    talk_of = Canned().conversation()
    for words in ("tell of bears", "tell of bees"):
        response = talk_of.prompt(words, system="Be brief.", fragments=["A long text."])
        response.text()
        response.log_to_db(db)
    db.close()
    daemon, _ = two
    result = imported(daemon, path)
    assert result["conversations"] == 1 and result["skipped"] == 0
    row = daemon.request("GET", f"/v1/hob/conversations/{result['last']}")[2]
    assert [m["role"] for m in row["messages"]][-4:] == ["user", "assistant", "user", "assistant"]
    assert "A long text." in row["messages"][1]["content"]
    assert row["messages"][-1]["content"] == "About bees"
    turns = daemon.request("GET", f"/v1/hob/conversations/{result['last']}/turns")[2]["turns"]
    assert [(t["model"], t["provider"], t["status"]) for t in turns] == [("canned", "llm", "done")] * 2
    assert imported(daemon, path)["known"] == 1


def test_messages_come_from_standard_input(two):
    daemon, _ = two
    p = daemon.run("import", "--json", "-", input=json.dumps(HELLO))
    assert json.loads(done(p))["messages"] == 2


def test_what_cannot_be_read_is_said(two, tmp_path):
    daemon, _ = two
    for name, data, words in (("a.zip", b"PK\x03\x04rest", "zip archive"), ("b.txt", b"hello", "--format"),
                              ("c.json", b'[{"role":', "JSON"), ("d.jsonl", b'{"hob":1}\n', "line 1")):
        path = tmp_path / name
        path.write_bytes(data)
        p = daemon.run("import", str(path))
        assert p.returncode == 1 and words in p.stderr, (name, p.stderr)
    assert daemon.run("import", str(tmp_path / "absent")).returncode == 1
    assert daemon.run("import").returncode == 2
    assert daemon.run("export").returncode == 2
    assert daemon.run("export", "../../x").returncode == 2
    assert daemon.run("export", "01ARZ3NDEKTSV4RRFFQ69G5FAV").returncode == 1


def test_a_file_that_was_there_survives_an_export_that_fails(two, tmp_path):
    daemon, _ = two
    path = tmp_path / "kept"
    path.write_text("before")
    p = daemon.run("export", "-o", str(path), "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert p.returncode == 1 and path.read_text() == "before"
    assert os.listdir(tmp_path) == ["kept"]


def test_many_conversations_go_in_batches_and_come_back_in_order(two, tmp_path):
    here, there = two
    path = tmp_path / "many.jsonl"
    words = "x" * 20000
    path.write_text("\n".join(json.dumps({"messages": [{"role": "user", "content": f"{i} {words}"}]})
                              for i in range(600)))
    assert imported(here, path)["conversations"] == 600
    out = tmp_path / "all.jsonl"
    done(here.run("export", "--all", "-o", str(out)))
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [m["parts"][0]["text"].split()[0] for m in lines if "parts" in m] == [str(i) for i in range(600)]
