from __future__ import annotations

import ast
import itertools
import json
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celeriac.code_review import FUNCTIONS, GRAPHS, TOOLS

EXAMPLES = Path(__file__).parents[2] / "examples"

PUBLISHED = "def calculate(x, y):\n    if x > 10:\n        return x*y\n    return x+y"


class DictState(dict[str, Any]):
    """The state of a run, as node functions see it."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


def review(code: object, **given: Any) -> dict[str, Any]:
    """Run the published graph by its own edges, and return the data of the state."""
    (graph,) = GRAPHS
    nodes = {node["name"]: node for node in graph["nodes"]}
    state = DictState(code=code, **given)
    here, visits = graph["start_node"], 0
    while nodes[here]["type"] != "end":
        node = nodes[here]
        if "function" in node:
            assert FUNCTIONS[node["function"]](state) is state
            json.dumps(state)
        edges = [edge for edge in graph["edges"] if edge["source"] == here]
        if node["type"] == "loop":
            visits += 1
            assert visits < node["max_iterations"], "the graph's bound cut the state's"
            wanted = "loop" if FUNCTIONS[node["condition"]](state) else None
            edges = [edge for edge in edges if edge.get("label") == wanted]
        (edge,) = edges
        here = edge["target"]
    return dict(state)


def issues_of(body: str) -> dict[str, dict[str, Any]]:
    return {issue["type"]: issue for issue in TOOLS["detect_issues"](body, "f")}


def complexity_of(body: str) -> tuple[int, int, int]:
    found = TOOLS["calculate_complexity"](body)
    return found["cyclomatic"], found["cognitive"], found["lines"]


def run(code: str, call: str) -> Any:
    names: dict[str, Any] = {}
    with warnings.catch_warnings(action="ignore"):
        exec(compile(code, "reviewed", "exec"), names)
    return eval(call, names)


# --- what cannot be reviewed ---------------------------------------------------------------------


@pytest.mark.parametrize("code", [None, 7, ["def f(): pass"], b"x = 1", {}])
def test_code_that_is_not_text_is_refused_by_name(code: object) -> None:
    with pytest.raises(TypeError, match="code: expected the text of a Python module"):
        review(code)


def test_a_missing_code_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"code: .* got nothing; give it as a string"):
        FUNCTIONS["extract_functions"](DictState())


@pytest.mark.parametrize("threshold", ["6", None, True, [6]])
def test_a_threshold_that_is_no_number_is_refused_before_any_work(threshold: object) -> None:
    with pytest.raises(TypeError, match="quality_threshold: expected a number"):
        FUNCTIONS["extract_functions"](DictState(code="", quality_threshold=threshold))


@pytest.mark.parametrize("laps", ["5", 2.5, -1, False])
def test_a_bound_that_is_no_count_is_refused_before_any_work(laps: object) -> None:
    with pytest.raises(TypeError, match="max_iterations: expected a whole number"):
        FUNCTIONS["extract_functions"](DictState(code="", max_iterations=laps))


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("def f(:\n    pass", 1),
        ("x = 1\ndef f()\n    pass", 2),
        ("def f():\n        a\n    b", 3),
        ("x = '\x00'", 1),
        ("x = '\ud800'", 1),
        ("(" * 300, 1),
        ("x = " + "-" * 100_000 + "1", 1),
        ("x = 1" + "+1" * 100_000, 1),
        ("x = " + "1" * 5_000, 1),
    ],
)
def test_code_that_is_not_python_is_one_issue_and_scores_nothing(code: str, line: int) -> None:
    found = review(code)
    (issue,) = found["issues"]
    assert (issue["type"], issue["severity"], issue["line"]) == ("syntax_error", "high", line)
    assert f"line {line}" in issue["message"]
    assert found["functions"] == []
    assert found["quality_score"] == 0
    assert found["stop_reason"] == "nothing_left"
    assert found["improvements_applied"] == 0
    assert found["severity_counts"] == {"high": 1, "medium": 0, "low": 0}
    assert found["suggestions"][0]["category"] == "correctness"


def test_the_tools_say_where_text_is_not_python() -> None:
    for name in ("extract_functions", "calculate_complexity"):
        with pytest.raises(ValueError, match=r"line 2: .*; send source"):
            TOOLS[name]("x = 1\ndef f(")
    (issue,) = TOOLS["detect_issues"]("def f(", "f")
    assert issue["type"] == "syntax_error"


@pytest.mark.parametrize("code", ["", "\n\n", "# nothing yet", "x = 10\nprint(x)"])
def test_code_without_functions_has_nothing_to_mend(code: str) -> None:
    found = review(code)
    assert found["functions"] == found["complexity_results"] == found["issues"] == []
    assert found["function_count"] == found["total_complexity"] == found["avg_complexity"] == 0
    assert found["quality_score"] == 10
    assert found["stop_reason"] == "threshold"


def test_a_megabyte_of_code_is_reviewed() -> None:
    function = (
        'def f_{0}(x):\n    """Text."""\n    if x > 1:\n        return x * {0}\n    return x\n'
    )
    code = "\n\n".join(function.format(number) for number in range(13_000))
    assert len(code) > 1_000_000
    found = review(code, max_iterations=0)
    assert found["function_count"] == 13_000
    assert found["issue_count"] == 12_990
    assert found["stop_reason"] == "max_iterations"


def test_hostile_depth_is_measured_without_recursion() -> None:
    found = review("def f():\n    return 1" + "+11" * 2_000, quality_threshold=10)
    assert found["quality_score"] == 10


def test_warnings_of_the_reviewed_code_are_its_own_affair() -> None:
    found = review('def f(x):\n    return x is 5 or "\\d"')
    assert found["function_count"] == 1


def test_reviews_in_several_threads_do_not_meet() -> None:
    scores: list[float] = []
    threads = [
        threading.Thread(target=lambda: scores.append(review(PUBLISHED)["quality_score"]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scores == [9.8] * 8


# --- the published sample ------------------------------------------------------------------------


@pytest.mark.parametrize("code", [PUBLISHED, PUBLISHED.replace("\n", "\r\n"), PUBLISHED + "\n"])
def test_the_published_sample_gets_the_published_figures(code: str) -> None:
    found = review(code, quality_threshold=6.0)
    assert found["functions"] == [
        {"name": "calculate", "args": ["x", "y"], "body": PUBLISHED, "lineno": 1, "lines": 4}
    ]
    assert found["complexity_results"] == [
        {"function": "calculate", "cyclomatic": 2, "cognitive": 2, "lines": 4}
    ]
    (issue,) = found["issues"]
    assert issue["type"] == "magic_numbers"
    assert issue["severity"] == "low"
    assert issue["function"] == "calculate"
    assert issue["line"] == 2
    assert "10" in issue["message"]
    assert found["quality_score"] == 9.8
    assert found["previous_scores"] == [9.8]
    assert found["stop_reason"] == "threshold"
    assert found["improvements_applied"] == 0
    assert "code_after" not in found
    assert found["function_count"] == found["issue_count"] == found["suggestion_count"] == 1
    assert found["total_complexity"] == found["avg_complexity"] == 2
    assert found["severity_counts"] == {"high": 0, "medium": 0, "low": 1}


def test_the_example_file_is_the_published_sample() -> None:
    code = (EXAMPLES / "calculate.py").read_text()
    assert code.endswith(PUBLISHED + "\n")
    assert review(code)["quality_score"] == 9.8


def test_the_graph_has_the_published_nodes_and_every_name_is_registered() -> None:
    (graph,) = GRAPHS
    assert graph["name"] == "code_review_agent"
    assert [(node["name"], node["type"]) for node in graph["nodes"]] == [
        ("start", "start"),
        ("extract_functions", "standard"),
        ("check_complexity", "standard"),
        ("detect_issues", "standard"),
        ("suggest_improvements", "standard"),
        ("calculate_score", "loop"),
        ("apply_improvements", "standard"),
        ("end", "end"),
    ]
    named = {
        node[key] for node in graph["nodes"] for key in ("function", "condition") if key in node
    }
    assert named == set(FUNCTIONS)
    assert {edge["target"] for edge in graph["edges"] if edge.get("label") == "loop"} == {
        "apply_improvements"
    }
    assert json.loads(json.dumps(graph)) == graph


def test_the_tools_have_the_published_names() -> None:
    assert set(TOOLS) == {
        "extract_functions",
        "calculate_complexity",
        "detect_issues",
        "suggest_improvements",
        "calculate_quality_score",
    }


def test_the_tools_together_give_the_published_score() -> None:
    (function,) = TOOLS["extract_functions"](PUBLISHED)
    complexity = TOOLS["calculate_complexity"](function["body"])
    issues = TOOLS["detect_issues"](function["body"], function["name"])
    assert complexity == {"cyclomatic": 2, "cognitive": 2, "lines": 4}
    assert TOOLS["suggest_improvements"](issues, complexity)[0]["category"] == "maintainability"
    assert TOOLS["calculate_quality_score"](issues, complexity) == 9.8
    assert TOOLS["calculate_quality_score"](issues, complexity, 1) == 10


# --- functions -----------------------------------------------------------------------------------


def test_every_kind_of_function_is_found_in_the_order_of_the_source() -> None:
    code = """
@decorated
def first(a, /, b, *rest, c=1, **more):
    def inner(): ...

class Box:
    async def method(self):
        pass

late = lambda x: x
def last(): return 1
"""
    found = TOOLS["extract_functions"](code)
    assert [(each["name"], each["lineno"], each["lines"]) for each in found] == [
        ("first", 3, 2),
        ("inner", 4, 1),
        ("method", 7, 2),
        ("last", 11, 1),
    ]
    assert found[0]["args"] == ["a", "b", "*rest", "c", "**more"]
    assert found[2]["body"] == "    async def method(self):\n        pass"


def test_form_feeds_and_separators_inside_strings_do_not_shift_lines() -> None:
    code = "a = 'x\u2028\x0c\x1c'\n\x0cdef f():\r    return 'ü'\r\ndef g(): pass"
    assert [each["body"] for each in TOOLS["extract_functions"](code)] == [
        "\x0cdef f():\n    return 'ü'",
        "def g(): pass",
    ]
    assert review(code)["quality_score"] == 10


# --- metrics -------------------------------------------------------------------------------------


def test_words_inside_strings_and_comments_never_count() -> None:
    body = 'def f():\n    # if x and y or z\n    return "if a in for while and 100 # TODO print(1)"'
    assert complexity_of(body) == (1, 0, 3)
    assert issues_of(body) == {}


@pytest.mark.parametrize(
    ("lines", "cyclomatic", "cognitive"),
    [
        (["if a: pass", "elif b: pass", "else: pass"], 3, 2),
        (["if a: pass", "else:", "    if b: pass"], 3, 5),
        (["if a and b and c or d: pass"], 5, 2),
        (["for x in y:", "    while x: pass"], 3, 5),
        (["with a, b: pass"], 2, 0),
        (["try: pass", "except A: pass", "except B: pass"], 3, 2),
        (["return 1 if a else 2"], 2, 2),
        (["return [x for x in y if x]"], 3, 4),
        (["return lambda: 1 if a else 2"], 2, 2),
        (["match a:", "    case 1 if b: pass", "    case _: pass"], 2, 2),
        (["", "", "pass", ""], 1, 0),
    ],
)
def test_branches_are_counted_and_weigh_more_the_deeper_they_stand(
    lines: list[str], cyclomatic: int, cognitive: int
) -> None:
    for indent in ("    ", "\t", "  "):
        body = "\n".join(["async def f():", *(indent + line for line in lines)])
        assert complexity_of(body)[:2] == (cyclomatic, cognitive)


def test_a_method_weighs_what_a_function_does() -> None:
    method = "    def f(self):\n        if self:\n            pass"
    assert complexity_of(method) == (2, 2, 3)


def test_an_inner_function_counts_for_itself_alone() -> None:
    found = review(
        "def outer():\n    def inner():\n        # TODO\n        if a: print(10)\n    return inner"
    )
    assert [result["cyclomatic"] for result in found["complexity_results"]] == [1, 2]
    assert {issue["function"] for issue in found["issues"]} == {"inner"}


def test_text_that_is_no_function_is_measured_as_it_stands() -> None:
    assert complexity_of("if a:\n    if b: pass") == (3, 3, 2)
    assert complexity_of("") == (1, 0, 0)


# --- issues --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "severity", "line", "body"),
    [
        ("long_function", "medium", 1, "def f():\n" + "    pass\n" * 30),
        ("magic_numbers", "low", 3, "def f(x):\n    a = 9\n    return x - 10.5"),
        ("too_many_args", "medium", 1, "def f(a, b, c, *d, e, **g): pass"),
        ("nested_loops", "medium", 3, "def f():\n    while a:\n        for b in c: pass"),
        ("broad_exception", "medium", 3, "def f():\n    try: pass\n    except: pass"),
        ("broad_exception", "medium", 3, "def f():\n    try: pass\n    except Exception: pass"),
        (
            "broad_exception",
            "medium",
            3,
            "def f():\n    try: pass\n    except (A, Exception): pass",
        ),
        ("unresolved_todos", "low", 2, "def f():\n    pass  # fixme later"),
        ("print_statements", "low", 2, "def f():\n    print(1)"),
        ("hardcoded_strings", "low", 2, "def f():\n    return " + repr(["x" * 20] * 3)),
    ],
)
def test_each_kind_of_issue_is_seen_with_its_line(
    kind: str, severity: str, line: int, body: str
) -> None:
    assert list(issues_of(body)) == [kind]
    assert issues_of(body)[kind]["severity"] == severity
    assert issues_of(body)[kind]["line"] == line
    assert issues_of(body)[kind]["function"] == "f"


@pytest.mark.parametrize(
    "body",
    [
        "def f():\n" + "    pass\n\n" * 29,
        "def f(a, b, c, d, e): pass",
        "def f(x):\n    return x + 9 - 1.5 + True + 3j",
        "def f():\n    LIMIT = 10\n    SIZES: tuple = (10, -20)\n    return LIMIT",
        "def f(x: Literal[10]) -> 'a very long forward reference':\n    y: Literal[20] = x",
        "def f():\n    for a in b: pass\n    for c in d: pass\n    else:\n        for e in g: pass",
        "def f():\n    for a in b:\n        def g():\n            for c in d: pass",
        "def f():\n    try: pass\n    except (A, b.Exception): pass",
        "def f():\n    log.print(1)\n    return print",
        'def f():\n    """A docstring long enough to count."""\n    "another string that is long"',
        "def f(x):\n    return f'{x:>20} an f-string that is long' f'{x} and one more' 'and one'",
        "def f():\n    return ['x' * 19, 'yyyyyyyyyyyyyyyyyyyyy', 'zzzzzzzzzzzzzzzzzzzzz']".replace(
            "19", "9"
        ),
    ],
)
def test_what_is_within_bounds_or_has_a_name_is_no_issue(body: str) -> None:
    assert issues_of(body) == {}


def test_a_huge_number_is_shown_short() -> None:
    message = issues_of("def f():\n    return 0x" + "f" * 50_000)["magic_numbers"]["message"]
    assert len(message) < 100


def test_issues_point_at_lines_of_the_module() -> None:
    found = review("import os\n\n\n" + PUBLISHED)
    assert [issue["line"] for issue in found["issues"]] == [5]


# --- suggestions and score -----------------------------------------------------------------------


def test_suggestions_come_by_priority() -> None:
    issues = [
        {"type": kind, "severity": "low"}
        for kind in ("unresolved_todos", "magic_numbers", "nested_loops")
    ]
    complexity = {"cyclomatic": 11, "cognitive": 16, "lines": 51}
    found = TOOLS["suggest_improvements"](issues, complexity)
    assert [each["priority"] for each in found] == [1, 1, 2, 2, 3, 4]
    assert all(set(each) == {"category", "suggestion", "priority"} for each in found)
    low = {"cyclomatic": 10, "cognitive": 15, "lines": 50}
    assert TOOLS["suggest_improvements"]([], low) == []


@pytest.mark.parametrize(
    ("cyclomatic", "cognitive", "severities", "applied", "score"),
    [
        (5, 10, [], 0, 10),
        (7, 10, [], 0, 9.4),
        (5, 13, [], 0, 9.4),
        (100, 100, [], 0, 6),
        (1, 1, ["high", "medium", "low"], 0, 8.3),
        (1, 1, ["high"] * 20, 0, 0),
        (1, 1, ["high", "high"], 3, 9.5),
        (1, 1, [], 7, 10),
    ],
)
def test_the_score_follows_the_published_rule(
    cyclomatic: int, cognitive: int, severities: list[str], applied: int, score: float
) -> None:
    issues = [{"type": "any", "severity": severity} for severity in severities]
    complexity = {"cyclomatic": cyclomatic, "cognitive": cognitive, "lines": 1}
    assert TOOLS["calculate_quality_score"](issues, complexity, applied) == score


# --- the loop ------------------------------------------------------------------------------------


def rising(scores: list[float]) -> bool:
    return all(before < after for before, after in itertools.pairwise(scores))


@pytest.mark.parametrize("threshold", [6, 7.0, 8])
def test_bad_code_is_improved_until_it_reaches_the_threshold(threshold: float) -> None:
    code = (EXAMPLES / "sample.py").read_text()
    found = review(code, quality_threshold=threshold)
    assert found["previous_scores"][0] < 4
    assert found["quality_score"] >= threshold
    assert found["quality_score"] == found["previous_scores"][-1]
    assert len(found["previous_scores"]) > 2
    assert rising(found["previous_scores"])
    assert found["improvements_applied"] == len(found["improvements"]) >= 1
    assert found["stop_reason"] == "threshold"
    assert found["code"] == code
    ast.parse(found["code_after"])


def test_the_loop_ends_at_the_bound_of_the_state() -> None:
    code = (EXAMPLES / "sample.py").read_text()
    for bound in (0, 1, 2):
        found = review(code, quality_threshold=10, max_iterations=bound)
        assert found["stop_reason"] == "max_iterations"
        assert len(found["previous_scores"]) == bound + 1
        assert rising(found["previous_scores"])


def test_the_default_bound_is_five_laps() -> None:
    code = "\n".join(f"def f{i}(): return {i}" for i in range(10, 60))
    found = review(code)
    assert found["stop_reason"] == "max_iterations"
    assert len(found["previous_scores"]) == 6


def test_the_graph_does_not_cut_the_bound_of_the_state() -> None:
    code = "\n".join(f"def f{i}(): return {i}" for i in range(10, 60))
    found = review(code, quality_threshold=10, max_iterations=10_000)
    assert found["stop_reason"] == "threshold"
    assert len(found["previous_scores"]) > 10
    assert rising(found["previous_scores"])


def test_laps_never_pass_what_the_graph_can_turn() -> None:
    found = review(PUBLISHED, quality_threshold=10, previous_scores=[1.0] * 98, max_iterations=500)
    assert found["stop_reason"] == "max_iterations"


def test_the_loop_ends_when_nothing_can_be_mended() -> None:
    code = "def f():\n    # TODO\n    try: print(1)\n    except: pass"
    found = review(code, quality_threshold=10)
    assert found["stop_reason"] == "nothing_left"
    assert found["improvements_applied"] == 0
    assert found["issue_count"] == 3
    assert "code_after" not in found


def test_several_changes_make_one_lap_when_one_would_not_show() -> None:
    code = "\n".join(
        f"def f{i}():\n    try: print(1)\n    except: pass\n    return {i}\n" for i in range(10, 30)
    )
    found = review(code, quality_threshold=1, max_iterations=20)
    assert found["previous_scores"][0] == 0
    assert rising(found["previous_scores"])
    assert found["improvements_applied"] > len(found["previous_scores"]) - 1


# --- changes of the source -----------------------------------------------------------------------


def improved(code: str) -> dict[str, Any]:
    return review(code, quality_threshold=10, max_iterations=50)


def test_a_magic_number_becomes_a_constant_and_the_code_still_works() -> None:
    found = improved(PUBLISHED)
    assert found["code_after"] == (
        "X_LIMIT = 10\n\n\ndef calculate(x, y):\n    if x > X_LIMIT:\n"
        "        return x*y\n    return x+y"
    )
    assert found["improvements"] == [
        {"type": "magic_numbers", "function": "calculate", "change": "10 is now X_LIMIT"}
    ]
    assert "+X_LIMIT = 10" in found["diff"].splitlines()
    assert "-    if x > 10:" in found["diff"].splitlines()
    assert found["issues"] == []
    assert found["previous_scores"] == [9.8, 10]
    for call in ("calculate(11, 3)", "calculate(10, 3)"):
        assert run(found["code_after"], call) == run(PUBLISHED, call)


def test_the_diff_spans_all_laps() -> None:
    functions = [f"def f{i}(): return {i}" for i in (10, 20, 30)]
    found = improved("\n".join([*functions, *(f"def g{i}(): print(1)" for i in range(20))]))
    assert len(found["previous_scores"]) == 4
    assert {f"-{each}" for each in functions} <= set(found["diff"].splitlines())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("return wait(timeout=30)", "TIMEOUT = 30"),
        ("_size = 30", "SIZE = 30"),
        ("size: int = 0x1F", "SIZE = 0x1F"),
        ("return x.width >= 30", "WIDTH_LIMIT = 30"),
        ("return x['height'] < 30", "HEIGHT_LIMIT = 30"),
        ("return x == 30", "NUMBER_30 = 30"),
        ("return 0 < x < 30", "NUMBER_30 = 30"),
        ("return -1_000.5e1", "NUMBER_1_000_5E1 = 1_000.5e1"),
        ("größe = 30", "NUMBER_30 = 30"),
    ],
)
def test_a_constant_is_named_after_its_part_else_after_itself(line: str, expected: str) -> None:
    found = improved(f"def f(x):\n    {line}")
    assert found["code_after"].splitlines()[0] == expected
    assert found["issues"] == []


def test_a_default_is_named_after_its_argument() -> None:
    found = improved("def f(a, b, c=11, /, d=12, *, e=13): return c, d, e")
    assert found["code_after"].splitlines()[:3] == [
        "DEFAULT_C = 11",
        "DEFAULT_D = 12",
        "NUMBER_13 = 13",
    ]
    assert run(found["code_after"], "f(1, 2)") == (11, 12, 13)


def test_long_strings_become_constants_word_for_word() -> None:
    code = '''def f(x):
    if x: return "a string of some length" % 1 if 0 else"another string of some length"
    return [r"""one
  with \\d lines and more""", ("two adjacent strings "
        "that are one"), "äöü 1234567890 1234567890"]
'''
    found = improved(code)
    assert [issue["type"] for issue in found["issues"]] == []
    assert run(found["code_after"], "f(0), f(1)") == run(code, "f(0), f(1)")
    assert found["code_after"].startswith('A_STRING_OF_SOME = "a string of some length"\n')


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("", "NUMBER_10 = 10\n\n\n"),
        ("#!/bin/python\n# why\n", "#!/bin/python\n# why\nNUMBER_10 = 10\n\n\n"),
        ('"""Doc."""\n', '"""Doc."""\n\nNUMBER_10 = 10\n\n\n'),
        ("import os\n\n\n", "import os\n\nNUMBER_10 = 10\n\n\n"),
        ("from a import b\n# of f\n@b\n", "from a import b\n\nNUMBER_10 = 10\n\n\n# of f\n@b\n"),
        ("import os\n\nA = 1\n\n\n", "import os\n\nA = 1\nNUMBER_10 = 10\n\n\n"),
        ("@deco(\n  1)\n", "NUMBER_10 = 10\n\n\n@deco(\n  1)\n"),
        ("import os; x = '''\n'''\n", None),
    ],
)
def test_constants_stand_below_the_head_of_the_module(head: str, expected: str | None) -> None:
    found = improved(f"{head}def f(): return 10")
    if expected is None:
        assert found["stop_reason"] == "nothing_left"
    else:
        assert found["code_after"] == f"{expected}def f(): return NUMBER_10"


def test_line_ends_are_kept() -> None:
    found = improved("import os\r\n\r\n\r\ndef f():\r\n    return 10\r\n")
    assert found["code_after"] == (
        "import os\r\n\r\nNUMBER_10 = 10\r\n\r\n\r\ndef f():\r\n    return NUMBER_10\r\n"
    )


def test_one_constant_serves_all_functions_in_every_lap() -> None:
    found = improved("def f(): return 10\ndef g(): return 10 + 10\ndef h():\n    print(10)")
    assert found["code_after"].count("= 10") == 1
    assert found["improvements_applied"] == 2


@pytest.mark.parametrize(
    "code",
    [
        "NUMBER_10 = 11\ndef f(): return 10",
        "def f(NUMBER_10): return 10",
        "import a as NUMBER_10\ndef f(): return 10",
        "def f(): return 10, globals()['NUMBER_10']",
        "NUMBER_10 = 10\nNUMBER_10 = 9\ndef f(): return 10",
        "NUMBER_10 = 10\ndef g(NUMBER_10): pass\ndef f(): return 10",
        "def \uff2e\uff35\uff2d\uff22\uff25\uff32_10(): pass\ndef f(): return 10",
    ],
)
def test_a_name_that_could_mean_something_else_is_not_taken(code: str) -> None:
    found = improved(code)
    assert "NUMBER_10_2 = 10" in found["code_after"].splitlines()
    assert "10" not in {
        ast.unparse(node)
        for function in ast.walk(ast.parse(found["code_after"]))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Constant)
    }


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    match x:\n        case 10: pass",
        "def f(x):\n    match x:\n        case {10: y}: pass",
        "def f(x): return f'{x + 10}'",
        "def f(x): return " + repr(list(range(10, 40))),
    ],
)
def test_a_number_that_cannot_have_a_name_stays_an_issue(code: str) -> None:
    found = improved(code)
    assert [issue["type"] for issue in found["issues"]] == ["magic_numbers"]
    assert found["stop_reason"] == "nothing_left"


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("def f(x):\n    return 10if x else 20", "f(0), f(1)"),
        ("def f(x):\n    return x+10and-20or 30", "f(0), f(-10)"),
        ("def f(): 'ü'; return ['ü', 10, 'ö'], 11", "f()"),
        ("def f(*a, b=12): return [a, b, 13 .real, 14.5.real]", "f()"),
        ("class A:\n    def f(self, n=10): return n, lambda m=11: m\n    def __g(self): return 12", "A().f()[0]"),
        ("def f():\n    def g(n=10): return n + 10\n    return g() + 10", "f()"),
        ("def f():\n    x = 1; y = 10; z = \\\n    20\n    return x + y + z", "f()"),
    ],
)  # fmt: skip
def test_the_meaning_of_code_survives_every_change(code: str, call: str) -> None:
    found = improved(code)
    assert found["improvements_applied"] > 0
    assert run(found["code_after"], call) == run(code, call)


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "celeriac").rglob("*.py")))
def test_our_own_modules_keep_their_meaning(path: Path) -> None:
    found = review(path.read_text(), quality_threshold=11, max_iterations=98)
    assert rising(found["previous_scores"])
    ast.parse(found.get("code_after", ""))


def test_the_condition_follows_the_reason() -> None:
    needs: Callable[[Any], bool] = FUNCTIONS["needs_improvement"]
    assert needs(DictState(stop_reason=None)) is True
    assert needs(DictState(stop_reason="threshold")) is False
