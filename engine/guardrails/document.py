"""Reading a policy document: every problem of it at once, or the policy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TypeVar

from engine import reading
from engine.core import expressions
from engine.core.document import vocabulary as graph_words
from engine.core.problem import Problem
from engine.core.section import Section, named, short, suggestion
from engine.core.values import Json
from engine.errors import Invalid
from engine.guardrails import line, moments
from engine.guardrails import vocabulary as words
from engine.guardrails.patterns import Names, Pattern, PatternError
from engine.guardrails.policy import (
    Applies,
    Argument,
    Budget,
    Condition,
    Content,
    CostSlope,
    FlatScore,
    Measure,
    Policy,
    Progress,
    RepeatedState,
    Rule,
    SameCall,
    Tools,
    Use,
    When,
)

_Word = TypeVar("_Word", bound=str)


def read(text: str | bytes) -> Policy:
    """Read a policy from YAML or JSON. Raises `Invalid`, its problems with line and column.

    How much work a text can cause is bounded before it is done: its bytes, its values, the
    size of each expression and pattern, the number of patterns.
    """
    found = reading.read(text, most_bytes=words.MAX_BYTES, most_values=words.MAX_VALUES)
    try:
        return policy(found.data)
    except Invalid as invalid:
        raise Invalid(found.located(invalid.problems), invalid.message) from None


def policy(data: Json) -> Policy:
    """Make a policy of data. Raises `Invalid`."""
    problems: list[Problem] = []
    section = Section(data, "", problems)
    if not isinstance(data, dict):
        raise Invalid(problems)
    _known(section, words.TOP)
    name = section.text("policy", words.POLICY_NAME, "letters, digits, _ . and -, at most 64")
    if "policy" not in section.fields:
        section.fail("policy", "the policy has no name", "write policy: NAME")
    found = Policy(
        name=name or "",
        title=section.text("title", graph_words.TITLE, "one line of at most 200 characters") or "",
        enforce=section.flag("enforce", default=True),
        priority=section.integer(
            "priority", -words.MAX_PRIORITY, words.MAX_PRIORITY, words.DEFAULT_PRIORITY
        ),
        applies_to=_applies(section),
        rules=_rules(section),
        budgets=_budgets(section),
        plugins=_plugins(section),
    )
    if not (problems or found.rules or found.budgets or found.plugins):
        section.fail("rules", "the policy says nothing", "give it rules, budgets or plugins")
    if problems:
        raise Invalid(problems[:_MAX_PROBLEMS])
    return found


_MAX_PROBLEMS = 100


# --- rules ------------------------------------------------------------------------------------


def _rules(section: Section) -> tuple[Rule, ...]:
    given = _list(section, "rules", words.MAX_RULES)
    _count(section, given)
    found: list[Rule] = []
    for index, each in enumerate(given):
        path = f"{section.at('rules')}[{index}]"
        rule = _rule(each, path, section.problems)
        if rule is not None and any(other.name == rule.name for other in found):
            remedy = "name them, or leave one out"
            section.problems.append(_problem(path, f"two rules are {short(rule.name)}", remedy))
        found += [] if rule is None else [rule]
    return tuple(found)


def _count(section: Section, given: Sequence[Json]) -> None:
    """Refuse more of what takes long to judge than a document may have. Raises `Invalid`."""
    rules = [each for each in given if isinstance(each, dict)]
    patterns = sum("content" in each for each in rules) + sum(
        isinstance(condition, dict) and "regex" in condition
        for each in rules
        for condition in _listlike(each.get("arguments"))
    )
    laps = sum("no_progress" in each for each in rules)
    expressed = sum(map(_characters, rules))
    for count, most, what in (
        (patterns, words.MAX_PATTERNS, "regular expressions"),
        (laps, words.MAX_PROGRESS, "rules about progress"),
        (expressed, words.MAX_EXPRESSED, "characters of expressions"),
    ):
        if count > most:
            section.fail("rules", f"{count} {what}; {most} are the most", "write several policies")
            raise Invalid(section.problems)


def _characters(rule: Mapping[str, Json]) -> int:
    """Of a rule's expressions."""
    progress = rule.get("no_progress")
    inner = progress.values() if isinstance(progress, dict) else ()
    texts = [rule.get("when"), *(each.get("of") for each in inner if isinstance(each, dict))]
    return sum(len(text) for text in texts if isinstance(text, str))


def _listlike(given: Json) -> list[Json]:
    return given if isinstance(given, list) else [given]


def _rule(data: Json, path: str, problems: list[Problem]) -> Rule | None:
    """One rule; None if anything is wrong with it."""
    if isinstance(data, str):
        return _of_line(data, path, problems)
    if isinstance(data, dict) and len(data) == 1:
        ((key, value),) = data.items()
        # `- per user: sum(…) > 5 → …` is an object to YAML.
        if isinstance(value, str) and re.match(r"\s*per\b", key, re.IGNORECASE):
            return _of_line(f"{key}: {value}", path, problems)
    before = len(problems)
    section = Section(data, path, problems)
    if not isinstance(data, dict):
        return None
    _known(section, words.RULE)
    conditions = _conditions(section)
    action = _action(section)
    asking, setting = action == "require_approval", action == "modify"
    for name in ("from", "quorum", "four_eyes", "expires"):
        if name in section.fields and not asking and action is not None:
            section.fail(name, "it is for require_approval", f"leave it out, {action} asks nobody")
    if "set" in section.fields and not setting and action is not None:
        section.fail("set", "it is for modify", f"leave it out, {action} changes nothing")
    rule = Rule(
        name=section.text("name", words.RULE_NAME, "one line of at most 200 characters")
        or _in_words(conditions, action),
        conditions=conditions,
        action=action or "warn",
        moments=frozenset(words.MOMENTS),
        message=section.text("message", words.MESSAGE, "one line of at most 500 characters") or "",
        set=_set(section, required=setting),
        asked=_asked(section),
        quorum=section.integer("quorum", 1, graph_words.MAX_QUORUM, 1),
        four_eyes=section.flag("four_eyes", default=False),
        expires=section.duration("expires", 1, words.MAX_EXPIRES),
    )
    at = _moments(section)
    return None if len(problems) > before else _placed(rule, at, section)


def _of_line(text: str, path: str, problems: list[Problem]) -> Rule | None:
    try:
        measure, action = line.parse(text)
    except line.LineError as error:
        problems.append(_problem(path, str(error), error.remedy))
        return None
    wrong = _misfit(measure)
    if action == "modify":
        wrong = ("a rule of one line says not what to set", "write it in fields, with set")
    if wrong:
        problems.append(_problem(path, *wrong))
        return None
    rule = Rule(
        name=_in_words((measure,), action),
        conditions=(measure,),
        action=action,
        moments=frozenset(words.MOMENTS),
    )
    return replace(rule, moments=moments.usual(rule))


def _placed(rule: Rule, at: frozenset[words.Moment] | None, section: Section) -> Rule:
    """A rule at the moments at which it can be judged, or at those of them that it names."""
    possible = moments.possible(rule)
    if not possible:
        section.problems.append(
            _problem(
                section.path,
                "what it asks never comes together",
                "start knows inputs, report a result, call arguments; split the rule",
            )
        )
    elif at is not None and at - possible:
        section.fail(
            "at",
            f"it cannot be judged at {_listed(sorted(at - possible))}",
            f"it can at {_listed(sorted(possible))}",
        )
    return replace(rule, moments=moments.usual(rule) if at is None else at)


def _moments(section: Section) -> frozenset[words.Moment] | None:
    if "at" not in section.fields:
        return None
    return frozenset(_some(section, "at", words.MOMENTS))


def _in_words(conditions: Iterable[Condition], action: words.Action | None) -> str:
    """A rule as it is called that has no name."""
    told = " and ".join(_condition_in_words(each) for each in conditions)
    return f"{told} → {action}"[:200]


def _condition_in_words(condition: Condition) -> str:
    match condition:
        case Measure():
            return line.written(condition)
        case Tools(names=names):
            return f"tool {_listed(names.given)}"
        case Argument(path=path, operator=operator, value=value):
            return f"{'.'.join(path)} {operator} {short(str(value))}"
        case Content(pattern=pattern, places=places):
            return f"{_listed(places)} matches {short(pattern.source)}"
        case When(expression=expression):
            return short(expression.source, 80)
        case RepeatedState(times=times):
            return f"the same state {times} times"
        case SameCall(times=times):
            return f"the same call {times} times"
        case FlatScore(of=of, laps=laps, by=by):
            return f"{of.source} flat by {by} over {laps} laps"
        case CostSlope(metric=metric, laps=laps, above=above):
            return f"{metric} grows by more than {above} a lap over {laps} laps"


# --- what a rule asks -------------------------------------------------------------------------


def _conditions(section: Section) -> tuple[Condition, ...]:
    found: list[Condition] = []
    fields = section.fields
    if any(name in fields for name in words.MEASURE):
        found += _measure(section)
    if "tool" in fields:
        names = _names(section, "tool")
        found += [] if names is None else [Tools(names=names)]
    if "arguments" in fields:
        found += _arguments(section)
    if "content" in fields:
        found += _content(section)
    if "when" in fields:
        expression = _expression(section, "when")
        found += [] if expression is None else [When(expression=expression)]
    if "no_progress" in fields:
        found += _progress(section.section("no_progress"))
    if not any(name in fields for name in (*words.CONDITIONS, *words.MEASURE)):
        section.problems.append(
            _problem(
                section.path,
                "the rule asks nothing",
                f"write a line such as sum(tokens_used) > 10 000 → abort_lifetime, or {_listed(words.CONDITIONS)}",
            )
        )
    return tuple(found)


def _measure(section: Section) -> list[Measure]:
    before = len(section.problems)
    for name in ("metric", "op", "value"):
        if name not in section.fields:
            section.fail(name, f"{name} is missing", "write metric, op and value")
    metric = section.text("metric", words.METRIC, "small letters, digits and _") or "unread"
    aggregate: words.Aggregate = "now" if metric in words.LIVE else "sum"
    if "agg" in section.fields:
        aggregate = _word(section, "agg", _AGGREGATES, "sum")
    comparison = _word(section, "op", words.COMPARISON_WORDS, ">")
    value = _number(section, "value")
    scope = _word(section, "scope", words.SCOPE_WORDS, "run")
    window = _word(section, "window", {each: each for each in words.WINDOWS}, "none")
    if len(section.problems) > before or value is None:
        return []
    measure = Measure(
        metric=metric,
        aggregate=aggregate,
        comparison=comparison,
        limit=value,
        scope=scope,
        window=window,
    )
    if wrong := _misfit(measure):
        section.fail("metric", *wrong)
    return [measure]


_AGGREGATES: Mapping[str, words.Aggregate] = {each: each for each in words.AGGREGATES}


def _misfit(measure: Measure) -> tuple[str, str] | None:
    """What is wrong with a measure as a whole, and what to do about it."""
    metric, aggregate, scope = measure.metric, measure.aggregate, measure.scope
    if metric in {"iterations", "parallelism"} and (scope != "run" or measure.window != "none"):
        return f"{metric} is known of a run, at the moment", "leave scope and window out"
    if metric in {"iterations", "parallelism"} and aggregate not in {"now", "max", "last"}:
        return f"{metric} is known at the moment, and not added up", f"write {metric} alone"
    if aggregate == "now" and (scope != "run" or measure.window != "none"):
        return f"{metric} alone is that of the run", f"write sum({metric})"
    if scope == "execution" and measure.window != "none":
        return "an execution has no window", "leave the window out"
    if aggregate not in {"sum", "now"} and (
        scope not in {"execution", "run"} or measure.window != "none"
    ):
        return (
            f"{aggregate} is known of an execution and of a run as a whole",
            "add up with sum, or say it of the run",
        )
    return None


def _arguments(section: Section) -> list[Argument]:
    given = section.fields["arguments"]
    entries = given if isinstance(given, list) else [given]
    if not 1 <= len(entries) <= words.MAX_CONDITIONS:
        section.fail(
            "arguments", f"{len(entries)} conditions", f"write 1 to {words.MAX_CONDITIONS}"
        )
        return []
    path = section.at("arguments")
    found = (
        _argument(
            Section(each, f"{path}[{index}]" if isinstance(given, list) else path, section.problems)
        )
        for index, each in enumerate(entries)
    )
    return [each for each in found if each is not None]


def _argument(section: Section) -> Argument | None:
    before = len(section.problems)
    _known(section, ("path", *words.OPERATORS))
    if len(section.problems) > before:
        return None
    path = section.text("path", words.DOTTED, "the keys that lead to it, such as to or items.0.to")
    if "path" not in section.fields:
        section.fail("path", "path is missing", "say which argument is meant")
    operators = [each for each in words.OPERATORS if each in section.fields]
    if len(operators) != 1:
        section.problems.append(
            _problem(
                section.path,
                f"{len(operators)} comparisons stand here",
                f"write one of {_listed(words.OPERATORS)}",
            )
        )
        return None
    operator = operators[0]
    value = section.fields[operator]
    pattern = None
    if operator in {"in", "not_in"} and (
        not isinstance(value, list) or not 1 <= len(value) <= words.MAX_OPTIONS
    ):
        section.wrong(section.at(operator), value, f"a list of 1 to {words.MAX_OPTIONS} values")
    elif operator in {"gt", "lt", "gte", "lte"} and type(value) not in {int, float}:
        section.wrong(section.at(operator), value, "a number")
    elif operator == "regex":
        pattern = _pattern(section, operator)
    if path is None:
        return None
    return Argument(path=tuple(path.split(".")), operator=operator, value=value, pattern=pattern)


def _content(section: Section) -> list[Content]:
    content = section.section("content")
    _known(content, words.CONTENT)
    if "matches" not in content.fields:
        content.fail("matches", "matches is missing", "write a regular expression, in quotes")
        return []
    pattern = _pattern(content, "matches")
    places = _some(content, "in", words.PLACES) if "in" in content.fields else words.PLACES
    if pattern is None or not places:
        return []
    return [Content(pattern=pattern, places=tuple(each for each in words.PLACES if each in places))]


def _progress(section: Section) -> list[Progress]:
    _known(section, words.PROGRESS)
    kinds = [each for each in words.PROGRESS if each in section.fields]
    if len(kinds) != 1:
        section.problems.append(
            _problem(
                section.path, f"{len(kinds)} kinds of it", f"write one of {_listed(words.PROGRESS)}"
            )
        )
        return []
    reads: Mapping[str, Callable[[Section], Progress | None]] = {
        "repeated_state": _repeated_state,
        "same_call": _same_call,
        "flat_score": _flat_score,
        "cost_slope": _cost_slope,
    }
    found = reads[kinds[0]](section)
    return [] if found is None else [found]


def _repeated_state(section: Section) -> Progress | None:
    if not isinstance(section.fields["repeated_state"], dict):
        return RepeatedState(times=section.integer("repeated_state", 2, words.MAX_LAPS, 3))
    inner = section.section("repeated_state")
    _known(inner, ("times", "of"))
    of = _expression(inner, "of") if "of" in inner.fields else None
    return RepeatedState(times=inner.integer("times", 2, words.MAX_LAPS, 3), of=of)


def _same_call(section: Section) -> Progress | None:
    return SameCall(times=section.integer("same_call", 2, 1_000_000, 3))


def _flat_score(section: Section) -> Progress | None:
    inner = section.section("flat_score")
    _known(inner, ("of", "laps", "by"))
    if "of" not in inner.fields:
        inner.fail("of", "of is missing", "say where the score is: of: $result.score")
        return None
    of = _expression(inner, "of", bare=True)
    by = _number(inner, "by") if "by" in inner.fields else Decimal(0)
    laps = inner.integer("laps", 2, words.MAX_LAPS, 3)
    return None if of is None or by is None else FlatScore(of=of, laps=laps, by=by)


def _cost_slope(section: Section) -> Progress | None:
    inner = section.section("cost_slope")
    _known(inner, ("metric", "laps", "above"))
    if "above" not in inner.fields:
        inner.fail("above", "above is missing", "say by how much a lap may grow: above: 0.05")
        return None
    metric = inner.text("metric", words.METRIC, "small letters, digits and _") or "cost_usd"
    above = _number(inner, "above")
    laps = inner.integer("laps", 3, words.MAX_LAPS, 5)
    return None if above is None else CostSlope(metric=metric, laps=laps, above=above)


# --- what a rule does -------------------------------------------------------------------------


def _action(section: Section) -> words.Action | None:
    if "action" not in section.fields:
        section.fail("action", "action is missing", f"write one of {_listed(words.ACTIONS)}")
        return None
    given = section.fields["action"]
    if not isinstance(given, str):
        section.wrong(section.at("action"), given, _listed(words.ACTIONS))
        return None
    found = line.action(given)
    if found is None:
        section.fail("action", f"there is no action {short(given)}", line.action_remedy(given))
    return found


def _set(section: Section, *, required: bool) -> Mapping[str, Json]:
    given = section.fields.get("set", {})
    if not isinstance(given, dict):
        section.wrong(section.at("set"), given, "values by dotted path, such as {to: a@b.c}")
        return {}
    if required and not given:
        section.fail("set", "modify says not what to set", "write, say, set: {to: a@b.c}")
    for path in given:
        if not re.fullmatch(words.DOTTED, path) or "*" in path.split("."):
            section.fail("set", f"{short(path)} is no place", "write keys, such as to or body.text")
    return given


def _asked(section: Section) -> tuple[str, ...]:
    given = section.fields.get("from", [])
    names = given if isinstance(given, list) else [given]
    found = [
        each for each in names if isinstance(each, str) and re.fullmatch(graph_words.WHO, each)
    ]
    if (
        len(found) < len(names)
        or len(names) > words.MAX_NAMES
        or ("from" in section.fields and not names)
    ):
        section.wrong(
            section.at("from"), given, "who may answer: role:NAME or user:NAME, or a list"
        )
    return tuple(found)


# --- whose, how much, by what else ------------------------------------------------------------


def _applies(section: Section) -> Applies:
    inner = section.section("applies_to")
    _known(inner, words.APPLIES)
    return Applies(
        workflows=_names(inner, "workflows") if "workflows" in inner.fields else None,
        users=_names(inner, "users") if "users" in inner.fields else None,
    )


def _budgets(section: Section) -> tuple[Budget, ...]:
    found: list[Budget] = []
    for index, each in enumerate(_list(section, "budgets", words.MAX_BUDGETS)):
        inner = Section(each, f"{section.at('budgets')}[{index}]", section.problems)
        budget = _budget(inner) if isinstance(each, dict) else None
        if budget is not None and any(other.name == budget.name for other in found):
            inner.fail("name", f"two budgets are called {short(budget.name)}", "rename one")
        found += [] if budget is None else [budget]
    return tuple(found)


def _budget(section: Section) -> Budget | None:
    before = len(section.problems)
    _known(section, words.BUDGET)
    for name in ("scope", "metric", "limit"):
        if name not in section.fields:
            section.fail(name, f"{name} is missing", "write scope, metric and limit")
    scope = _word(section, "scope", words.SCOPE_WORDS, "run")
    window = _word(section, "window", {each: each for each in words.WINDOWS}, "none")
    metric = section.text("metric", words.METRIC, "small letters, digits and _") or ""
    limit = _number(section, "limit")
    shortfall = _word(section, "on_shortfall", {each: each for each in words.SHORTFALLS}, "deny")
    ask_above = _number(section, "ask_above") if "ask_above" in section.fields else None
    if limit is not None and limit < 0:
        section.fail("limit", f"{limit} is less than nothing", "write 0 or more")
    if ask_above is not None and not 0 < ask_above < 1:
        section.fail("ask_above", f"{ask_above} is no share", "write a share such as 0.8")
    if scope == "execution" and window != "none":
        section.fail("window", "an execution has no window", "leave it out")
    if metric in {"iterations", "parallelism"}:
        section.fail("metric", f"{metric} is not used up", "write a rule for it")
    usual = f"{scope} {window} {metric}" if window != "none" else f"{scope} {metric}"
    called = section.text("name", words.RULE_NAME, "one line of at most 200 characters")
    if limit is None or len(section.problems) > before:
        return None
    return Budget(
        name=called or usual,
        scope=scope,
        window=window,
        metric=metric,
        limit=limit,
        on_shortfall=shortfall,
        ask_above=ask_above,
    )


def _plugins(section: Section) -> tuple[Use, ...]:
    found: list[Use] = []
    for index, each in enumerate(_list(section, "plugins", words.MAX_PLUGINS)):
        inner = Section(each, f"{section.at('plugins')}[{index}]", section.problems)
        _known(inner, words.PLUGIN)
        name = inner.text("use", words.PLUGIN_NAME, "the name of an installed plug-in")
        if "use" not in inner.fields:
            inner.fail("use", "use is missing", "name an installed plug-in")
        given = inner.fields.get("with", {})
        if not isinstance(given, dict):
            inner.wrong(inner.at("with"), given, "an object of what it is set up with")
            given = {}
        at = _moments(inner) or frozenset[words.Moment]({"start", "call"})
        found.append(Use(name=name or "", given=given, moments=at))
    return tuple(found)


# --- parts ------------------------------------------------------------------------------------


def _known(section: Section, names: Sequence[str]) -> None:
    """Refuse fields that are not among the names; of a great many, all at once."""
    unknown = len(section.fields.keys() - {*names})
    if unknown > _MAX_UNKNOWN:
        message = f"{unknown} fields that are not known"
        section.problems.append(_problem(section.path, message, f"it may have {_listed(names)}"))
    else:
        section.known(names)


#: A suggestion for each takes its time.
_MAX_UNKNOWN = 5


def _list(section: Section, name: str, most: int) -> list[Json]:
    given = section.fields.get(name, [])
    if not isinstance(given, list):
        section.wrong(section.at(name), given, "a list")
        return []
    if len(given) > most:
        section.fail(name, f"{len(given)} of them; {most} are the most", "write several policies")
        return []
    return given


def _names(section: Section, name: str) -> Names | None:
    given = section.fields[name]
    names = given if isinstance(given, list) else [given]
    texts = [each for each in names if isinstance(each, str) and re.fullmatch(words.GLOB, each)]
    if len(texts) < len(names) or not 1 <= len(names) <= words.MAX_NAMES:
        section.wrong(section.at(name), given, "a name, or a list of names; * is any characters")
        return None
    return Names(texts)


def _some(section: Section, name: str, known: Sequence[_Word]) -> tuple[_Word, ...]:
    """Some of a few words, at least one."""
    given = section.fields[name]
    if not isinstance(given, list) or not 1 <= len(given) <= len(known):
        section.wrong(section.at(name), given, f"a list of some of {_listed(known)}, each once")
        return ()
    for index, each in enumerate(given):
        if each not in known:
            remedy = suggestion(str(each)[:100], known) or f"write {_listed(known)}"
            message = f"there is no {short(str(each))}"
            section.problems.append(_problem(f"{section.at(name)}[{index}]", message, remedy))
    return tuple(each for each in known if each in given)


def _word(section: Section, name: str, known: Mapping[str, _Word], usual: _Word) -> _Word:
    given = section.fields.get(name, usual)
    if isinstance(given, str) and given.strip().lower() in known:
        return known[given.strip().lower()]
    if isinstance(given, str):
        remedy = suggestion(given, known) or f"write {_listed(dict.fromkeys(known.values()))}"
        section.fail(name, f"there is no {name} {short(given)}", remedy)
    else:
        section.wrong(section.at(name), given, _listed(dict.fromkeys(known.values())))
    return usual


def _number(section: Section, name: str) -> Decimal | None:
    """A number, or one written as people write them, exactly."""
    given = section.fields.get(name)
    found = None
    if isinstance(given, str):
        found = line.number(given)
    elif type(given) in {int, float}:
        found = line.number(f"{Decimal(str(given)):f}")
    if found is None and name in section.fields:
        wanted = (
            f"a number of at most {words.MAX_DECIMALS} decimals, such as 10000, '10 000' or 0.5"
        )
        if isinstance(given, str | int | float) and not isinstance(given, bool):
            section.fail(name, f"{short(str(given))} does not fit", f"write {wanted}")
        else:
            section.fail(name, f"{named(given)} stands here", f"write {wanted}")
    return found


def _pattern(section: Section, name: str) -> Pattern | None:
    given = section.fields[name]
    if not isinstance(given, str):
        section.wrong(section.at(name), given, "a regular expression, in quotes")
        return None
    try:
        return Pattern(given)
    except PatternError as error:
        section.fail(name, error.message, error.remedy)
        return None


def _expression(
    section: Section, name: str, *, bare: bool = False
) -> expressions.Expression | None:
    """An expression over the facts; `score`, where a bare name may stand, is `$result.score`."""
    given = section.fields[name]
    if bare and isinstance(given, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", given):
        given = f"$result.{given}"
    if not isinstance(given, str):
        section.wrong(section.at(name), given, "an expression as text, such as $tool == 'search'")
        return None
    try:
        found = expressions.compile(given)
    except expressions.ExpressionError as error:
        section.fail(name, str(error), error.remedy)
        return None
    if found.steps:
        section.fail(name, "$steps means nothing to a policy", f"it may read {_dollars()}")
        return None
    for each in sorted(found.names - {*words.NAMES}):
        remedy = suggestion(each, words.NAMES, "$") or f"it may read {_dollars()}"
        section.fail(name, f"there is no ${each}", remedy)
        return None
    return found


def _dollars() -> str:
    return _listed(f"${each}" for each in words.NAMES)


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _problem(path: str, message: str, remedy: str) -> Problem:
    return Problem(path=path, message=message, remedy=remedy)
