from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from celeriac.change_review import (
    FUNCTIONS,
    kinds,
    languages,
    laps,
    linter,
    measures,
    programs,
    ranges,
    reviewing,
    scopes,
    texts,
)
from celeriac.change_review.linter import Edit, Fix
from celeriac.change_review.ranges import RangeError, changed_files
from celeriac.change_review.reviewing import Scope
from tests.support.repositories import Repository, repository
from workers.sandbox import Job, Limits, Sandbox

PRICE = """import json
import math


class Anything:
    def __eq__(self, other):
        return other is None


def find(items,wanted):
    for item in items:
        if item == None:
            return -1
        else:
            if item == wanted:
                return 42
    return 0


def area(w, h):
    unused = {}
    return w * h
"""
TESTS = """
from __future__ import annotations
from shop.price import Anything, find as look, area


def test_none():
    assert look([Anything()], 3) == -1

def test_found():
    assert look([3], 3) == 42

def test_area():
    assert area(2, 3) == 6

def test_with_a_fixture(folder):
    assert folder
"""


@pytest.fixture
def shop(tmp_path: Path) -> Repository:
    return repository(tmp_path / "shop")


def review(sandbox: Sandbox | None = None, **given: Any) -> dict[str, Any]:
    """Turn the laps of a file as the workflow does, each trial in the sandbox."""
    state: dict[str, Any] = dict(given)
    state |= FUNCTIONS["begin_review"](state)
    while state["stop_reason"] is None:
        json.dumps(state)
        state["trial"] = None if state["program"] is None else tried(sandbox, state["program"])
        state |= FUNCTIONS["weigh_change"](state)
    found: dict[str, Any] = state["review"]
    assert found["scores"] == sorted(set(found["scores"])), "each lap must raise the score"
    return found


def tried(sandbox: Sandbox | None, program: str) -> Any:
    assert sandbox is not None
    job = Job(
        mode="tool",
        name=programs.ENTRY,
        source=program,
        arguments={"args": []},
        modules=kinds._MODULES,
        limits=Limits(seconds=4),
    )
    ended = sandbox.run(job)
    if ended.ok:
        return ended.value
    return {"passed": [], "failed": [{"test": programs.LOADING, "message": ended.message}]}


def placed(found: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(each["rule"], each["line"]) for each in found]


# --- what cannot be reviewed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "rule", "line"),
    [
        (b"x = 1\ny = '\0'\n", "binary", 2),
        ("x = 1\n".encode("utf-16"), "encoding", 1),
        ("x = 1\n".encode("utf-32"), "encoding", 1),
        (b"# -*- coding: latin-1 -*-\nname = '\xe9'\n", "encoding", 2),
        (b"x" * (texts.MOST_BYTES + 1), "too_large", 1),
    ],
)
def test_bytes_that_are_no_text_say_what_to_do(data: bytes, rule: str, line: int) -> None:
    with pytest.raises(texts.UnreadableError) as raised:
        texts.decoded(data)
    assert (raised.value.rule, raised.value.line) == (rule, line)


@pytest.mark.parametrize(
    ("code", "rule", "line"),
    [
        ("def f(:\n", "syntax_error", 1),
        ("x = 1\n\0\n", "binary", 2),
        (f"x = 1\ny = '{'a' * 1_000_000}'\n", "line_too_long", 2),
        ("(" * 10_000, "syntax_error", 1),
        ("x = 1\n" * 200_000, "too_large", 1),
        ("x = 1\n\ud800", "encoding", 2),
    ],
)
def test_hostile_text_is_one_finding_and_scores_nothing(code: str, rule: str, line: int) -> None:
    found = review(code=code)
    assert placed(found["findings"]) == [(rule, line)]
    assert (found["score"], found["stop_reason"]) == (0.0, "unread")


def test_a_byte_order_mark_is_named_and_taken_off() -> None:
    found = review(code="\ufeffx = 1\n", threshold=0)
    assert placed(found["findings"]) == [("byte_order_mark", 1)]


def test_thousands_of_functions_are_reviewed_and_their_findings_are_bounded() -> None:
    found = review(code="def f():\n    return 4711\n\n\n" * 5_000, threshold=10)
    assert len(found["findings"]) == laps.MOST_FINDINGS
    # A magic number each, a layout, and all but the last are defined anew.
    assert found["omitted"] == 5_000 + 4_999 + 1 - laps.MOST_FINDINGS
    assert found["stop_reason"] == "nothing_left"


def test_an_encoding_that_is_not_true_is_named() -> None:
    found = review(code="#!/usr/bin/python\n# vim: set fileencoding=latin-1 :\n", threshold=0)
    assert placed(found["findings"]) == [("encoding", 1)]
    assert "latin-1" in found["findings"][0]["message"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("code", 7, "code: expected text, got int"),
        ("language", "cobol", "language: 'cobol' is not read; the languages are python, "),
        ("changed", [["a", 1]], r"changed: expected null or a list of ranges of lines"),
        ("changed", [[7, 3]], r"changed: expected null or a list of ranges of lines"),
        ("unreadable", {"rule": 1}, "unreadable: expected null or {rule, message, line}"),
        ("threshold", "9", "threshold: expected a number"),
        ("max_laps", -1, "max_laps: expected a whole number from 0"),
    ],
)
def test_what_is_not_taken_is_refused_by_name(field: str, value: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        FUNCTIONS["begin_review"]({"code": "x = 1\n", field: value})


def test_a_grammar_that_is_not_installed_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        languages.GRAMMARS, "go", languages.Grammar(**{**go_fields(), "place": "no_such_grammar:x"})
    )
    found = review(code="package a\n", language="go")
    assert placed(found["findings"]) == [("lacking", 1)]
    assert "pip install 'celeriac[review]'" in found["findings"][0]["message"]


def go_fields() -> dict[str, Any]:
    grammar = languages.GRAMMARS["go"]
    return {name: getattr(grammar, name) for name in grammar.__slots__}


def test_without_ruff_the_others_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(_text: str) -> list[linter.Lint]:
        raise languages.LackingError("ruff")

    monkeypatch.setattr(linter, "lint", lacking)
    found = reviewing.review("def f():\n    return 42\n", "python", Scope())
    assert {each["rule"] for each in found.findings} == {"linter", "magic_numbers"}


# --- ruff ----------------------------------------------------------------------------------------


def test_no_comment_hides_a_finding() -> None:
    code = (
        "# ruff: noqa\n# flake8: noqa\nimport os  # noqa: F401\n# ruff: disable[F401]\nimport re\n"
    )
    assert [(each.rule, each.line) for each in linter.lint(code)] == [("F401", 3), ("F401", 5)]


def test_no_configuration_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ignored = tmp_path / "ruff.toml"
    ignored.write_text('extend = "/etc/passwd"\n[lint]\nignore = ["F401"]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUFF_CONFIG", str(ignored))
    assert [each.rule for each in linter.lint("import os\n")] == ["F401"]


def test_fixes_that_meet_are_not_made_together() -> None:
    def fix(start: int, end: int, content: str) -> Fix:
        return Fix(safety="safe", edits=(Edit(start=start, end=end, content=content),))

    assert linter.applied("abcdef", [fix(0, 2, "X"), fix(1, 3, "Y"), fix(3, 4, "")]) == "Xcef"
    assert linter.applied("ab", [fix(1, 1, "X"), fix(1, 1, "Y")]) == "aXb"
    assert linter.applied("abcd", [fix(0, 2, ""), fix(2, 4, "")]) == ""


def test_offsets_count_characters_and_every_end_of_a_line() -> None:
    code = "é = '🐍'\r\nimport os\r\n\r\ndef f():\r\n    return é\r\n"
    lint = next(each for each in linter.lint(code) if each.rule == "F401")
    assert lint.fix is not None
    assert linter.applied(code, [lint.fix]) == code.replace("import os\r\n", "")


def test_only_the_lines_that_are_asked_about_are_laid_out() -> None:
    code = "x  = 1\n\n\ndef f( a ):\n  return a\n\n\ny  = 2\n\n\ndef g( a ):\n  return a"
    laid_out = code.replace("( a )", "(a)").replace("  return", "    return") + "\n"
    assert linter.formatted(code, [(11, 12), (4, 5)]) == laid_out.removesuffix("\n")
    first = code.replace("f( a ):\n  return", "f(a):\n    return")
    assert linter.formatted(code, [(4, 5)]) == first


WIDE = "def f(a):\n    return g(a, {}, {})\n".format("b" * 40, "c" * 30)


def test_a_layout_of_any_common_width_is_one() -> None:
    assert reviewing.laid_out(WIDE, (), Scope()) == WIDE
    assert reviewing.laid_out(WIDE.replace("(a, ", "(a,"), (), Scope()) == WIDE


# --- functions in every language --------------------------------------------------------------------

SOURCES = {
    "javascript": "class A {\n  f(a, b = 2) {\n%s  }\n}\n",
    "typescript": "class A {\n  f(this: A, a: number, b?: string): void {\n%s  }\n}\n",
    "tsx": "class A {\n  f(a: number, b?: string) {\n%s  }\n}\n",
    "java": "class A {\n  int f(int a, int... b) {\n%s  }\n}\n",
    "go": "package a\nfunc (r *A) f(a, b int) int {\n%s}\n",
    "c": "#include <a.h>\nstatic int *f(int a, char **b) {\n%s}\n",
}
SCRIPT = "for (;;) {\nif (a && b) { c(); }\nelse if (d) { e(); }\n}\n"
BODIES = {
    **dict.fromkeys(("javascript", "typescript", "tsx", "java", "c"), SCRIPT),
    "go": "for {\nif a && b { c() } else if d { e() }\n}\n",
}


@pytest.mark.parametrize("language", SOURCES)
def test_a_function_is_measured_in_every_language(language: str) -> None:
    reading = scopes.read(SOURCES[language] % BODIES[language], language)
    (one,) = reading.functions
    assert (one.name.removeprefix("A."), one.parameters) == ("f", 2)
    assert (one.cyclomatic, one.nesting) == (5, 2)
    assert (one.first, reading.broken) == (2, None)


@pytest.mark.parametrize("language", SOURCES)
def test_what_is_too_much_has_a_rule_and_a_line_in_every_language(language: str) -> None:
    found = review(code=SOURCES[language] % (BODIES[language] * 12), language=language)
    assert {("long_function", 2), ("complex_function", 2)} <= set(placed(found["findings"]))
    assert found["stop_reason"] == "not_mended"


@pytest.mark.parametrize("language", SOURCES)
def test_what_a_grammar_cannot_read_is_named_by_its_line(language: str) -> None:
    code = SOURCES[language] % BODIES[language] + ") (\n"
    found = review(code=code, language=language)
    assert [each["rule"] for each in found["findings"]] == ["syntax_error"]
    assert 0 < found["score"] < 10


def test_words_within_strings_and_comments_never_count() -> None:
    code = "function f() {\n// if (a && b)\nreturn 'if while for';\n}\n"
    (one,) = scopes.read(code, "javascript").functions
    assert one.cyclomatic == 1


def test_depth_that_would_break_a_stack_is_walked() -> None:
    code = "function f() { return " + "(" * 5_000 + "1" + ")" * 5_000 + "; }\n"
    (one,) = scopes.read(code, "javascript").functions
    assert one.name == "f"


def test_functions_within_functions_without_end_are_read() -> None:
    depth = 2_000
    code = "function f() {\n" * depth + "}\n" * depth
    found = scopes.read(code, "javascript").functions
    assert len(found) == depth
    assert len(found[-1].name) < 300
    ((_, nth),) = scopes.touched(found, [[depth, depth]])
    assert nth > 0


def test_a_function_is_called_as_what_it_is_assigned_to() -> None:
    code = "const f = x => 1;\na.b = function () {};\nlet o = {k: () => 2};\ng(() => 3);\n"
    found = [one.name for one in scopes.read(code, "javascript").functions]
    assert found == ["f", "a.b", "k", scopes.ANONYMOUS]


NESTED = """class A:
    @decorated
    def f(self):
        def g():
            return 1

        return g

    def f(self):
        return 2
"""


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ([[1, 1]], set()),
        ([[2, 2]], {("A.f", 0)}),
        ([[5, 5]], {("A.f.g", 0)}),
        ([[7, 7]], {("A.f", 0)}),
        ([[9, 10]], {("A.f", 1)}),
        ([[1, 10]], {("A.f", 0), ("A.f.g", 0), ("A.f", 1)}),
        ([[5.5, 5.5]], {("A.f", 0)}),
        ([[7.5, 7.5]], set()),
        ([[8, 8]], set()),
        ([], set()),
    ],
)
def test_a_line_belongs_to_the_innermost_function(changed: Any, expected: Any) -> None:
    assert scopes.touched(scopes.read(NESTED, "python").functions, changed) == expected


def test_functions_of_one_line_are_told_apart() -> None:
    found = scopes.read("function f() {}\nfunction g() {}\nfunction h() {}\n", "javascript")
    assert scopes.touched(found.functions, [[2, 2]]) == {("g", 0)}
    assert scopes.owners(found.functions, [3])[3].name == "h"


def test_the_measures_leave_to_the_rules_what_is_theirs() -> None:
    code = "def f(a, b, c, d, e, g):\n" + "    x = 1\n" * 31
    found = reviewing.review(code, "python", Scope()).findings
    assert [each["by"] for each in found if each["rule"] == "too_many_args"] == [reviewing.RULES]
    assert measures.BY not in {each["by"] for each in found}


# --- ranges of Git ----------------------------------------------------------------------------------


def test_the_lines_that_differ_are_told_by_file(shop: Repository) -> None:
    old = shop.commit({"a.py": "def f():\n    a = 1\n    return a\n", "gone.py": "x = 1\n"})
    shop.git("branch", "before")
    shop.commit(
        {
            "a.py": "def f():\n    return a\n\n\ndef g():\n    return 1\n",
            "new.js": "let a = 1;\n",
            "gone.py": None,
        }
    )
    told = changed_files(str(shop.folder), "before", "HEAD", {"a.py": "new.js"})
    assert told["left_out"] == []
    found = {each["path"]: each for each in told["files"]}
    assert found.keys() == {"a.py", "new.js"}
    assert found["a.py"]["changed"] == [[1, 1], [3, 6]]
    assert (found["new.js"]["changed"], found["new.js"]["language"]) == ([[1, 2]], "javascript")
    assert found["a.py"]["tests"] == "let a = 1;\n"
    assert changed_files(str(shop.folder), old, "before")["files"] == []


def test_what_was_only_renamed_is_left_out(shop: Repository) -> None:
    body = "".join(f"def f{number}():\n    return {number}\n" for number in range(9))
    shop.commit({"a.py": body})
    shop.commit({"a.py": None, "b.py": body, "c.py": "x = 1\n"})
    told = changed_files(str(shop.folder), "HEAD~1", "HEAD")
    assert [each["path"] for each in told["files"]] == ["c.py"]


def test_links_submodules_and_unknown_languages_are_left_out_by_name(
    shop: Repository, tmp_path: Path
) -> None:
    shop.commit({"a.txt": "1"})
    inner = repository(tmp_path / "inner")
    inner.commit({"x.py": "x = 1\n"})
    (shop.folder / "link.py").symlink_to("/etc/passwd")
    shop.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner.folder))
    shop.commit({"b.txt": "2"})
    told = changed_files(str(shop.folder), "HEAD~1", "HEAD")
    assert told["files"] == []
    rules = {each["path"]: each["rule"] for each in told["left_out"]}
    assert rules == {
        "link.py": "symlink",
        "inner": "submodule",
        "b.txt": "unknown_language",
        ".gitmodules": "unknown_language",
    }


def test_what_is_binary_huge_or_encoded_otherwise_is_told_of_its_file(shop: Repository) -> None:
    shop.commit({"a.txt": "1"})
    shop.commit(
        {
            "nul.py": b"x = '\0'\n",
            "huge.py": b"x" * (texts.MOST_BYTES + 1),
            "wide.py": "x = 1\n".encode("utf-16"),
            "long.py": "x = '" + "a" * 1_000_000 + "'\n",
        }
    )
    told = changed_files(str(shop.folder), "HEAD~1", "HEAD")
    reviews = {each["path"]: review(**each) for each in told["files"]}
    rules = {path: placed(found["findings"])[0][0] for path, found in reviews.items()}
    assert rules == {
        "nul.py": "binary",
        "huge.py": "too_large",
        "wide.py": "encoding",
        "long.py": "line_too_long",
    }


def test_a_name_that_means_something_to_git_is_a_name(shop: Repository) -> None:
    shop.commit({"a.txt": "1"})
    names = ["--output=x.py", ":(glob)*.py", "a\nb.py", 'ä "quoted".py', "-c.py"]
    shop.commit(dict.fromkeys(names, "def f():\n    return 1\n"))
    told = changed_files(str(shop.folder), "HEAD~1", "HEAD", dict.fromkeys(names, names[1]))
    assert {each["path"] for each in told["files"]} == set(names)
    assert all(each["tests"] for each in told["files"])


@pytest.mark.parametrize(
    "name",
    ["", "--output=/tmp/x", "-h", "HEAD..main", "main:a.txt", "HEAD@{1}", "a b", "x\n", "no-such"],
)
def test_what_names_no_commit_is_refused(shop: Repository, name: str) -> None:
    shop.commit({"a.txt": "1"})
    with pytest.raises(RangeError, match=r"^base: "):
        changed_files(str(shop.folder), name, "HEAD")


@pytest.mark.parametrize("path", ["no-such.py", "../a.txt", "/etc/passwd", "link.py", "folder"])
def test_tests_that_are_no_file_of_the_commit_are_refused(shop: Repository, path: str) -> None:
    shop.commit({"a.txt": "1"})
    (shop.folder / "link.py").symlink_to("/etc/passwd")
    shop.commit({"a.py": "x = 1\n", "folder/b.py": ""})
    with pytest.raises(RangeError, match="tests: there is no file"):
        changed_files(str(shop.folder), "HEAD~1", "HEAD", {"a.py": path})


def test_nothing_that_a_repository_names_is_run(shop: Repository, tmp_path: Path) -> None:
    shop.commit({"a.py": "x = 1\n"})
    shop.commit({"a.py": "def f():\n    return 1\n", ".gitattributes": "*.py diff=evil -text\n"})
    mark = tmp_path / "ran"
    program = tmp_path / "evil.sh"
    program.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    program.chmod(0o755)
    for name in (
        *("diff.external", "diff.evil.textconv", "diff.evil.command", "core.fsmonitor"),
        *("core.pager", "core.sshCommand", "filter.evil.smudge", "remote.origin.uploadpack"),
    ):
        shop.git("config", name, str(program))
    shop.git("config", "remote.origin.url", f"ext::{program}")
    shop.git("config", "remote.origin.promisor", "true")
    shop.git("config", "protocol.ext.allow", "always")
    shop.git("config", "diff.orderFile", "/etc/passwd")
    shop.git("config", "diff.interHunkContext", "100")
    (shop.folder / ".git" / "info" / "attributes").write_text("*.py diff=evil\n")
    told = changed_files(str(shop.folder), "HEAD~1", "HEAD")
    assert [(each["path"], each["changed"]) for each in told["files"]] == [("a.py", [[1, 2]])]
    # An object that is not there is not fetched either.
    blob = shop.git("rev-parse", "HEAD:a.py")
    (shop.folder / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(RangeError, match="git "):
        changed_files(str(shop.folder), "HEAD~1", "HEAD")
    assert not mark.exists()


def test_a_repository_that_leads_elsewhere_is_refused(shop: Repository, tmp_path: Path) -> None:
    shop.commit({"a.py": "x = 1\n"})
    shop.commit({"a.py": "x = 2\n"})
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / ".git").symlink_to(shop.folder / ".git")
    shop.git("worktree", "add", "--quiet", str(tmp_path / "tree"), "-b", "other")
    borrowing = tmp_path / "borrowing"
    shop.git("clone", "--quiet", "--shared", str(shop.folder), str(borrowing))
    objects = repository(tmp_path / "objects")
    (objects.folder / ".git" / "objects").rename(tmp_path / "moved")
    (objects.folder / ".git" / "objects").symlink_to(shop.folder / ".git" / "objects")
    pack = repository(tmp_path / "pack")
    (pack.folder / ".git" / "objects" / "pack" / "x.pack").symlink_to("/etc/passwd")
    elsewhere = (linked, tmp_path / "tree", borrowing, objects.folder, pack.folder)
    for folder in (*elsewhere, tmp_path / "nowhere"):
        with pytest.raises(RangeError, match=r"link|borrows|no repository"):
            changed_files(str(folder), "HEAD~1", "HEAD")


def test_a_range_of_many_files_ends_somewhere(
    shop: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "MOST_FILES", 2)
    shop.commit({"a.txt": "1"})
    shop.commit({f"{name}.py": "x = 1\n" for name in "abc"})
    told = changed_files(str(shop.folder), "HEAD~1", "HEAD")
    assert [each["path"] for each in told["files"]] == ["a.py", "b.py"]
    assert [(each["path"], each["rule"]) for each in told["left_out"]] == [("c.py", "too_much")]


# --- laps ----------------------------------------------------------------------------------------


def test_each_lap_raises_the_score_and_keeps_the_tests_passing(sandbox: Sandbox) -> None:
    found = review(sandbox, code=PRICE, tests=TESTS, path="shop/price.py", threshold=10)
    assert found["tests"]["passed"] == ["<module>", "test_none", "test_found", "test_area"]
    assert found["tests"]["skipped"] == ["test_with_a_fixture"]
    changes = [lap["change"] for lap in found["laps"]]
    assert changes == [
        *("fix F401", "fix RET505", "name the literals of find", "fix F841 (unsafe)", "lay out"),
    ]
    assert [lap["score"] for lap in found["laps"]] == found["scores"][1:]
    assert all(lap["diff"].startswith("--- a/shop/price.py") for lap in found["laps"])
    assert all(lap["passed"] == found["tests"]["passed"] for lap in found["laps"])
    code = found["code_after"]
    whole = programs.program(code, programs.tests(TESTS, "shop/price.py"))
    assert tried(sandbox, whole) == {"passed": found["tests"]["passed"], "failed": []}
    assert found["stop_reason"] == "nothing_left"


def test_a_change_that_breaks_a_test_is_rolled_back_and_said_so(sandbox: Sandbox) -> None:
    found = review(sandbox, code=PRICE, tests=TESTS, path="shop/price.py", threshold=10)
    (back,) = found["rolled_back"]
    assert back["change"] == "fix E711 (unsafe)"
    assert back["why"].startswith("test_none failed: AssertionError")
    assert "+        if item is None:" in back["diff"]
    assert "item == None" in found["code_after"]
    assert placed(found["left"]) == [("E711", 11)]


def test_without_tests_no_change_is_made_that_is_not_safe() -> None:
    found = review(code=PRICE, threshold=10)
    assert not [lap for lap in found["laps"] if "unsafe" in lap["change"]]
    assert "item == None" in found["code_after"]
    assert found["rolled_back"] == []


def test_tests_that_fail_before_anything_is_changed_leave_the_code(sandbox: Sandbox) -> None:
    found = review(sandbox, code=PRICE, tests="def test_it():\n    assert area(1, 1) == 2\n")
    assert (found["stop_reason"], found["laps"], found["code_after"]) == ("tests_fail", [], None)
    assert [each["test"] for each in found["tests"]["failed"]] == ["test_it"]
    assert ("E711", 12) in placed(found["findings"])


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("def test_it():\n    import os\n", "ImportError"),
        ("def test_it():\n    while True: pass\n", "processor|longer"),
        ("def test_it():\n    x = 'a' * 10**12\n", "Memory"),
        ("def test_it():\n    open('/etc/passwd')\n", "PermissionError"),
        ("def celeriac_trial():\n    return 1\nraise SystemExit\n", "SystemExit"),
        ("def test_it():\n    invoke('send_money')\n", "no_calls|no tool"),
    ],
)
def test_what_tests_do_they_do_behind_the_walls(sandbox: Sandbox, tests: str, message: str) -> None:
    found = review(sandbox, code="def f():\n    return 1\n", tests=tests)
    assert found["stop_reason"] == "tests_fail"
    (failed, *_) = found["tests"]["failed"]
    assert any(word.lower() in failed["message"].lower() for word in message.split("|")), failed


@pytest.mark.parametrize("tests", ["def test(:\n", "x = " + "+".join(["1"] * 990) + "\n"])
def test_tests_that_are_not_python_leave_the_code(tests: str) -> None:
    found = review(code="import os\n", tests=tests)
    assert found["stop_reason"] == "tests_unreadable"
    assert found["tests"]["failed"][0]["message"].startswith("tests: line 1")


def test_only_what_was_changed_is_reviewed_and_mended(sandbox: Sandbox) -> None:
    found = review(
        sandbox, code=PRICE, changed=[[21, 21]], tests=TESTS, path="shop/price.py", threshold=10
    )
    assert found["functions"] == ["area"]
    assert placed(found["findings"]) == [("F841", 21)]
    assert found["code_after"] == PRICE.replace("    unused = {}\n", "")
    assert (found["score"], found["stop_reason"]) == (10.0, "threshold")


def test_ranges_beyond_the_end_of_a_file_end_with_it() -> None:
    found = review(code=PRICE, changed=[[21, 10**18], [10**17, 10**18]], threshold=0)
    assert found["functions"] == ["area"]


def test_laps_end_at_their_bound_and_at_the_threshold() -> None:
    assert len(review(code=PRICE, threshold=10, max_laps=1)["laps"]) == 1
    assert review(code=PRICE, threshold=10, max_laps=1)["stop_reason"] == "max_laps"
    assert review(code=PRICE, threshold=5)["laps"] == []


def test_methods_of_one_name_are_told_apart() -> None:
    code = "class A:\n    def f(self):\n        return 11\n\n    def f(self):\n        return 12\n"
    found = review(code=code, changed=[[6, 6]], threshold=10)
    assert placed(found["findings"]) == [("F811", 5), ("magic_numbers", 6)]
    assert "return 11" in found["code_after"]
    assert "return 12" not in found["code_after"]


def test_a_report_of_files_names_those_whose_review_failed() -> None:
    good = review(code="import os\n", path="a.py", threshold=0)
    told = FUNCTIONS["gather_reviews"](
        {
            "files": [{"path": "a.py"}, {"path": "b.py"}],
            "reviews": [{"review": good}, None],
            "left_out": [],
        }
    )["report"]
    assert [(each["path"], each["rule"]) for each in told["findings"]] == [("a.py", "F401")]
    assert [(each["path"], each["rule"]) for each in told["left_out"]] == [("b.py", "failed")]
    assert told["score"] == good["score"]
