"""A run told line by line, as its history grows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from rich.text import Text

from celeriac.cli import printing

#: Why an edge was not taken, where that is worth a word.
_WHY = {"max_iterations": "no further lap: max_iterations is reached"}


class Story:
    """What has been told of a run, and so what the next line of its history means."""

    def __init__(self) -> None:
        #: Steps that are being carried out or wait for a worker, with the time of their start.
        self.live: dict[str, datetime] = {}
        #: The width that steps' names have needed so far.
        self._width = 0

    def tell(self, entry: Mapping[str, Any]) -> Iterator[Text]:
        """The lines that a reader is shown for a line of history; most are worth none."""
        body: Mapping[str, Any] = entry["body"]
        step, at = str(body.get("step", "")), printing.moment(entry["at"])
        match entry["kind"]:
            case "Admitted":
                self.live[step] = at
            case "AttemptSucceeded":
                yield self._line("✓", "green", step, self._took(step, at), "dim")
            case "AttemptFailed":
                why = f"{body['reason']}: {body['message']}"
                yield self._line("✗", "red", step, f"{self._took(step, at)}  {why}")
            case "AttemptLost":
                self._took(step, at)
                yield self._line("✗", "red", step, f"lost: its worker is gone ({body['worker']})")
            case "Refused":
                yield self._line("✗", "red", step, f"{body['rule']}: {body['message']}")
            case "Deferred":
                until = printing.time(body["until"])
                yield self._line("…", "yellow", step, f"not before {until}: {body['rule']}")
            case "RetryStep":
                wait = printing.duration(printing.moment(body["not_before"]) - at)
                yield self._line("↻", "yellow", step, f"attempt {body['attempt']} in {wait}")
            case "TakeEdges" if body.get("untaken"):
                yield from self._edges(body)
            case "CancelRequested":
                why = f": {body['reason']}" if body.get("reason") else ""
                yield _joined(("■ ", "yellow"), f"{body['by']} asks for it to stop{why}")
            case "FinishRun":
                self.live.clear()
            case _:
                pass

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


def ending(run: Mapping[str, Any]) -> Text:
    """How a run has ended, or where it stands."""
    text = Text.assemble(printing.status(run["status"]))
    if run.get("finished_at"):
        text.append(f" after {printing.between(run['created_at'], run['finished_at'])}")
    why = ": ".join(filter(None, (run.get("reason"), run.get("message"))))
    if why and run["status"] != "completed":
        where = f" at {run['ended_step']}" if run.get("ended_step") else ""
        text.append(printing.legible(f"{where}: {why}"))
    return text


def waiting(story: Story, now: datetime) -> str:
    """What a run is at, for the line that is not yet written."""
    return ", ".join(
        f"{step} ({printing.duration(max(now - since, timedelta()))})"
        for step, since in story.live.items()
    )


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
