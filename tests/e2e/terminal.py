"""A command on a pseudo-terminal, and the screen that a person would see (by pyte).

`Screen(daemon, "chat", ...)`: send(), paste(), resize(); wait(condition) reads on until the condition
holds for the screen.  Nothing here sleeps: each wait ends when the program has said what is waited for.
"""

import fcntl
import os
import pty
import re
import resource
import select
import signal
import struct
import subprocess
import termios
import time

import pyte
from conftest import HOB

PASTE_MODE = 2004 << 5  # as pyte keeps private modes


class Screen:
    def __init__(self, daemon, *args, columns=80, rows=24, env=None, shell=None):
        master, self.slave = pty.openpty()
        self.fd = master
        self.raw = b""
        self.screen = pyte.HistoryScreen(columns, rows, history=5000)
        self.stream = pyte.ByteStream(self.screen)
        self._size(rows, columns)
        self.found = termios.tcgetattr(self.slave)

        def take_terminal():
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # some tests make it crash
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
                signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may ignore them
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        whole = {**daemon.env, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(env or {})}
        command = ["sh", "-c", shell, "sh"] if shell else []  # it runs "$@"
        self.process = subprocess.Popen([*command, HOB, *args], env=whole, stdin=self.slave, stdout=self.slave,
                                        stderr=self.slave, preexec_fn=take_terminal)

    def _size(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows, columns):
        """The terminal tells the foreground program by SIGWINCH."""
        self.screen.resize(rows, columns)
        self._size(rows, columns)

    def send(self, text):
        """In pieces, reading what comes back: a terminal's queue is short."""
        data = text if isinstance(text, bytes) else text.encode()
        while data:
            readable, writable, _ = select.select([self.fd], [self.fd], [], 30)
            if readable:
                self._read()
            if writable:
                data = data[os.write(self.fd, data[:512]):]
            assert readable or writable, "the program takes no input"

    def paste(self, text):
        """As a terminal sends it: newlines as CR, between the markers."""
        self.send("\x1b[200~" + text.replace("\n", "\r") + "\x1b[201~")

    def _read(self):
        data = os.read(self.fd, 65536)
        self.raw += data
        self.stream.feed(data)

    def lines(self):
        return [line.rstrip() for line in self.screen.display]

    def text(self):
        return "\n".join(self.lines()).rstrip()

    def all(self):
        """With what scrolled away."""
        columns = self.screen.columns
        gone = ["".join(row[x].data for x in range(columns)).rstrip() for row in self.screen.history.top]
        return "\n".join(gone + self.lines())

    def row(self):
        """The line the cursor is on."""
        return self.lines()[self.screen.cursor.y]

    def wait(self, condition, seconds=90, what=None):
        """condition: a function, or a pattern to find in all that was shown."""
        if isinstance(condition, str):
            pattern, condition = condition, lambda: re.search(pattern, self.all().rstrip())
            what = what or pattern
        deadline = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            left = deadline - time.monotonic()
            assert left > 0, f"not seen: {what}\n{self.all()}\nraw: {self.raw[-600:]!r}"
            if select.select([self.fd], [], [], left)[0]:
                try:
                    self._read()
                except OSError as e:
                    raise AssertionError(f"ended, not seen: {what}\n{self.all()}") from e

    def prompt(self, text="> "):
        """Waits for an empty prompt with the cursor behind it, ready for a paste."""
        self.wait(lambda: self.row() == text.rstrip() and self.screen.cursor.x == len(text)
                  and self.pastes(), what=f"prompt {text!r}")

    def pastes(self):
        return PASTE_MODE in self.screen.mode

    def end(self):
        """The exit status; what it says until then is read, so that it can end."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it does not end\n" + self.all()
            if select.select([self.fd], [], [], 0.05)[0]:
                self._read()
        while select.select([self.fd], [], [], 0)[0]:
            self._read()
        return self.process.returncode

    def is_as_found(self):
        """Modes of the terminal as before, paste mode off, cursor shown, no colour left."""
        c = self.screen.cursor
        plain = (c.attrs.fg, c.attrs.bold, c.attrs.reverse) == ("default", False, False)
        return (termios.tcgetattr(self.slave)[:4] == self.found[:4] and not self.pastes()
                and not c.hidden and plain)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.fd)
        os.close(self.slave)
