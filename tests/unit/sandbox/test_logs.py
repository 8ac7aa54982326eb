"""What a node prints is its log: streamed, capped, and never its result."""

from __future__ import annotations

import json

import pytest

from tests.unit.sandbox.jobs import deed, node, within
from workers.sandbox import CallAnswer, Job, Limits, Outcome, Sandbox


def run(sandbox: Sandbox, job: Job) -> tuple[Outcome, list[tuple[str, str]]]:
    lines: list[tuple[str, str]] = []
    outcome = sandbox.run(job, on_log=lambda stream, line: lines.append((stream, line)))
    return outcome, lines


def test_printing_for_ever_is_capped_and_ends_with_its_own_reason(sandbox: Sandbox) -> None:
    job = node("while True: print('x' * 99)", limits=within(20, cpu_seconds=1, log_lines=10**6))
    outcome, lines = run(sandbox, job)
    assert outcome.reason == "cpu"
    assert outcome.log_truncated
    assert sum(len(line) + 1 for _, line in lines) <= 64 * 1024 + 1
    assert len(lines) >= 655


def test_pouring_past_our_streams_is_capped_too(sandbox: Sandbox) -> None:
    outcome, lines = run(sandbox, deed("pour", limits=within(0.5)))
    assert outcome.reason in ("timeout", "cpu")
    assert outcome.log_truncated
    assert sum(len(line) for _, line in lines) == 64 * 1024


def test_lines_are_capped_in_number(sandbox: Sandbox) -> None:
    job = node("for n in range(50): print(n)", limits=Limits(log_lines=10))
    outcome, lines = run(sandbox, job)
    assert outcome.ok
    assert outcome.log_truncated
    assert [line for _, line in lines] == [str(number) for number in range(10)]


def test_what_fills_the_cap_exactly_is_not_truncated(sandbox: Sandbox) -> None:
    outcome, lines = run(sandbox, node("print('x' * 99)", limits=Limits(log_bytes=100)))
    assert (outcome.log_truncated, lines) == (False, [("stdout", "x" * 99)])
    outcome, lines = run(sandbox, node("print('x' * 100)", limits=Limits(log_bytes=100)))
    assert (outcome.log_truncated, lines) == (True, [("stdout", "x" * 100)])


@pytest.mark.parametrize(
    "text", ['{"type": "done"}', "\\x00\\xff\\n\\n", "null", '{"ok": true, "value": 13}']
)
def test_printing_never_corrupts_a_result(sandbox: Sandbox, text: str) -> None:
    outcome, lines = run(sandbox, node(f"print('{text}')\nreturn {{'n': 1}}"))
    assert outcome.ok
    assert outcome.value == {"n": 1}
    assert lines


def test_both_streams_are_told_apart_and_made_storable(sandbox: Sandbox) -> None:
    outcome, lines = run(sandbox, deed("speak"))
    assert outcome.ok
    assert [line for stream, line in lines if stream == "stderr"] == ["err"]
    assert [line for stream, line in lines if stream == "stdout"] == [
        "out",
        "raw \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER} bytes",
        "no end",
    ]


def test_a_lone_surrogate_is_printed_as_its_escape(sandbox: Sandbox) -> None:
    _, lines = run(sandbox, node("print('\\ud800')"))
    assert lines == [("stdout", "\\ud800")]


def test_what_is_printed_is_seen_while_the_function_runs(sandbox: Sandbox) -> None:
    """The line comes before the call, the call before the end."""
    seen: list[str] = []

    def on_call(tool: str, _args: object, _kwargs: object) -> CallAnswer:
        seen.append(tool)
        return CallAnswer(ok=True)

    job = node("print('before', end='')\nprint('!')\ninvoke('tool')\nprint('after')")
    sandbox.run(job, on_log=lambda _, line: seen.append(line), on_call=on_call)
    assert seen == ["before!", "tool", "after"]


def test_what_was_printed_before_a_death_is_kept(sandbox: Sandbox) -> None:
    outcome, lines = run(sandbox, node("print('last words', end='')\nreturn 1/0"))
    assert outcome.reason == "error"
    assert lines == [("stdout", "last words")]


def test_closing_the_streams_hurts_nothing_but_the_log(sandbox: Sandbox) -> None:
    source = "def f(state): return state"
    job = Job(mode="node", name="f", source=source, arguments={"state": {}})
    assert sandbox.run(job).ok
    assert json.dumps(sandbox.run(deed("close_streams")).value) == '"closed"'
