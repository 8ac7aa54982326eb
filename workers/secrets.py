"""The secrets of one attempt: opened when something names them, hidden in whatever it leaves.

What is opened stays in this process, and in the child that it was handed to, until the attempt is
over. A node reads what was granted to the function or tool that it runs, in the version that its run
uses; a node that runs neither, what was granted to its workflow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from engine.capabilities import Subject
from engine.core.references import Sought
from engine.core.values import Json
from engine.errors import Damaged, NotFound
from engine.platform import Platform
from engine.redaction import Redaction
from engine.runs import secrets
from engine.runs.attempts import Failed, Outcome, Succeeded, Suspended
from engine.runs.calls import Answer
from engine.runs.secrets import NotGranted
from workers.sandbox import Outcome as Ended

_NAMED = re.compile(r"\$env\.([A-Za-z_][A-Za-z0-9_]*)", re.ASCII)


class Withheld(Exception):
    """A secret that is asked for is not given: why, in one word and in a sentence. It stays so."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Secrets:
    """What was opened for an attempt, and what hides it."""

    def __init__(self, platform: Platform, tenant: str, node: str) -> None:
        self._platform = platform
        self._tenant = tenant
        self._node = node
        self._known: dict[tuple[Subject, str], str] = {}
        self.redaction = Redaction()

    def value(self, whose: Subject, name: str) -> str:
        """The value of a secret, for whomever it was granted to.

        Raises `Withheld`, and `Unavailable` where it may be had later.
        """
        known = self._known.get((whose, name))
        if known is not None:
            return known
        try:
            found = secrets.resolve(self._platform, self._tenant, whose, name)
        except NotGranted as error:
            raise Withheld("not_granted", f"node {self._node}: {error.message}") from None
        except NotFound as error:
            raise Withheld("no_such_secret", f"node {self._node}: {error.message}") from None
        except Damaged as error:
            raise Withheld("damaged", f"node {self._node}: {error.message}") from None
        if found.sensitive:
            self.redaction.add(name, found.value)
        self._known[whose, name] = found.value
        return found.value

    def env(self, whose: Callable[[], Subject]) -> Sought:
        """What `$env` stands for: each secret is opened when it is read, for whoever that is then."""
        return Sought(lambda name: self.value(whose(), name))

    def open(self, whose: Subject, config: Json) -> None:
        """Open what a configuration names: from now on it is hidden.

        What is withheld is passed over: who has it put in is told. Raises `Unavailable`.
        """
        match config:
            case str():
                for name in _NAMED.findall(config):
                    with suppress(Withheld):
                        self.value(whose, name)
            case list():
                for each in config:
                    self.open(whose, each)
            case dict():
                for each in config.values():
                    self.open(whose, each)
            case _:
                pass

    def put_in(self, whose: Subject, config: Json) -> Json:
        """A configuration with the values of the secrets that it names. Raises as `value` does."""
        match config:
            case str():
                return _NAMED.sub(lambda found: self.value(whose, found[1]), config)
            case list():
                return [self.put_in(whose, each) for each in config]
            case dict():
                return {name: self.put_in(whose, each) for name, each in config.items()}
            case _:
                return config

    # --- hiding ---------------------------------------------------------------------------------

    def line(self, text: str) -> str:
        """A line of a log, which may have been cut off."""
        return self.redaction.hide_text(text, cut=True)

    def ended(self, ended: Ended) -> Ended:
        """What an execution in the sandbox came to, without what is secret."""
        if not self.redaction:
            return ended
        hide, text = self.redaction.hide, self.redaction.hide_text
        choice = text(ended.choice) if isinstance(ended.choice, str) else ended.choice
        return replace(
            ended,
            message=self.line(ended.message),
            value=hide(ended.value),
            patch=None if ended.patch is None else _object(hide(ended.patch)),
            removed=tuple(map(text, ended.removed)),
            choice=choice,
            status=None if ended.status is None else _object(hide(ended.status)),
            used={text(name): amount for name, amount in ended.used.items()},
            model=text(ended.model),
        )

    def answer(self, answer: Answer) -> Answer:
        """What came of a call, without what is secret."""
        if not self.redaction:
            return answer
        text = self.redaction.hide_text
        return replace(
            answer,
            value=self.redaction.hide(answer.value),
            reason=None if answer.reason is None else text(answer.reason),
            message=None if answer.message is None else self.line(answer.message),
            usage={text(name): amount for name, amount in answer.usage.items()},
            model=text(answer.model),
        )

    def outcome(self, outcome: Outcome) -> Outcome:
        """How an attempt ended, without what is secret."""
        return self._outcome(outcome) if self.redaction else outcome

    def _outcome(self, outcome: Outcome) -> Outcome:
        hide, text = self.redaction.hide, self.redaction.hide_text
        match outcome:
            case Failed():
                return replace(outcome, message=self.line(outcome.message))
            case Suspended():
                return replace(outcome, asks=_object(hide(dict(outcome.asks))))
            case Succeeded(choice=choice):
                if isinstance(choice, str):
                    choice = text(choice)
                elif isinstance(choice, tuple):
                    choice = tuple(map(text, choice))
                return replace(
                    outcome,
                    result=hide(outcome.result),
                    patch=_object(hide(dict(outcome.patch))),
                    removed=tuple(map(text, outcome.removed)),
                    choice=choice,
                )


def _object(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict)
    return value
