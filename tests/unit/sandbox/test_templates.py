"""Templates are rendered behind the walls, and say where they are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sandbox.jobs import within
from workers.sandbox import Choose, Job, Limits, Outcome, Sandbox


def rendered(
    sandbox: Sandbox, text: str, limits: Limits | None = None, **variables: Any
) -> Outcome:
    return sandbox.run(
        Job(
            mode="template",
            name="letter",
            source=text,
            arguments={"variables": variables},
            limits=limits or within(20),
        )
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\n{{ nobody }}", "'nobody' is undefined (line 2 of letter: {{ nobody }})"),
        ("{{ x.y.z }}", "has no attribute 'y'"),
        ("a\nb\n{{ 1 / 0 }}", "ZeroDivisionError: division by zero (line 3 of letter: {{ 1 / 0 }})"),
        ("a\n{% for %}", "TemplateSyntaxError: Expected an expression, got 'end of statement block' (line 2 of letter)"),
        ("{% if x %}", "TemplateSyntaxError"),
        ("{{ x | nofilter }}", "No filter named 'nofilter'"),
        ("{% include 'other' %}", "no loader"),
        ("{% extends '/etc/passwd' %}", "no loader"),
        ("{{ x.__class__ }}", "unsafe"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ cycler.__init__.__globals__.os }}", "unsafe"),
        ("{{ '%s' | format(x.__class__) }}", "unsafe"),
        ("{{ ('{0.' ~ '__class__}').format(x) }}", "unsafe"),
        ("{{ items.append(1) }}", "immutable"),
        ("{{ range(10000000) | list }}", "Range too big"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(sandbox: Sandbox, text: str, said: str) -> None:
    outcome = rendered(sandbox, text, x={}, items=[])
    assert (outcome.ok, outcome.reason) == (False, "error")
    if said == "immutable":
        assert "SecurityError" in outcome.message
    elif said == "no loader":
        assert "TypeError" in outcome.message
    else:
        assert said in outcome.message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}{% endfor %}", "cpu"),
        ("{{ 'x' * 2000000 }}", "output_too_large"),
        ("{{ 'x' * 2000000000 }}", "memory"),
        ("{{ 7 ** (10 ** 8) }}", "cpu"),
    ],
)  # fmt: skip
def test_what_costs_too_much_ends_like_code(sandbox: Sandbox, text: str, reason: str) -> None:
    assert rendered(sandbox, text, within(30, cpu_seconds=1)).reason == reason


def test_a_template_is_text_that_becomes_text(sandbox: Sandbox) -> None:
    text = "Dear {{ who.name | title }},\n{% for item in items -%}\n- {{ item }}\n{% endfor %}\n"
    outcome = rendered(sandbox, text, who={"name": "ada <x>"}, items=[1, 2.5, None])
    assert outcome.value == "Dear Ada <X>,\n- 1\n- 2.5\n- None\n\n"
    assert outcome.patch is None


def test_what_is_drawn_by_chance_is_drawn_alike_under_one_key(sandbox: Sandbox) -> None:
    def drawn(key: str) -> Any:
        text = "{{ range(100000) | random }} {{ range(100000) | random }} {{ lipsum(1) }}"
        job = Job(
            mode="template",
            name="letter",
            source=text,
            arguments={"variables": {}},
            limits=within(20),
            context={"idempotency_key": key},
        )
        return sandbox.run(job).value

    first = drawn("run/a#1")
    assert first == drawn("run/a#1")
    assert first != drawn("run/a#2")
    one, other, *_ = first.split()
    assert one != other


def test_nothing_of_the_platform_is_in_reach_of_one(sandbox: Sandbox) -> None:
    for name in ("invoke", "tools", "state", "open", "self.environment"):
        assert not rendered(sandbox, f"{{{{ {name} }}}}").ok or name == "self.environment"


def test_a_template_takes_source_and_variables_alone() -> None:
    given: dict[str, Any] = {"mode": "template", "name": "t"}
    with pytest.raises(ValueError, match="template t takes source"):
        Job(**given, source="x")
    with pytest.raises(ValueError, match="template t takes source"):
        Job(**given, arguments={"variables": {}})
    with pytest.raises(ValueError, match="template t takes source"):
        Job(**given, source="x", arguments={"variables": {}}, choose=Choose(name="c", source="x"))
