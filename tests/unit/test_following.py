"""That a text which says what is not so is found out, or texts could be followed whatever they say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.following import follow, section


def text(*lines: str) -> str:
    return "\n".join(("", "```console", *lines, "```", ""))


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        (text("$ false"), "ended with 1"),
        (text("$ no-such-command"), "ended with 127"),
        (text("$ echo one", "two"), "something else"),
        (text("$ echo one; echo two", "one"), "something else"),
        (text("$ echo one", "one", "two"), "something else"),
        (text("$ echo one"), "something else"),
        (text("$ exit 0"), "the shell has ended"),
        (text("$ echo 1.0", "1x0"), "something else"),
    ],
)
def test_what_is_not_so_is_told_with_both_sides(tmp_path: Path, shown: str, why: str) -> None:
    with pytest.raises(AssertionError, match=f"(?s)line 3, {why}.*--- but it printed"):
        follow(shown, os.environ, tmp_path)


def test_a_block_that_is_over_before_it_has_shown_all_is_told(tmp_path: Path) -> None:
    shown = "<!-- terminal: other, goes on -->" + text("$ echo one", "one", "two")
    with pytest.raises(AssertionError, match="something else"):
        follow(shown, os.environ, tmp_path)


def test_what_it_says_is_done_in_order(tmp_path: Path) -> None:
    shown = """
Save it as `who`:

```text
$NAME
```

```console
$ NAME=Ada
$ cat who; echo \\
>   "  $NAME"; printf 'more\\nand more'
$NAME
 Ada
…
an… more
```
"""
    follow(shown, os.environ, tmp_path)
    assert (tmp_path / "who").read_text() == "$NAME\n"


def test_what_goes_on_in_one_terminal_is_waited_for_from_another(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "said")
    shown = """
<!-- terminal: other, goes on -->
```console
$ echo begun; cat said
begun
```

```console
$ echo hello > said
```

<!-- terminal: other -->
```console
hello
```
"""
    follow(shown, os.environ, tmp_path)


def test_a_section_ends_where_the_next_one_begins() -> None:
    assert section("# a\n## b\nx\n### c\ny\n## d\nz\n", "## b") == "\nx\n### c\ny\n"
    with pytest.raises(AssertionError, match="there is no '## e'"):
        section("# a\n", "## e")
