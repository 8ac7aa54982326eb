"""A text, followed word for word: what it says to type is typed, what it shows must come.

Of a text in Markdown these are followed, in order; all else is for people:

- Blocks of `console`. A line after `$ ` is typed, with those after `> ` that continue it; the lines below
  it are what it must print, and nothing else. It must succeed.
- Blocks of another language under a line that ends in the name of a file, "`NAME`:": they are saved so.

`…` stands for anything in a line, and alone for any number of lines. How many blanks stand between words
does not matter. A comment before a block says in which terminal it is typed, and whether what is
typed last goes on when its block is over: `<!-- terminal: platform, goes on -->`. A block that begins
without `$ ` shows what came meanwhile of what goes on there.
"""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

#: What one command may take on a machine that has much else to do.
SECONDS = 240

_FENCE = re.compile(r"^```(\w*)\s*$")
_NAMED = re.compile(r"`([\w./-]+)`:\s*$")
_TERMINAL = re.compile(r"^<!-- terminal: (\w+)(, goes on)? -->\s*$")
_MAIN = "main"
_BLANK = r"[^\S\n]"
_END = re.compile(r"^\x04(\d+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block of a text."""

    line: int
    language: str
    lines: Sequence[str]
    #: The last line of text before it.
    said: str
    terminal: str = _MAIN
    goes_on: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A command, or none for what came meanwhile; and what it must print."""

    line: int
    command: str | None
    printed: Sequence[str]


def section(text: str, heading: str) -> str:
    """What stands in a text under a heading, up to the next one of its level or above."""
    level = heading.partition(" ")[0]
    found = re.search(
        rf"^{re.escape(heading)}$(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert found, f"there is no {heading!r}"
    return found[1]


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a text."""
    lines = text.splitlines()
    said, terminal, at = "", (_MAIN, False), 0
    while at < len(lines):
        fence, named = _FENCE.match(lines[at]), _TERMINAL.match(lines[at])
        if fence:
            end = lines.index("```", at + 1)
            yield Block(
                line=at + 1,
                language=fence[1],
                lines=lines[at + 1 : end],
                said=said,
                terminal=terminal[0],
                goes_on=terminal[1],
            )
            said, terminal, at = "", (_MAIN, False), end
        elif named:
            terminal = named[1], bool(named[2])
        elif lines[at].strip():
            said = lines[at]
        at += 1


def follow(text: str, environment: Mapping[str, str], folder: Path) -> None:
    """Do what a text says, in terminals that begin in a folder. Raises `AssertionError`."""
    with ExitStack() as stack:
        terminals: dict[str, Terminal] = {}
        for block in blocks(text):
            if block.terminal not in terminals:
                terminals[block.terminal] = Terminal(environment, folder)
                stack.callback(terminals[block.terminal].close)
            terminal = terminals[block.terminal]
            if block.language == "console":
                found = [*_typed(block)]
                for one in found:
                    terminal.does(one, goes_on=block.goes_on and one is found[-1])
            elif name := _NAMED.search(block.said):
                saved = "\n".join((f"cat > {name[1]} <<'\x03'", *block.lines, "\x03"))
                terminal.does(Typed(line=block.line, command=saved, printed=()))


def _typed(block: Block) -> Iterator[Typed]:
    command: str | None = None
    printed: list[str] = []
    begun = block.line
    for number, line in enumerate(block.lines, block.line + 1):
        if line.startswith("$ "):
            if command is not None or printed:
                yield Typed(line=begun, command=command, printed=printed)
            command, printed, begun = line[2:], [], number
        elif line.startswith("> ") and command is not None and not printed:
            command += f"\n{line[2:]}"
        else:
            printed.append(line)
    yield Typed(line=begun, command=command, printed=printed)


@dataclass
class Terminal:
    """A shell that somebody types into."""

    environment: Mapping[str, str]
    folder: Path
    _lines: queue.Queue[str | None] = field(default_factory=queue.Queue, init=False)
    #: What was printed, and nobody has looked at.
    _heard: list[str] = field(default_factory=list, init=False)
    _under_way: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            env=dict(self.environment),
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Where bash itself tells of jobs that were killed.
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def does(self, typed: Typed, *, goes_on: bool = False) -> None:
        """Type a command and hold what it prints against what it must."""
        if typed.command is not None:
            assert not self._under_way, f"line {typed.line}: the command before it goes on"
            assert self._shell.stdin is not None
            self._shell.stdin.write(
                f"{{ {typed.command}\n}} 2>&1 </dev/null\nprintf '\\n\\004%s\\n' $?\n"
            )
            self._shell.stdin.flush()
            self._heard.clear()
            self._under_way = True
        deadline = time.monotonic() + SECONDS
        pattern = _pattern(typed.printed)
        while True:
            said = "".join(f"{line.rstrip()}\n" for line in self._heard)
            if goes_on and (found := pattern.match(said)):
                self._heard = said[found.end() :].splitlines()
                return
            try:
                line = self._lines.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                raise AssertionError(_differs(typed, said, "too long")) from None
            ended = None if line is None else _END.match(line)
            if line is None or ended:
                assert ended, _differs(typed, said, "the shell has ended")
                assert ended[1] == "0", _differs(typed, said, f"ended with {ended[1]}")
                assert pattern.fullmatch(f"{said.rstrip()}\n" if said.strip() else ""), _differs(
                    typed, said, "something else"
                )
                self._under_way = False
                return
            self._heard.append(line)

    def close(self) -> None:
        """End the shell and whatever it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait(SECONDS)
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.close()
        self._reader.join(SECONDS)
        self._shell.stdout.close()

    def _read(self) -> None:
        assert self._shell.stdout is not None
        for line in self._shell.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)


def _pattern(printed: Sequence[str]) -> re.Pattern[str]:
    """What matches that which must be printed."""
    lines = []
    for line in printed:
        if line.strip() == "…":
            lines.append(r"(?:.*\n)*?")
        else:
            words = (re.escape(word).replace("…", ".*?") for word in line.split())
            lines.append(f"{_BLANK}*{f'{_BLANK}+'.join(words)}\n")
    return re.compile("".join(lines))


def _differs(typed: Typed, said: str, why: str) -> str:
    command = typed.command or "(what goes on)"
    expected = "\n".join(typed.printed)
    return f"line {typed.line}, {why}:\n$ {command}\n{expected}\n--- but it printed\n{said}"
