"""What stands for code in tests, and answers as it was told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from celeriac.testing.calling import Died
from engine.cases import Answer, Fake
from workers.sandbox.inside.state import Context


class Faked:
    """Answers calls as a fake says."""

    def __init__(
        self, name: str, fake: Fake, note: Callable[[str], object] = lambda _: None
    ) -> None:
        self.__name__ = name
        self._fake = fake
        self._note = note
        #: What it was called with, by position and by name, each time.
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, *args: Any, context: Context | None = None, **given: Any) -> object:
        answers, index = self._fake.answers, len(self.calls)
        self.calls.append((args, given))
        if not self._fake.always and index >= len(answers):
            message = (
                f"{self.__name__} is called {index + 1} times, and its fake has "
                f"{len(answers)} of its answers; add the others to `each`"
            )
            self._note(message)
            raise Died("error", message, terminal=True)
        answer = answers[0 if self._fake.always else index]
        if answer.used and context is not None:
            context.use(**dict[str, Any](answer.used))
        if answer.fails is not None:
            raise Died(answer.fails, answer.message or "the test lets it fail")
        return answer.returns


class Fakes(Mapping[str, Callable[..., object]]):
    """Tools, or functions, that a test makes up: `fakes.returns("mail.send", {"sent": True})`."""

    def __init__(self) -> None:
        self._fakes: dict[str, Faked] = {}

    def returns(self, name: str, *answers: Any) -> None:
        """Let calls return something: one answer every time, several each once."""
        if not answers:
            raise TypeError(f"say what {name} returns")
        given = tuple(Answer(returns=each) for each in answers)
        self._fakes[name] = Faked(name, Fake(answers=given, always=len(given) == 1))

    def fails(self, name: str, reason: str = "error", message: str = "") -> None:
        """Let every call fail."""
        answer = Answer(fails=reason, message=message)
        self._fakes[name] = Faked(name, Fake(answers=(answer,), always=True))

    def calls(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """What one of them was called with, by position and by name, each time."""
        return self._fakes[name].calls

    def __getitem__(self, name: str) -> Callable[..., object]:
        return self._fakes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fakes)

    def __len__(self) -> int:
        return len(self._fakes)
