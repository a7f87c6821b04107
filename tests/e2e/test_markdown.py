"""Answers in Markdown on a real pseudo-terminal: what a screen shows, and which bytes it took.

The upstream sends a text in small odd pieces; `GATE` in it holds the stream until the test has seen what
came before.
"""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import threading
import time

import pyte
import pytest
from conftest import HOB
from fake_upstream import DONE, Handler, chunk
from fake_server import Fake

GATE = "\0"
CUT = "\1"
TEXT = """# Kinds of *tea*

Water of **eighty degrees** for `green` tea, see [the guide](http://tea.example/guide). 2 * 3 is 6.

1. Warm the pot
   - [x] with hot water
   - [ ] twice

   ```python
   def brew(leaf: str) -> int:  # minutes
       return 3 if leaf == "green" else 5
   ```
2. Pour

> Tea is drunk slowly, with a friend or with a book, in an armchair by the hob.

| Leaf | Minutes |
|------|--------:|
| 煎茶 | 2 |
| Assam | 5 |
"""


class Typist(Handler):
    """Sends `server.text` in pieces of one to four characters."""

    def mode_doc(self, request):
        self.stream()
        i, size = 0, 0
        text = self.server.text
        while i < len(text):
            size = size % 4 + 1
            if text[i] == GATE:
                self.server.gate.wait(60)
                i += 1
                continue
            if text[i] == CUT:
                self.cut()
                return
            piece = re.split(f"[{GATE}{CUT}]", text[i:i + size])[0]
            self.put(chunk({"content": piece}))
            i += len(piece)
        self.put(chunk(finish="stop") + DONE)
        self.end()


class Screen:
    """A command whose standard output is a terminal of `columns`; errors go to a pipe."""

    def __init__(self, d, *args, columns=80, stdin=subprocess.DEVNULL, **env):
        self.master, self.slave = pty.openpty()
        self.resize(columns)
        self.screen = pyte.Screen(columns, 300)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        own = {k: v for k, v in d.env.items() if k != "NO_COLOR"}
        self.process = subprocess.Popen([HOB, *args], env={**own, "TERM": "xterm", **env}, stdin=stdin,
                                        stdout=self.slave, stderr=subprocess.PIPE)
        os.close(self.slave)

    def resize(self, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 300, columns, 0, 0))

    def read(self, seconds):
        """False at the end."""
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.raw += data
        self.stream.feed(data)
        return bool(data)

    def until(self, text, seconds=60):
        deadline = time.monotonic() + seconds
        while text not in self.text():
            assert time.monotonic() < deadline, f"no {text!r} on:\n{self.text()}"
            assert self.read(1), f"ended without {text!r}:\n{self.text()}"

    def end(self):
        while self.read(60):
            pass
        os.close(self.master)
        self.errors = self.process.stderr.read().decode()
        self.process.stderr.close()
        return self.process.wait(60)

    def lines(self):
        shown = [line.rstrip() for line in self.screen.display]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def text(self):
        return "\n".join(self.lines())

    def find(self, word):
        """The cell in which a word begins."""
        for y, line in enumerate(self.screen.display):
            if word in line:
                return self.screen.buffer[y][line.index(word)]
        raise AssertionError(f"no {word!r} on:\n{self.text()}")


@pytest.fixture
def typist(make_daemon):
    """typist(text) → a daemon whose model fake/doc writes it."""
    ups = []

    def make(text):
        up = Fake(Typist, base="/v1")
        up.server.text = text
        up.server.gate = threading.Event()
        up.__enter__()
        ups.append(up)
        d = make_daemon(f'provider "fake" {{ url = "{up.url}" }}\n', model=False)
        d.gate = up.server.gate
        return d

    yield make
    for up in ups:
        up.server.gate.set()
        up.__exit__(None, None, None)


def test_a_document_is_laid_out_at_eighty_columns(typist):
    s = Screen(typist(TEXT), "run", "fake/doc", "tea?")
    assert s.end() == 0, s.errors
    assert s.lines() == [
        "Kinds of tea",
        "",
        "Water of eighty degrees for green tea, see the guide (http://tea.example/guide).",
        "2 * 3 is 6.",
        "",
        "1. Warm the pot",
        "   ☑ with hot water",
        "   ☐ twice",
        "",
        "   def brew(leaf: str) -> int:  # minutes",
        '       return 3 if leaf == "green" else 5',
        "",
        "2. Pour",
        "",
        "│ Tea is drunk slowly, with a friend or with a book, in an armchair by the hob.",
        "",
        "Leaf  │ Minutes",
        "──────┼────────",
        "煎茶  │       2",
        "Assam │       5",
    ]
    assert s.find("Kinds").bold and s.find("tea").italics
    assert s.find("eighty").bold and not s.find("Water").bold
    assert s.find("green tea").fg == "cyan"
    assert s.find("the guide").underscore
    assert s.find("def").fg == "magenta" and s.find('"green"').fg == "green"
    assert s.find("Pour").fg == "default"


def test_forty_columns_hang_and_lose_nothing(typist):
    s = Screen(typist(TEXT), "run", "fake/doc", "tea?", columns=40)
    assert s.end() == 0, s.errors
    shown = s.lines()
    assert "│ Tea is drunk slowly, with a friend or" in shown
    assert "│ with a book, in an armchair by the" in shown
    assert "│ hob." in shown
    assert "Assam │       5" in shown
    words = re.findall(r"[a-z]{2,}", re.sub(r"```python", "", TEXT))
    assert [w for w in words if w not in s.text().replace("\n", "")] == []


@pytest.mark.parametrize("columns", [1, 7, 20, 80])
def test_nothing_is_ever_taken_back(typist, columns):
    """The terminal gets text, line ends and colours: the cursor never moves back, nothing is erased."""
    s = Screen(typist(TEXT), "run", "fake/doc", "tea?", columns=columns)
    assert s.end() == 0, s.errors
    rest = re.sub(rb"\x1b\[[0-9;]*m", b"", s.raw).replace(b"\r\n", b"\n")
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", rest), rest
    assert not rest.count(b"\n\n\n")


def test_a_pipe_a_dumb_terminal_and_no_color_get_the_text_as_it_is(typist):
    d = typist(TEXT)
    r = d.run("run", "fake/doc", "tea?", stdin=subprocess.DEVNULL)
    assert r.returncode == 0, r.stderr
    assert r.stdout == TEXT
    for env in ({"TERM": "dumb"}, {"NO_COLOR": "1"}):
        s = Screen(d, "run", "fake/doc", "tea?", **env)
        assert s.end() == 0, s.errors
        assert s.raw.decode().replace("\r\n", "\n") == TEXT


def test_text_is_seen_while_the_rest_is_still_to_come(typist):
    d = typist(f"A **bold** word {GATE}\n\n```c\nint main(void) {GATE}{{ }}\n```\n")
    s = Screen(d, "run", "fake/doc", "tea?")
    s.until("A bold word")
    assert "int" not in s.text()
    d.gate.set()
    assert s.end() == 0, s.errors
    assert s.lines() == ["A bold word", "", "int main(void) { }"]


def test_a_resize_takes_effect_on_the_next_line(typist):
    d = typist("one two three four five six seven eight nine ten done " + GATE +
               "eleven twelve thirteen fourteen fifteen sixteen seventeen")
    s = Screen(d, "run", "fake/doc", "tea?", columns=60)
    s.until("done")
    s.resize(20)
    d.gate.set()
    assert s.end() == 0, s.errors
    assert s.lines() == ["one two three four five six seven eight nine ten done eleven",
                         "twelve thirteen", "fourteen fifteen", "sixteen seventeen"]


def test_an_answer_that_breaks_off_leaves_no_colour_behind(typist):
    s = Screen(typist('```c\nchar *s = "never clo' + CUT), "run", "fake/doc", "tea?")
    assert s.end() != 0
    assert 's = "never clo' in s.text()
    assert s.find('"never').fg == "green"
    assert s.raw.rstrip().endswith(b"\x1b[0m")
    assert s.raw.endswith(b"\n")


def test_ctrl_c_in_the_middle_of_code_leaves_no_colour_behind(typist):
    """What hob chat writes behind a stopped answer stands on a line of its own, in no colour of it."""
    d = typist('```c\nchar *s = "never clo' + GATE)
    stdin, keys = os.pipe()
    s = Screen(d, "chat", "fake/doc", stdin=stdin)
    os.close(stdin)
    os.write(keys, b"tea?\n")
    s.until("never clo")
    s.process.send_signal(2)
    os.close(keys)
    s.end()
    assert s.raw.rstrip().endswith(b"\x1b[0m"), s.raw


@pytest.mark.parametrize("evil", ["[a](http://x/\x1b]0;t\x07)", "```\x1b[2J\nx\n```", "&#27;[2J &#x9b;2J",
                                  "`\x1b[2J`", "# \x1b[2J", "|\x1b[2J|\n|-|\n", "\\\x1b[2J"])
def test_no_markdown_becomes_an_escape_sequence(typist, evil):
    s = Screen(typist(evil), "run", "fake/doc", "tea?")
    assert s.end() == 0, s.errors
    assert b"\x1b" not in re.sub(rb"\x1b\[0(;[0-9]+)*m", b"", s.raw)
    assert b"\x07" not in s.raw and b"\xc2\x9b" not in s.raw
