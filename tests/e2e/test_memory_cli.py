"""hob history, search, note, forget and backup on a terminal and in pipes."""

import json
import re
import time

import pytest

from conftest import HOB
from fake_upstream import WORDS
from test_cli import Terminal
from test_memory_api import ROWS, config, ok, say, texts

TEXT = "".join(WORDS)


@pytest.fixture
def daemon(make_daemon, up):
    return make_daemon(config(up), {"FAKE_KEY": "sk-test"}, model=False)


def run(d, *args, status=0, **more):
    r = d.run(*args, **more)
    assert r.returncode == status, (args, r.stdout, r.stderr)
    return r.stdout if status == 0 else r.stderr


def test_history_lists_shows_pins_and_titles(daemon):
    assert "No conversations yet" in run(daemon, "history")
    a, b = say(daemon, "First \x1b[31mone"), say(daemon, "Second one")
    lines = run(daemon, "history").splitlines()
    assert lines[0].split() == ["ID", "MESSAGES", "MODEL", "UPDATED", "MARKS", "TITLE"]
    assert [line.split()[0] for line in lines[1:]] == [b, a]
    assert "\x1b" not in "".join(lines)
    assert len(run(daemon, "history", "-n", "1").splitlines()) == 2
    assert f"{a}: " in run(daemon, "history", "--pin", a) and "pinned" in run(daemon, "history")
    assert run(daemon, "history", "--title", a, "A", "better title") == f"{a}: A better title (pinned)\n"
    assert "(pinned)" not in run(daemon, "history", "--unpin", a)
    shown = run(daemon, "history", b)
    assert shown == f"user:\nSecond one\n\nassistant:\n{TEXT}\n\n"
    assert run(daemon, "history", "last") == shown
    assert json.loads(run(daemon, "history", "--json", "--pin", b))["pinned"] is True
    assert json.loads(run(daemon, "history", "--json"))["conversations"][0]["id"] == b


def test_an_answer_that_broke_off_is_shown_as_such(daemon):
    c = say(daemon, "One")
    assert daemon.ask("fake/gone", {"x-hob-conversation": c}, messages=[{"role": "user", "content": "Two"}])[0] != 200
    row = ok(daemon.request("GET", f"{ROWS}/{c}"))
    shown = run(daemon, "history", c)
    if row["partial"]:
        assert f"assistant ({row['status']}):\n{row['partial']}" in shown
    assert row["status"] == "error"
    assert shown.startswith("user:\nOne\n")


@pytest.mark.parametrize("args, says", [
    (("history", "a/b"), "no conversation's ID"),
    (("history", "x", "y"), "too many"),
    (("history", "-n", "0"), "1 to 1000"),
    (("history", "--pin", "a", "--unpin", "b"), "one of them"),
    (("history", "--title", "x"), "needs a TEXT"),
    (("history", "--pin", "x", "y"), "too many"),
    (("search",), "what shall be looked for?"),
    (("search", "x", "--in", "../x"), "no conversation's ID"),
    (("search", "x", "-n", "201"), "1 to 200"),
    (("note", "x", "--list"), "one of them"),
    (("note", "--delete", "0"), "1 to"),
    (("note", "x", "-c", "a b"), "no conversation's ID"),
    (("forget",), "one of ID, --before DATE and --all"),
    (("forget", "x", "--all"), "one of ID, --before DATE and --all"),
    (("forget", "x", "y", "--yes"), "one ID at a time"),
    (("forget", "--before", "2026-02-30", "--yes"), "not a date"),
    (("forget", "--before", "2026-1-3", "--yes"), "not a date"),
    (("forget", "--before", "30", "--yes"), "not a date"),
    (("forget", "--before", "forever", "--yes"), "not a date"),
    (("forget", "--before", "9999-01-01", "--yes"), "in the future"),
    (("forget", "--all"), "say --yes"),
    (("backup",), "FILE is needed"),
    (("backup", "a", "b"), "too many"),
])
def test_wrong_arguments_are_named_before_anything_is_done(daemon, args, says):
    assert says in run(daemon, *args, status=2, stdin=-3)


def test_search_shows_where_and_marks_what(daemon):
    c = say(daemon, "An old xylophone.\x1b[2J A \x07bell.")
    out = run(daemon, "search", "xylophone")
    assert out.startswith(f"{c}  user, ") and "*xylophone*" in out and "\x1b" not in out and "\x07" not in out
    assert run(daemon, "search", "unheard") == "Nothing found.\n"
    assert run(daemon, "search", "--in", c, "old", "xylophone").count("\n\n") == 1
    assert json.loads(run(daemon, "search", "--json", "xylophone"))["hits"][0]["conversation"] == c
    assert run(daemon, "search", "--", "old", "-xylophone") == "Nothing found.\n"
    t = Terminal(daemon, "search", "xylophone")
    t.expect("\x1b\\[1mxylophone\x1b\\[0m")
    assert t.end() == 0
    t = Terminal(daemon, "search", "xylophone", NO_COLOR="1")
    t.expect(r"\*xylophone\*")
    assert t.end() == 0


def test_notes_are_made_listed_and_deleted(daemon, up):
    assert "No notes" in run(daemon, "note")
    assert run(daemon, "note", "My cat is", "called Mio.") == "Note 1\n"
    c = say(daemon, "Hello")
    assert "My cat is called Mio." in json.dumps(up.seen[-1]["body"]["messages"])
    run(daemon, "note", "--conversation", "last", "Only here")
    listed = run(daemon, "note", "--list", "-c", c)
    assert re.search(r"1  all +\d+ s ago  My cat is called Mio\.", listed) and c in listed and "Only here" in listed
    assert "Only here" not in run(daemon, "note")
    assert run(daemon, "note", "--delete", "1") == "Note 1 is deleted.\n"
    run(daemon, "note", "--delete", "1", status=1)
    assert "No notes" in run(daemon, "note")


def test_forget_asks_on_a_terminal_and_does_nothing_without_a_yes(daemon):
    c = say(daemon, "Keep me")
    for answer in ("\r", "n\r", "what\r"):
        t = Terminal(daemon, "forget", c)
        t.expect(r'Forget conversation ' + c + r', "Keep me", 2 messages\?')
        t.send(answer)
        t.expect("Nothing was forgotten")
        assert t.end() == 1
    t = Terminal(daemon, "forget", "--all")
    t.expect(r"Forget all 1 conversations but pinned ones\?")
    t.send("\x03")
    t.expect("Nothing was forgotten")
    assert t.end() == 130
    assert texts(daemon, c) == ["Keep me", TEXT]
    t = Terminal(daemon, "forget", c)
    t.expect(r"\[y/N\] ")
    t.send("y\r")
    t.expect("Forgotten: 1 conversation with 2 messages")
    assert t.end() == 0
    assert daemon.request("GET", f"{ROWS}/{c}")[0] == 404


def test_forget_by_age_spares_what_is_young_or_pinned(daemon):
    c, pinned = say(daemon, "One"), say(daemon, "Two")
    run(daemon, "history", "--pin", pinned)
    assert "Forgotten: 0 conversations" in run(daemon, "forget", "--before", "2001-01-31", "--yes")
    assert "Forgotten: 0 conversations" in run(daemon, "forget", "--before", "30d", "-y")
    while ok(daemon.request("GET", f"{ROWS}/{c}"))["updated_ms"] >= time.time() * 1000:
        time.sleep(0.01)
    assert json.loads(run(daemon, "forget", "--before", "0s", "-y", "--json"))["conversations"] == 1
    assert [r["id"] for r in ok(daemon.request("GET", ROWS))["conversations"]] == [pinned]
    assert "1 conversation" in run(daemon, "forget", "--all", "--pinned", "--yes")
    run(daemon, "forget", c, "--yes", status=1)


def test_backup_takes_a_name_relative_to_where_one_is(daemon, tmp_path):
    say(daemon, "One")
    out = run(daemon, "backup", "copy.db", cwd=tmp_path)
    assert out.startswith(f"{tmp_path}/copy.db: ")
    assert (tmp_path / "copy.db").stat().st_size > 0
    assert "copy.db" in run(daemon, "backup", "copy.db", cwd=tmp_path, status=1)


@pytest.mark.parametrize("args", [("history",), ("search", "x"), ("note",), ("forget", "--all", "-y"), ("backup", "x")])
def test_without_a_daemon_and_not_to_start_one_it_is_status_4(make_daemon, args):
    d = make_daemon(model=False, start=False)
    assert run(d, *args, "--no-start", status=4)
    assert HOB
