"""Rules as one line: `sum(tokens_used) > 10 000 → abort_lifetime`.

    line      = [ "per" scope ] [ "per" window ] ":" ] measure sign number arrow action
    measure   = aggregate "(" metric ")" | live metric
    scope     = execution | run | workflow | user | tenant   (request, lifetime)
    window    = minute | hour | day
    sign      = > >= < <= == != ≥ ≤ ≠
    number    = digits, in groups of three if they are grouped, and a fraction after a point
    arrow     = → | ->

Without `per` a rule is about the run as a whole. Digits are grouped by a space (an ordinary, a
no-break, a narrow or a thin one), by `_` or by `,`; all groups of a number by the same. A comma
before one or two digits is therefore no decimal point, and is refused rather than guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from engine.core.section import short, suggestion
from engine.guardrails import vocabulary as words
from engine.guardrails.policy import Measure
from engine.guardrails.vocabulary import Action, Scope, Window

#: What may stand between the groups of a number.
GROUPING = " \u00a0\u2009\u202f_,"


class LineError(ValueError):
    """The text is no rule."""

    def __init__(self, message: str, position: int, remedy: str) -> None:
        super().__init__(f"{message} (at character {position + 1})")
        self.message = message
        self.position = position  #: from 0
        self.remedy = remedy


class Line(NamedTuple):
    """A rule of one line."""

    measure: Measure
    action: Action


def parse(text: str) -> Line:
    """Read a rule. Raises `LineError` for the first thing wrong with it."""
    if len(text) > words.MAX_LINE:
        raise LineError(
            f"a rule of {len(text)} characters; {words.MAX_LINE} are the most",
            words.MAX_LINE,
            "write it in fields",
        )
    scope, window, position = _per(text)
    aggregate, metric, position = _measured(text, position)
    sign = _expect(_SIGN, text, position, "a comparison", "compare by >, >=, <, <=, == or !=")
    arrow = _ARROW.search(text, sign.end())
    if arrow is None:
        raise LineError(
            "no arrow leads to an action", len(text), "end it with, say, → abort_lifetime"
        )
    limit = _limit(text, sign.end(), arrow.start())
    wanted = text[arrow.end() :].strip()
    found = action(wanted)
    if found is None:
        raise LineError(f"there is no action {short(wanted)}", arrow.end(), action_remedy(wanted))
    measure = Measure(
        metric=metric,
        aggregate=aggregate,
        comparison=words.COMPARISON_WORDS[sign[1]],
        limit=limit,
        scope=scope,
        window=window,
    )
    return Line(measure, found)


def number(text: str) -> Decimal | None:
    """A number as people write it, digits grouped or not; None if it is none."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        return None
    digits = "".join(char for char in match["whole"] if char not in GROUPING)
    fraction = match["fraction"] or ""
    if len(digits) > words.MAX_DIGITS or len(fraction) > words.MAX_DECIMALS:
        return None
    return Decimal(f"{match['sign'] or ''}{digits}.{fraction or 0}").normalize() + 0


def action(text: str) -> Action | None:
    """The action that a word stands for."""
    return words.ACTION_WORDS.get(re.sub(r"[\s-]+", "_", text.strip()).lower())


def action_remedy(text: str) -> str:
    """What to write in place of a word that is no action."""
    return suggestion(text.lower(), words.ACTIONS) or f"write one of {', '.join(words.ACTIONS)}"


def written(measure: Measure) -> str:
    """A measure in the words of a rule."""
    over = " ".join(
        [
            *([f"per {measure.scope}"] if measure.scope != "run" else []),
            *([f"per {measure.window}"] if measure.window != "none" else []),
        ]
    )
    if measure.aggregate == "now":
        what = measure.metric
    else:
        what = f"{measure.aggregate}({measure.metric})"
    told = f"{what} {measure.comparison} {grouped(measure.limit)}"
    return f"{over}: {told}" if over else told


def grouped(value: Decimal) -> str:
    """A number as messages show it: `10 000.5`, its digits grouped by a space from 10 000 on."""
    text = f"{value:f}"
    whole, point, fraction = text.partition(".")
    groups = whole if len(whole.lstrip("-")) <= _UNGROUPED else f"{int(whole):,}".replace(",", " ")
    return f"{groups}{point}{fraction}"


_UNGROUPED = 4
_SPACES = r"[\s\u00a0\u2009\u202f]*"
_PER = re.compile(rf"{_SPACES}per[\s-]+([A-Za-z_]+){_SPACES}", re.IGNORECASE)
_COLON = re.compile(rf":{_SPACES}")
_AGGREGATE = re.compile(
    rf"{_SPACES}([A-Za-z_]+){_SPACES}\({_SPACES}([A-Za-z_][A-Za-z0-9_]*){_SPACES}\){_SPACES}"
)
_BARE = re.compile(rf"{_SPACES}([A-Za-z_][A-Za-z0-9_]*){_SPACES}")
_SIGN = re.compile(rf"(>=|<=|==|!=|[><=≥≤≠]){_SPACES}")
_ARROW = re.compile(r"→|->")
_NUMBER = re.compile(
    r"(?P<sign>-)?(?P<whole>[0-9]{1,3}(?:(?P<by>[ \u00a0\u2009\u202f_,])[0-9]{3}"
    r"(?:(?P=by)[0-9]{3})*)|[0-9]+)(?:\.(?P<fraction>[0-9]+))?"
)


def _per(text: str) -> tuple[Scope, Window, int]:
    """Over what is added up, as far as it is said, and where the measure begins."""
    scope: Scope | None = None
    window: Window | None = None
    position = 0
    while match := _PER.match(text, position):
        word = match[1].lower()
        if word in words.SCOPE_WORDS and scope is None:
            scope = words.SCOPE_WORDS[word]
        elif word in words.WINDOWS and word != "none" and window is None:
            window = next(each for each in words.WINDOWS if each == word)
        else:
            known = [*words.SCOPES, *words.WINDOWS[1:]]
            raise LineError(
                f"per {word} means nothing here"
                if word not in known
                else f"per {word} is too much",
                match.start(1),
                suggestion(word, known) or "write per SCOPE, per WINDOW or both",
            )
        position = match.end()
    if position:
        position = _expect(_COLON, text, position, "a colon", "write per user per hour: …").end()
    return scope or "run", window or "none", position


def _measured(text: str, position: int) -> tuple[words.Aggregate, str, int]:
    if match := _AGGREGATE.match(text, position):
        name, metric = match[1].lower(), match[2]
        found = next((each for each in words.AGGREGATES if each == name), None)
        if found is None:
            raise LineError(
                f"there is no {short(match[1])}",
                match.start(1),
                suggestion(name, words.AGGREGATES) or f"write {_either(words.AGGREGATES)}",
            )
        return found, _metric(metric, match.start(2)), match.end()
    bare = _expect(_BARE, text, position, "what is measured", "write, say, sum(tokens_used) > 10")
    if bare[1] not in words.LIVE:
        raise LineError(
            f"{bare[1]} is used up by many executions",
            bare.start(1),
            f"say how to put them together: sum({bare[1]}), max({bare[1]})",
        )
    return "now", bare[1], bare.end()


def _metric(name: str, position: int) -> str:
    if not re.fullmatch(words.METRIC, name):
        raise LineError(
            f"{short(name)} is no metric", position, "write it in small letters, digits and _"
        )
    return name


def _limit(text: str, start: int, end: int) -> Decimal:
    written_so = text[start:end].strip()
    found = number(written_so)
    if found is None:
        remedy = "write its fraction after a point" if "," in written_so else "write 10 000 or 0.5"
        raise LineError(f"{short(written_so)} is no number", start, remedy)
    return found


def _expect(
    pattern: re.Pattern[str], text: str, position: int, wanted: str, remedy: str
) -> re.Match[str]:
    match = pattern.match(text, position)
    if match is None:
        raise LineError(f"{wanted} is missing", position, remedy)
    return match


def _either(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"
