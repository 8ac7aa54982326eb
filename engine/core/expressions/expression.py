"""A compiled expression and its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.core.expressions import parser
from engine.core.expressions.frame import EvaluationError, Frame, Run
from engine.core.values import Json


class Answer(NamedTuple):
    """What an expression came to. A tuple, because a frozen dataclass takes longer to make
    than most expressions to evaluate.
    """

    value: Json
    #: What it rested on: path to value, in the order read.
    saw: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A compiled expression; equal to every other one of the same text."""

    source: str
    #: The variables it may read: `counter` for `$counter.total`.
    names: frozenset[str] = field(compare=False)
    #: The nodes whose results it may read: `draft` for `$steps.draft`; None: it does not say which.
    steps: frozenset[str | None] = field(compare=False)
    #: The secrets that it may read: `API_KEY` for `$env.API_KEY`; None: it does not say which.
    secrets: frozenset[str | None] = field(compare=False)
    #: Whether these stand in it as they are: alone, or put together with other things by `+`.
    keeps: bool = field(compare=False)
    run: Run = field(compare=False, repr=False)

    def evaluate(self, scope: Mapping[str, Json]) -> Answer:
        """Answer in a scope of values by name. Raises `EvaluationError` and nothing else."""
        frame = Frame(scope)
        try:
            return Answer(self.run(frame), frame.saw)
        except EvaluationError as error:
            error.saw = frame.saw
            raise


def compile(source: str) -> Expression:  # noqa: A001  # read as `expressions.compile`
    """Compile an expression. Raises `ExpressionError` for the first thing wrong with it."""
    parsed = parser.parse(source)
    return Expression(
        source=source,
        names=parsed.names,
        steps=parsed.steps,
        secrets=parsed.secrets,
        keeps=parsed.keeps,
        run=parsed.run,
    )
