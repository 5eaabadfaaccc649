"""A program in a terminal: what it shows, what it is typed, and how it leaves the terminal.

Arguments: the program and its arguments. Standard input: a JSON list of steps, done in turn:
["see", TEXT] waits until the screen shows it, ["gone", TEXT] until it does not, ["type", KEYS], ["size", ROWS, COLUMNS],
["signal", NAME]. Answers with one JSON object when the program has ended.
"""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios

NEVER = 60
SEQUENCE = re.compile(rb"\x1b\[([?<>=]?)([0-9;]*)([ -/]*)([@-~])")


class Screen:
    """As much of a terminal as the program uses."""

    def __init__(self, rows, columns):
        self.rest, self.alternate, self.entered, self.hidden = b"", False, False, False
        self.resize(rows, columns)

    def resize(self, rows, columns):
        self.rows, self.columns, self.at = rows, columns, [0, 0]
        self.cells = [[" "] * columns for _ in range(rows)]

    def feed(self, data):
        data, self.rest = self.rest + data, b""
        while data:
            if data[:1] == b"\x1b":
                found = SEQUENCE.match(data)
                if not found:
                    if len(data) < 2 or (data[1:2] == b"[" and len(data) < 32):
                        self.rest = data
                        return
                    data = data[2:]
                    continue
                self.control(*(part.decode() for part in (found[1], found[2], found[4])))
                data = data[found.end():]
            elif data[0] < 32:
                self.move(data[0])
                data = data[1:]
            else:
                width = 1 if data[0] < 0x80 else 2 if data[0] < 0xE0 else 3 if data[0] < 0xF0 else 4
                if len(data) < width:
                    self.rest = data
                    return
                self.put(data[:width].decode())
                data = data[width:]

    def control(self, mark, numbers, letter):
        numbers = [int(n) if n else 0 for n in numbers.split(";")]
        if mark == "?" and letter in "hl":
            if 1049 in numbers:
                self.alternate = letter == "h"
                self.entered |= self.alternate
            if 25 in numbers:
                self.hidden = letter == "l"
        elif letter in "Hf":
            row, column = (numbers + [1])[:2]
            self.at = [max(row, 1) - 1, max(column, 1) - 1]
        elif letter == "J":
            self.cells = [[" "] * self.columns for _ in range(self.rows)]

    def move(self, byte):
        if byte == 13:
            self.at[1] = 0
        elif byte == 10:
            self.at[0] = min(self.at[0] + 1, self.rows - 1)

    def put(self, letter):
        row, column = self.at
        if row < self.rows and column < self.columns:
            self.cells[row][column] = letter
        self.at[1] += 1

    def text(self):
        return "\n".join("".join(row).rstrip() for row in self.cells)


def main():
    steps, size = json.load(sys.stdin), (24, 100)
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.argv[1], sys.argv[1:])
    sized(terminal, size)
    before, screen, seen = termios.tcgetattr(terminal), Screen(*size), []
    ended = False

    def wait(done):
        nonlocal ended
        while not ended and not done():
            if not select.select([terminal], [], [], NEVER)[0]:
                raise SystemExit(f"it never came: {step}\n{screen.text()}")
            try:
                data = os.read(terminal, 65536)
            except OSError:
                data = b""
            ended = not data
            screen.feed(data)

    for step in steps:
        what, words = step[0], step[1:]
        if what == "see":
            wait(lambda: words[0] in screen.text())
            seen.append(screen.text())
        elif what == "gone":
            wait(lambda: words[0] not in screen.text())
        elif what == "type":
            os.write(terminal, words[0].encode())
        elif what == "size":
            screen.resize(*words)
            sized(terminal, words)
        elif what == "signal":
            os.kill(child, getattr(signal, words[0]))
        if ended:
            raise SystemExit(f"it ended before {step}\n{screen.text()}")
    step = "the end"
    # What it had set of the terminal is looked at before the end takes the terminal away.
    wait(lambda: not screen.alternate and screen.entered)
    after = termios.tcgetattr(terminal)
    wait(lambda: False)
    _, status = os.waitpid(child, 0)
    print(json.dumps({
        "exit": os.waitstatus_to_exitcode(status),
        "restored": after == before,
        "alternate": screen.alternate,
        "hidden": screen.hidden,
        "entered": screen.entered,
        "seen": seen,
    }))


def sized(terminal, size):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size[0], size[1], 0, 0))


main()
