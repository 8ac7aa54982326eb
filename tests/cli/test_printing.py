from __future__ import annotations

from datetime import timedelta

import pytest

from celeriac.cli import printing


@pytest.mark.parametrize("text", ["\x1b[2J", "\x07", "\x9b31m", "a\rb", "\u202egnp.exe"])
def test_control_characters_are_shown_and_not_obeyed(text: str) -> None:
    shown = printing.legible(text)

    assert shown.isprintable()
    assert "\\" in shown


def test_lines_and_tabs_stay_as_they_are() -> None:
    assert printing.legible("a\tb\nc") == "a\tb\nc"


@pytest.mark.parametrize(
    ("value", "shown"), [(None, ""), ("text", "text"), (3, "3"), ({"ä": [1]}, '{"ä": [1]}')]
)
def test_a_value_is_shown_as_text(value: object, shown: str) -> None:
    assert printing.legible(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0 ms"),
        (0.0414, "41 ms"),
        (1.25, "1.2 s"),
        (59.99, "60.0 s"),
        (61, "1 min 01 s"),
        (3725, "1 h 02 min"),
    ],
)
def test_a_length_of_time_has_the_units_that_matter(seconds: float, shown: str) -> None:
    assert printing.duration(timedelta(seconds=seconds)) == shown


def test_what_has_not_begun_has_taken_no_time() -> None:
    assert printing.between(None, None) == ""


def test_a_variable_is_shown_as_far_as_it_fits_on_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printing.variables({"short": [1, 2], "code": "a\nb" * 1000})

    short, code = capsys.readouterr().out.splitlines()
    assert short == "  short  [1, 2]"
    assert code.startswith("  code  a⏎ba⏎b")
    assert code.endswith("… (3000 characters)")


def test_rows_that_are_piped_are_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    printing.table(("run", "message"), [("r1", "x" * 500)], empty="none")

    assert "x" * 500 in capsys.readouterr().out


def test_no_rows_are_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    printing.table(("run",), [], empty="No runs.")

    assert capsys.readouterr() == ("", "No runs.\n")
