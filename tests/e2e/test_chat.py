"""`hob chat` on a pseudo-terminal: what a person sees, and what reaches the model."""

import os
import re
import signal
import stat

import pytest
from conftest import MODEL_NAME
from fake_upstream import WORDS
from terminal import Screen

ANSWER = "".join(WORDS)
REMOTE = 'provider "fake" { kind = "openai" url = "%s" }\n'


@pytest.fixture
def remote(make_daemon, up):
    """A daemon that knows only the fake upstream: nothing here needs a model."""
    return make_daemon(REMOTE % up.url, model=False)


@pytest.fixture
def screen(remote):
    """screen(*args, **more) → `hob chat` on a terminal of its own."""
    opened = []

    def open_screen(*args, daemon=None, **more):
        s = Screen(daemon or remote, "chat", *args, **more)
        opened.append(s)
        return s

    yield open_screen
    for s in opened:
        s.close()


def asked(up, i=-1):
    """The messages of a request as (role, text)."""
    return [(m["role"], m["content"]) for m in up.seen[i]["body"]["messages"]]


def test_an_answer_streams_and_a_status_line_follows(screen, up):
    s = screen("fake/ok")
    s.prompt()
    s.send("What is the capital of France?\r")
    s.wait(r"Paris\.\nfake/ok · .*fake · 17 tokens")
    s.prompt()
    assert asked(up) == [("user", "What is the capital of France?")]
    s.send("\x04")
    assert s.end() == 0
    assert s.is_as_found()


def test_enter_behind_a_backslash_alt_enter_and_ctrl_j_begin_another_line(screen, up):
    s = screen("fake/ok")
    s.prompt()
    s.send("one\\\rtwo\x1b\rthree\x0afour")
    s.wait(r"> one\ntwo\nthree\nfour")
    assert up.seen == []
    s.send("\r")
    s.wait(ANSWER)
    assert asked(up) == [("user", "one\ntwo\nthree\nfour")]


def test_up_and_down_move_in_the_prompt_and_then_in_the_history(screen, up):
    s = screen("fake/ok")
    s.prompt()
    s.send("alpha\x0abeta\r")
    s.wait(ANSWER)
    s.prompt()
    s.send("half")
    s.wait(lambda: s.row() == "> half")
    s.send("\x1b[A")
    s.wait(lambda: s.row() == "beta")  # the whole entry, the cursor at its end
    s.send("\x1b[A!")
    s.wait(r"> alph!a\nbeta")
    s.send("\x1b[B\x1b[B")
    s.wait(lambda: s.row() == "> half")
    s.send("\r")
    s.wait(lambda: len(up.seen) == 2)
    assert asked(up)[-1] == ("user", "half")


def test_a_paste_of_200_lines_is_one_prompt_with_those_bytes(screen, up):
    text = "".join(f"line {i}\twith tab, 日本語 and \\ at the end \\\n" for i in range(200))
    s = screen("fake/ok")
    s.prompt()
    s.send("Look: ")
    s.paste(text)
    s.wait(lambda: s.row() == "> Look: [pasted 200 lines]")
    assert up.seen == []
    s.send(" What is it?\r")
    s.wait(ANSWER)
    assert asked(up) == [("user", "Look: " + text + " What is it?")]


def test_a_small_paste_is_inserted_and_neither_submits_nor_completes_nor_commands(screen, up):
    s = screen("fake/ok")
    s.prompt()
    s.paste("/quit\n\t/model\n")
    s.wait(r"> /quit\n +/model")
    assert s.process.poll() is None
    s.send("end\r")
    s.wait(ANSWER)
    assert asked(up) == [("user", "/quit\n\t/model\nend")]


def test_a_large_paste_that_begins_like_a_command_is_text(screen, up):
    text = "/quit " + "x" * 3000
    s = screen("fake/ok")
    s.prompt()
    s.paste(text)
    s.wait(lambda: s.row() == "> [pasted 3006 bytes]")
    s.send("\r")
    s.wait(ANSWER)
    assert asked(up) == [("user", text)]


def test_a_placeholder_is_deleted_as_one_and_two_of_a_size_differ(screen, up):
    first, second = "a\n" * 20, "b\n" * 20
    s = screen("fake/ok")
    s.prompt()
    s.paste(first)
    s.paste(second)
    s.wait(lambda: s.row() == "> [pasted 20 lines][pasted 20 lines #2]")
    s.send("\x7f")
    s.wait(lambda: s.row() == "> [pasted 20 lines]")
    s.send("\x7f")
    s.wait(lambda: s.row() == ">")
    s.paste(second)
    s.wait(r"> \[pasted 20 lines")
    s.send("\r")
    s.wait(ANSWER)
    assert asked(up) == [("user", second)]


def test_a_paste_whose_end_never_comes_does_not_hang_the_prompt(screen, up):
    s = screen("fake/ok")
    s.prompt()
    s.send("\x1b[200~lost")
    s.wait(lambda: s.row() == "> lost")  # after the time-out
    s.send("\r")
    s.wait(ANSWER)
    assert asked(up) == [("user", "lost")]


def test_lines_without_paste_markers_are_prompts_as_ever(screen, up):
    s = screen("fake/ok")
    s.prompt()
    s.send("one\rtwo\r")
    s.wait(lambda: len(up.seen) == 2, what="two prompts")
    assert [asked(up, i)[-1][1] for i in (0, 1)] == ["one", "two"]


def test_what_is_typed_while_an_answer_comes_waits_for_its_prompt(screen, up):
    s = screen("fake/unhurried")
    s.prompt()
    s.send("go\r")
    s.wait("capital")
    s.send("second\rhalf")
    s.wait(r"> go\n" + re.escape(ANSWER) + r"\nfake/.*\n> second\n" + re.escape(ANSWER) + r"\nfake/.*\n> half$")
    assert asked(up) == [("user", "go"), ("assistant", ANSWER), ("user", "second")]


def test_ctrl_c_stops_the_answer_and_the_partial_one_counts(screen, up):
    s = screen("fake/slow")
    s.prompt()
    s.send("go\r")
    s.wait("tick tick")
    s.send("\x03")
    s.wait(r"\(stopped\)")
    s.prompt()
    assert up.wait_gone(30)
    s.send("/history\r")
    s.wait(r"user: go\nassistant: tick tick")
    s.send("/model fake/ok\r")
    s.wait("now: fake/ok")
    s.send("again\r")
    s.wait(ANSWER)
    roles = [r for r, _ in asked(up)]
    assert roles[0] == "user" and asked(up)[-1] == ("user", "again")


def test_ctrl_c_clears_a_line_and_up_brings_it_back(screen):
    s = screen("fake/ok")
    s.prompt()
    s.send("precious")
    s.wait(lambda: s.row() == "> precious")  # before: Ctrl-C empties the terminal's queue
    s.send("\x03")
    s.wait("leaves")
    s.prompt()
    s.send("\x1b[A")
    s.wait(lambda: s.row() == "> precious")


def test_ctrl_c_in_the_first_of_three_lines_leaves_them_whole(screen):
    s = screen("fake/ok")
    s.prompt()
    s.send("one\x0atwo\x0athree\x1b[A\x1b[A")
    s.wait(lambda: s.row() == "> one" and "three" in s.text())
    s.send("\x03")
    s.wait(r"> one\ntwo\nthree\^C\n.*leaves")
    s.prompt()


def test_candidates_are_listed_above_a_prompt_of_three_lines(screen):
    s = screen("fake/ok")
    s.prompt()
    s.send("/p\x0atwo\x0athree\x1b[A\x1b[A")
    s.wait(lambda: s.row() == "> /p" and "three" in s.text())
    s.send("\t")
    s.wait(r"/persona +/pin +/private\n> /p\ntwo\nthree$")
    s.wait(lambda: s.row() == "> /p" and s.screen.cursor.x == 4)


@pytest.mark.parametrize("columns", [40, 80])
def test_wide_characters_wrap_and_are_deleted_whole(screen, up, columns):
    text = "日本語" * 20  # 120 columns
    s = screen("fake/ok", columns=columns)
    s.prompt()
    s.send(text + "xy")
    s.wait(lambda: "".join(s.lines()).replace(" ", "").endswith(text + "xy"), what="all of it")
    s.send("\x7f\x7f\x7f")
    s.wait(lambda: "".join(s.lines()).replace(" ", "").endswith(text[:-1]), what="three fewer")
    s.send("\r")
    s.wait(lambda: len(up.seen) == 1)
    assert asked(up) == [("user", text[:-1])]
    s.prompt()
    assert all(len(line) <= columns for line in s.lines())


def test_the_status_line_keeps_to_one_row_at_40_columns(screen):
    s = screen("fake/ok", columns=40)
    s.prompt()
    s.send("hi\r")
    s.wait("fake/ok · ")
    s.prompt()
    lines = s.lines()
    at = next(i for i, line in enumerate(lines) if line.startswith("fake/ok · "))
    assert lines[at + 1] == ">"


def test_a_resize_while_typing_keeps_the_line(screen, up):
    text = "word " * 16
    s = screen("fake/ok", columns=80)
    s.prompt()
    s.send(text)
    s.wait(lambda: s.row() == "d")
    s.resize(24, 40)
    s.send("end")
    s.wait(lambda: "".join(s.lines()).endswith("end"), what="the line drawn anew")
    s.send("\r")
    s.wait(lambda: len(up.seen) == 1)
    assert asked(up) == [("user", text + "end")]


def test_a_resize_while_an_answer_streams_is_followed(screen, up):
    s = screen("fake/slow", columns=80)
    s.prompt()
    s.send("go\r")
    s.wait("tick tick")
    s.resize(24, 40)
    s.wait("(tick ){5}")
    s.send("\x03")
    s.wait(r"\(stopped\)")
    s.prompt()
    s.send("y" * 50)
    s.wait(lambda: s.lines()[s.screen.cursor.y - 1] == "> " + "y" * 38 and s.row() == "y" * 12,
           what="wrapped at 40")


def test_a_dumb_terminal_gets_plain_lines(screen, up):
    s = screen("fake/ok", env={"TERM": "dumb"})
    s.wait(lambda: s.row() == ">")
    s.send("one \\\r")
    s.wait(lambda: s.row() == ".")
    s.send("two\r")
    s.wait(ANSWER)
    s.wait("17 tokens")
    assert b"\x1b" not in s.raw
    assert asked(up) == [("user", "one \ntwo")]
    s.send("\x04")
    assert s.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGSEGV, signal.SIGABRT,
                                    signal.SIGBUS])
@pytest.mark.parametrize("model", ["fake/ok", "fake/slow"])
def test_any_signal_gives_the_terminal_back(screen, number, model):
    s = screen(model)
    s.prompt()
    assert not s.is_as_found()
    if model == "fake/slow":  # in the middle of an answer
        s.send("go\r")
        s.wait("tick tick")
    s.process.send_signal(number)
    assert s.end() != 0
    assert s.is_as_found()


def test_a_signal_that_the_caller_ignores_stays_ignored(screen):
    s = screen("fake/ok", shell='trap "" HUP; exec "$@"')  # as nohup does
    s.prompt()
    s.process.send_signal(signal.SIGHUP)
    s.send("abc")
    s.wait(lambda: s.row() == "> abc")
    assert not s.is_as_found()
    s.send("\r")
    s.prompt()


def test_ctrl_z_gives_the_terminal_back_and_takes_it_again(screen, up):
    """Under a shell, because nobody could continue an orphan that stops."""
    s = screen("fake/ok", shell='set -m; "$@"; echo stopped; read line; fg >/dev/null')
    s.prompt()
    s.send("half")
    s.wait(lambda: s.row() == "> half")
    s.send("\x1a")
    s.wait("stopped")
    assert s.is_as_found()
    s.send("\r")
    s.wait(s.pastes, what="paste mode on")
    s.send(" whole\r")
    s.wait(ANSWER)
    assert asked(up) == [("user", "half whole")]


def test_tab_completes_commands_models_and_files(screen, remote, up):
    (remote.home / "my notes.txt").write_text("the note\n")
    (remote.home / "my nothing.bin").write_bytes(b"\0\1\2")
    s = screen("fake/ok")
    s.prompt()
    s.send("/rege\t")
    s.wait(lambda: s.row() == "> /regenerate")
    s.send("\x15/p\t")
    s.wait(r"/persona +/pin +/private")
    s.wait(lambda: s.row() == "> /p")
    s.send("\x15/model fake/o\t")
    s.wait(lambda: s.row() == "> /model fake/ok")
    s.send("\x15/file ~/my\t")
    s.wait(lambda: s.row() == r"> /file ~/my\ not")
    s.send("es\t")
    s.wait(lambda: s.row() == r"> /file ~/my\ notes.txt")
    s.send("\r")
    s.wait("goes with the next prompt")
    s.prompt()
    s.send("/file ~/my*.bin\r")
    s.wait("neither UTF-8 text")
    s.send("What does it say?\r")
    s.wait(ANSWER)
    assert asked(up) == [("user", "my notes.txt:\n```txt\nthe note\n```\n\nWhat does it say?")]


def test_an_image_goes_as_a_part_of_the_message(screen, remote, up):
    png = b"\x89PNG\r\n\x1a\n" + bytes(20)
    (remote.home / "a.png").write_bytes(png)
    s = screen("fake/ok")
    s.prompt()
    s.send("/file ~/a.png\r")
    s.wait("image .* goes with the next prompt")
    s.send("What is this?\r")
    s.wait(ANSWER)
    text, image = up.seen[-1]["body"]["messages"][0]["content"]
    assert text["text"] == "What is this?"
    assert image["image_url"]["url"].startswith("data:image/png;base64,iVBORw0KGgoAAAAA")


def test_the_history_file_is_private_and_keeps_whole_prompts_of_two_chats(screen, remote):
    a, b = screen("fake/ok"), screen("fake/ok")
    for s, name in ((a, "first"), (b, "second"), (a, "third")):
        s.prompt()
        s.send(f"{name}\x0aof two lines\r")
        s.wait(rf"{name}\nof two lines\n+The")
    for s in (a, b):
        s.prompt()
        s.send("\x04")
        assert s.end() == 0
    path = remote.home / "state/hob/chat_history"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    c = screen("fake/ok")
    c.prompt()
    for name in ("third", "second", "first"):
        c.send("\x1b[A\x1b[A")  # the entry, then its first line: the next one is the entry before
        c.wait(lambda name=name: c.lines()[c.screen.cursor.y] == f"> {name}")


def test_private_prompts_are_not_in_the_history_file(screen, remote):
    s = screen("--incognito", "fake/ok")
    s.prompt("incognito> ")
    s.send("my secret\r")
    s.wait(r"my secret\n")
    s.prompt("incognito> ")
    s.send("\x04")
    assert s.end() == 0
    assert "secret" not in (remote.home / "state/hob/chat_history").read_text()


def test_an_unknown_command_names_the_nearest_and_asks_nobody(screen, up):
    s = screen("fake/ok")
    s.prompt()
    s.send("/regnerate\r")
    s.wait("did you mean /regenerate")
    assert up.seen == []


@pytest.mark.parametrize("memory", ["true", "false"])
def test_regenerate_edit_and_undo_replace_what_comes_after(screen, make_daemon, up, memory):
    d = make_daemon(REMOTE % up.url + f"memory {{ enabled = {memory} }}\n", model=False)
    s = screen("fake/ok", daemon=d)
    s.prompt()
    for prompt in ("one", "two"):
        s.send(prompt + "\r")
        s.wait(lambda p=prompt: up.seen and asked(up)[-1] == ("user", p))
        s.prompt()
    before = asked(up)
    s.send("/regenerate\r")
    s.wait(lambda: len(up.seen) == 3)
    assert asked(up) == before
    s.prompt()
    s.send("/edit\r")
    s.wait(lambda: s.row() == "edit> two")
    s.send(" more\r")
    s.wait(lambda: len(up.seen) == 4)
    assert asked(up) == before[:-1] + [("user", "two more")]
    s.prompt()
    s.send("/edit 2\r")
    s.wait(lambda: s.row() == "edit> one")
    s.send("\x15ONE\r")
    s.wait(lambda: len(up.seen) == 5)
    assert asked(up) == [("user", "ONE")]
    s.prompt()
    s.send("/undo\r")
    s.wait("taken back: 2 messages")
    s.prompt()
    s.send("three\r")
    s.wait(lambda: len(up.seen) == 6)
    assert asked(up) == [("user", "three")]
    s.prompt()


def test_the_first_prompt_behind_given_instructions_can_be_edited(screen, up):
    s = screen("-s", "Be brief.", "fake/ok")
    s.prompt()
    s.send("one\r")
    s.wait(ANSWER)
    s.prompt()
    s.send("/edit\r")
    s.wait(lambda: s.row() == "edit> one")
    s.send("!\r")
    s.wait(lambda: len(up.seen) == 2)
    assert asked(up) == [("system", "Be brief."), ("user", "one!")]


def test_a_branch_that_fails_leaves_the_conversation_where_it_was(screen, up):
    s = screen("fake/ok")
    s.prompt()
    s.send("one\r")
    s.wait(ANSWER)
    s.prompt()
    s.send("/regenerate fake/400\r")
    s.wait("temperature is odd")
    s.prompt()
    s.send("two\r")
    s.wait(lambda: len(up.seen) == 3)
    assert asked(up) == [("user", "one"), ("assistant", ANSWER), ("user", "two")]


def test_a_chat_that_began_private_stays_so_for_whoever_goes_on(screen, make_daemon, up):
    d = make_daemon(REMOTE % up.url)
    s = screen("--private", "-n", "4", MODEL_NAME, daemon=d)
    s.prompt("private> ")
    s.send("my secret\r")
    s.wait(rf"{MODEL_NAME} · ")
    s.prompt("private> ")
    s.send("\x04")
    assert s.end() == 0
    s = screen("-c", "-m", "fake/ok", daemon=d)
    s.prompt("private> ")
    s.send("tell me\r")
    s.wait(r"tell me\n.*private", what="a refusal")
    assert up.seen == []


def test_an_incognito_chat_goes_on_and_leaves_no_file_with_its_words(screen, remote, up):
    s = screen("--incognito", "fake/ok")
    s.prompt("incognito> ")
    for word in ("zanzibar", "again"):
        s.send(word + "\r")
        s.wait(lambda w=word: up.seen and asked(up)[-1] == ("user", w))
        s.prompt("incognito> ")
    assert [text for _, text in asked(up)] == ["zanzibar", ANSWER, "again"]
    s.send("\x04")
    assert s.end() == 0
    for path in remote.home.rglob("*"):
        if path.is_file():
            assert b"zanzibar" not in path.read_bytes(), path


PERSONA = 'persona "brief" { system = "Be brief." model = "fake/ok" description = "says little" }\n'


def test_a_persona_brings_its_instructions_and_its_model(screen, make_daemon, up):
    d = make_daemon(REMOTE % up.url + PERSONA, model=False)
    s = screen("-P", "brief", daemon=d)
    s.prompt()
    s.send("hello\r")
    s.wait(r"fake/ok · ")
    assert asked(up) == [("system", "Be brief."), ("user", "hello")]
    s.prompt()
    s.send("/persona bref\r")
    s.wait("did you mean 'brief'")
    s.prompt()
    s.send("/persona\r")
    s.wait(r"\* brief  \(fake/ok\)  says little")
    s.prompt()
    s.send("/persona br\t")
    s.wait(lambda: s.row() == "> /persona brief")


def test_edit_in_an_editor_of_ones_own(screen, make_daemon, up):
    d = make_daemon(REMOTE % up.url + "memory { enabled = false }\n", model=False)
    s = screen("fake/ok", daemon=d, env={"EDITOR": "sed -i s/one/uno/", "VISUAL": ""})
    s.prompt()
    s.send("one\r")
    s.wait(ANSWER)
    s.prompt()
    s.send("/edit -e\r")
    s.wait(lambda: len(up.seen) == 2)
    assert asked(up) == [("user", "uno")]
    s.prompt()


def test_a_fork_leaves_the_first_conversation_as_it_was(screen, remote, up):
    s = screen("fake/ok")
    s.prompt()
    s.send("one\r")
    s.wait(ANSWER)
    s.prompt()
    s.send("/fork Another way\r")
    s.wait(r"in a copy now: Another way")
    s.prompt()
    s.send("two\r")
    s.wait(lambda: len(up.seen) == 2)
    assert asked(up) == [("user", "one"), ("assistant", ANSWER), ("user", "two")]
    s.prompt()
    s.send("/list\r")
    s.wait(r"\* 1  Another way")
    s.send("/open 2\r")
    s.wait("2 messages")
    s.send("three\r")
    s.wait(lambda: len(up.seen) == 3)
    assert asked(up) == [("user", "one"), ("assistant", ANSWER), ("user", "three")]


def test_what_is_said_is_found_opened_named_kept_and_forgotten(screen, remote, up):
    s = screen("fake/ok")
    s.prompt()
    s.send("Where is the zebra?\r")
    s.wait(ANSWER)
    s.prompt()
    for command, said in (("/title Animals", "titled: Animals"), ("/pin", "kept whatever"),
                          ("/note likes zebras", "noted"), ("/cost", r"fake/ok: 1 turn,.*\$0.000125"),
                          ("/why", "reason"), ("/stats", "cost +0.000125 USD"),
                          (f"/save {remote.home}/a.md", "saved in")):
        s.send(command + "\r")
        s.wait(said)
        s.prompt()
    assert "zebra" in (remote.home / "a.md").read_text()
    s.send("/new\r")
    s.wait("a new conversation")
    s.prompt()
    s.send("/search zebra\r")
    s.wait(r" 1  Animals")
    s.prompt()
    s.send("/open 1\r")
    s.wait("going on with: Animals, 2 messages")
    s.prompt()
    s.send("/forget\r")
    s.wait("Forget it for good")
    s.send("y\r")
    s.wait("forgotten")
    s.prompt()
    s.send("/search zebra\r")
    s.wait("nothing found")


def test_the_reason_stands_in_the_status_line_when_an_answer_fell_back(screen, make_daemon, up):
    d = make_daemon(REMOTE % up.url + 'route "smart" { candidates = {"fake/500", "fake/ok"} }\n', model=False)
    s = screen("smart", daemon=d, columns=200)
    s.prompt()
    s.send("hello\r")
    s.wait(r"fake/ok · .*17 tokens · .*fake/500")
    s.prompt()
    s.send("/why\r")
    s.wait(r"asked +smart\nroute +smart\nmodel +fake/ok\n")
    s.wait(r"reason +.*fake/500")
    s.wait(r"tried +fake/500: .*status 500")
    s.wait(r"outcome +finished\n")


def test_help_has_no_broken_words_on_a_narrow_terminal(screen, up):
    s = screen("fake/ok", columns=40, rows=80)
    s.prompt()
    s.send("/help\r")
    s.wait(r"\n/model \[NAME\]\n  switch to another model; list them\n")
    s.wait(r"\nA space before the slash\nsends it as text\.\n")


def test_no_more_tokens_are_shown_than_the_context_holds(screen, make_daemon, up):
    d = make_daemon(REMOTE % up.url + 'model "fake/ok" { ctx = 16 }\n', model=False)
    s = screen("fake/ok", daemon=d)
    s.prompt()
    s.send("hi\r")
    s.wait(r"fake/ok · .* · 16/16 ·")


def test_a_chat_says_once_that_it_is_not_remembered(screen, make_daemon, up):
    d = make_daemon(REMOTE % up.url + "memory { enabled = false }\n", model=False)
    s = screen("fake/ok", daemon=d, columns=120)
    s.prompt()
    s.send("hello\r")
    s.wait("not remembered: memory is off")
    s.prompt()
    s.send("and again\r")
    s.wait(lambda: len(up.seen) == 2)
    s.prompt()
    s.send("/why\r")
    s.wait("reason .*not remembered: memory is off")
    assert s.text().count("not remembered") == 2


def test_run_gives_the_terminal_back_too(screen, remote, up):
    s = Screen(remote, "run", "fake/slow", "go", "on")
    try:
        s.wait("tick tick")
        s.process.send_signal(signal.SIGTERM)
        assert s.end() == -signal.SIGTERM
        assert s.is_as_found()
    finally:
        s.close()


def test_a_private_conversation_never_goes_to_a_remote_model(screen, up):
    s = screen("fake/ok")
    s.prompt()
    s.send("hello\r")
    s.wait(ANSWER)
    s.prompt()
    s.send("/private on\r")
    s.prompt("private> ")
    s.send("secret\r")
    s.wait("private", what="a refusal")
    s.prompt("private> ")
    assert len(up.seen) == 1


def test_system_text_goes_before_the_next_prompt(screen, up):
    s = screen("fake/ok")
    s.prompt()
    s.send("/system Be brief.\r")
    s.wait("from the next prompt on")
    s.send("hello\r")
    s.wait(ANSWER)
    assert asked(up) == [("system", "Be brief."), ("user", "hello")]
    s.prompt()
    s.send("/system\r")
    s.wait(r"/system\nBe brief\.")


def test_models_switch_in_one_conversation_local_remote_local(make_daemon, up, screen):
    d = make_daemon(REMOTE % up.url)
    s = screen(MODEL_NAME, "-t", "0", "-n", "6", daemon=d)
    s.prompt()
    s.send("My cat is called Mio.\r")
    s.wait(rf"{MODEL_NAME} · ")
    s.prompt()
    s.send("/model fake/ok\r")
    s.wait("now: fake/ok")
    s.send("What is she called?\r")
    s.wait(ANSWER)
    messages = asked(up)
    assert messages[0] == ("user", "My cat is called Mio.")
    assert messages[1][0] == "assistant" and messages[1][1]
    assert messages[2] == ("user", "What is she called?")
    s.prompt()
    s.send(f"/model {MODEL_NAME}\r")
    s.wait(f"now: {MODEL_NAME}")
    s.send("And now?\r")
    s.wait(lambda: len(re.findall(rf"{MODEL_NAME} · ", s.all())) == 2)
    s.prompt()
    s.send("/history\r")
    s.wait(r"user: And now\?\nassistant: ")
    assert len(up.seen) == 1
    s.send("/model\r")
    s.wait(rf"\* {MODEL_NAME}  \((ram|vram)\)")
    s.wait(r"  fake/ok  \(remote\)")
