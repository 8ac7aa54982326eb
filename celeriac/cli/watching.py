"""A run told line by line, as its history grows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.text import Text

from celeriac.cli import printing
from celeriac.cli.words import Words
from celeriac.client import Line, LogLine, Run

#: Why an edge was not taken, where that is worth a word.
_WHY = {"max_iterations": "no further lap: max_iterations is reached"}

#: What people do.
_ASKED = {
    "CancelRequested": "asks for it to stop",
    "TerminateRequested": "cuts it off",
    "RollbackRequested": "has it go back",
    "SkipRequested": "asks for it to be skipped",
    "ResultGiven": "says what its result is",
    "RetryRequested": "asks for it to be begun anew",
}

#: Characters of what a model is saying that are shown beside what a run is at.
_SAID = 60
#: Wide enough for most names of steps; grows with longer ones.
_WIDTH = 24


def follow(run: Run, console: Console) -> Run:
    """Tell a run on the console until it has ended; the run as it then is."""
    story = Story()
    with console.status(_Now(story), spinner="dots"):
        for event in run.events():
            for line in story.tell(event.told):
                console.print(line)
        for line in story.rest():
            console.print(line)
    return run.refresh()


class Story:
    """What has been told of a run, and so what the next line of its history means."""

    def __init__(self) -> None:
        #: Steps that are being carried out or wait for a worker, with the time of their start.
        self.live: dict[str, datetime] = {}
        #: What models say.
        self.words = Words()
        #: What steps' names take, so that the rest stands in a column.
        self._width = _WIDTH

    def tell(self, told: Line | LogLine) -> Iterator[Text]:
        """The lines that a reader is shown for what happened; most is worth none."""
        if isinstance(told, LogLine):
            yield from map(_printed, self.words.take(told))
            return
        body, at = told.body, told.at
        step = str(body.get("step", ""))
        yield from map(_printed, self.words.rest(step))
        match told.kind:
            case "Admitted":
                self.live[step] = at
            case "AttemptSucceeded" | "WaitEnded":
                yield self._line("✓", "green", step, self._took(step, at), "dim")
            case "AttemptFailed" | "WaitFailed" | "NotOpened" | "NotSaved":
                why = f"{body['reason']}: {body['message']}"
                yield self._line("✗", "red", step, f"{self._took(step, at)}  {why}")
            case "AttemptLost":
                self._took(step, at)
                yield self._line("✗", "red", step, f"lost: its worker is gone ({body['worker']})")
            case "OpenWait":
                yield self._line("…", "yellow", step, f"waits: {body['kind']}", "dim")
            case "Refused":
                yield self._line("✗", "red", step, f"{body['rule']}: {body['message']}")
            case "Deferred":
                until = printing.time(_moment(body["until"]))
                yield self._line("…", "yellow", step, f"not before {until}: {body['rule']}")
            case "RetryStep":
                wait = printing.duration(_moment(body["not_before"]) - at)
                yield self._line("↻", "yellow", step, f"attempt {body['attempt']} in {wait}")
            case "TakeEdges" if body.get("untaken"):
                yield from self._edges(body)
            case kind if kind in _ASKED:
                yield self._asked(told.kind, step, body, at)
            case "RollBack" | "FinishRun":
                self.live.clear()
            case _:
                pass

    def rest(self) -> Iterator[Text]:
        """What is left to be shown when nothing happens any more."""
        yield from map(_printed, self.words.rest())

    def _asked(self, kind: str, step: str, body: Mapping[str, Any], at: datetime) -> Text:
        """What somebody asks for, of the run or of a step."""
        why = f": {body['reason']}" if body.get("reason") else ""
        said = f"{body['by']} {_ASKED[kind]}{why}"
        if not step:
            return _joined(("■ ", "yellow"), said)
        self._took(step, at)
        return self._line("↷", "yellow", step, said)

    def _edges(self, body: Mapping[str, Any]) -> Iterator[Text]:
        for edge in body["untaken"]:
            if edge["why"] in _WHY:
                yield _joined(("  ∎ ", "yellow"), _WHY[edge["why"]])
        for edge in body.get("taken", ()):
            yield _joined(("  → ", "dim"), (edge["target"], "dim"))

    def _line(self, mark: str, style: str, step: str, text: str, text_style: str = "") -> Text:
        self._width = max(self._width, len(step))
        return _joined((f"{mark} ", style), f"{step:<{self._width}}  ", (text, text_style))

    def _took(self, step: str, at: datetime) -> str:
        return printing.duration(at - self.live.pop(step, at))


def ending(run: Run) -> Text:
    """How a run has ended, or where it stands."""
    text = Text.assemble(printing.status(run.status))
    if run.finished_at:
        text.append(f" after {printing.between(run.created_at, run.finished_at)}")
    why = ": ".join(filter(None, (run.reason, run.message)))
    if why and run.status != "completed":
        where = f" at {run.ended_step}" if run.ended_step else ""
        text.append(printing.legible(f"{where}: {why}"))
    return text


def waiting(story: Story, now: datetime) -> str:
    """What a run is at, for the line that is not yet written."""
    steps = ", ".join(
        f"{step} ({printing.duration(max(now - since, timedelta()))})"
        for step, since in story.live.items()
    )
    said = story.words.now[-_SAID:]
    return f"{steps}: {said}" if said else steps


class _Now:
    """The last line on a terminal: it ticks."""

    def __init__(self, story: Story) -> None:
        self._story = story

    def __rich__(self) -> Text:
        return Text(printing.legible(waiting(self._story, datetime.now(UTC))), "dim")


def _printed(line: LogLine) -> Text:
    return _joined(("  | ", "dim"), (line.text, "dim"))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _joined(*parts: str | tuple[str, str]) -> Text:
    """A line whose parts, some of them in a style, are made legible."""
    return Text.assemble(
        *(
            printing.legible(part)
            if isinstance(part, str)
            else (printing.legible(part[0]), part[1])
            for part in parts
        )
    )
