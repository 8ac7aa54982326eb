from __future__ import annotations

import pytest

from engine.core import source
from engine.core.source import check, parameters, summary
from workers.sandbox.inside import namespace

INCREMENT = (
    'def increment(state):\n  value = state.get("value", 0)\n'
    '  state.set("value", value+1)\n  return state'
)


def messages(text: str, name: str = "f") -> list[str]:
    return [problem.message for problem in check(text, name=name)]


@pytest.mark.parametrize(
    "text",
    [
        "import os\ndef f(state): pass",
        "from os import path\ndef f(state): pass",
        "def f(state):\n  import os",
        "def f(state):\n  from . import x",
    ],
)
def test_an_import_is_refused_with_the_published_words(text: str) -> None:
    assert messages(text) == ["Import statements are not allowed in dynamic code"]


def test_the_remedy_for_an_import_names_its_line_and_what_is_there_without() -> None:
    (problem,) = check("def f(state):\n  import json", name="f")
    assert problem.path == "code"
    assert "line 2" in problem.remedy
    assert "json" in problem.remedy


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("def f(s): return ().__class__.__bases__[0].__subclasses__()", "__class__"),
        ("def f(s): return __import__('os')", "__import__"),
        ("def f(s): return __builtins__", "__builtins__"),
        ("def f(s): return f'{s.__class__}'", "__class__"),
        ("def f(s):\n  match s:\n    case object(__class__=c): return c", "__class__"),
        ("def f(s):\n  match s:\n    case {**__all__}: return 1", "__all__"),
        ("def f(s):\n  global __builtins__\n  __builtins__ = {}", "__builtins__"),
        ("def f(__builtins__): pass", "__builtins__"),
        ("def f(s):\n  try: pass\n  except Exception as __loader__: pass", "__loader__"),
        ("class A:\n  def __getattribute__(self, n): pass\ndef f(s): pass", "__getattribute__"),
        ("def f(s): return g(__class__=1)", "__class__"),
        ("def f(s): return (x for x in s).gi_frame.f_back", "gi_frame"),
    ],
)
def test_what_python_keeps_for_itself_is_refused(text: str, word: str) -> None:
    assert any(word in message for message in messages(text))


def test_every_problem_is_reported_at_once() -> None:
    text = "import os\nimport sys\nx = ().__class__"
    assert len(check(text, name="f")) == 4  # two imports, an attribute, no function


def test_20_000_characters_are_allowed_and_one_more_is_not() -> None:
    start = "def f(state): pass\n#"
    assert messages(start + "x" * (20_000 - len(start))) == []
    (message,) = messages(start + "x" * (20_001 - len(start)))
    assert "20001" in message
    assert "20000" in message


def test_a_syntax_error_is_reported_with_its_line() -> None:
    (message,) = messages("def f(state):\n  return (")
    assert message.startswith("Syntax error")
    assert "line 2" in message


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10**6 + "1" + ")" * 10**6,
        "-" * 10**6 + "1",
        "f" + "(1)" * 10**5,
        "1" + "+1" * 10**5,
        "if 1: pass\n" + "elif 1: pass\n" * 10**4,
        "def f(s): return " + "-" * 19_000 + "1",
        "def f(s): return 1" + "+1" * 900,
        "def f(s): return 1" + "+1" * 5000,
    ],
    ids=lambda text: text[17:24] + f"…{len(text)}",
)
def test_deep_source_is_a_problem_and_no_crash(text: str) -> None:
    assert check(text, name="f")
    assert check(text, name="f", limit=10**8)
    assert parameters(text, "f") == {} or len(text) < 20_000


def test_deep_but_parseable_source_is_too_deep() -> None:
    assert messages("def f(s): return 1" + "+1" * 300) == ["The source is nested too deeply"]


def test_a_number_of_thousands_of_digits_is_a_problem() -> None:
    assert len(messages("def f(s): return " + "9" * 10_000)) == 1


def test_nul_and_lone_surrogates_are_problems() -> None:
    assert "NUL" in messages("def f(state): return 1\0")[0]
    assert "surrogate" in messages("def f(state): return '\ud800'")[0]


def test_valid_characters_of_every_plane_are_fine() -> None:
    assert messages("def f(state): return 'é 漢 🌱'") == []


def test_source_without_a_function_is_refused() -> None:
    assert messages("x = 1") == ["No function is defined"]
    assert messages("") == ["No function is defined"]
    assert messages("async def f(state): pass") == ["Async functions are not supported"]


def test_checking_never_executes_or_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("the source was executed")

    monkeypatch.setattr("builtins.exec", forbidden)
    monkeypatch.setattr("builtins.eval", forbidden)
    text = "print('at registration')\nraise SystemExit(3)\ndef f(state): return state"
    assert check(text, name="f") == ()
    assert parameters(text, "f")


@pytest.mark.parametrize(
    "text",
    [
        INCREMENT,
        "class A:\n  def __init__(self): self.x = 1\n  def __eq__(self, o): return True\ndef f(s): 1",
        "class B(A):\n  def __init__(self): super().__init__()\ndef f(state): return B().x",
        "def f(state):\n  try: return 1\n  except Exception as e: return type(e).__name__",
        "if __name__ == 'workflow': x = 1\ndef f(state): return x",
        "def f(state):\n  '''Has __dunders__ in text.'''\n  return '__class__'",
        "def f(state):\n  return state.__doc__",
    ],
)
def test_ordinary_code_is_accepted(text: str) -> None:
    assert check(text, name="f") == ()


def test_parameters_say_annotation_default_and_whether_one_is_required() -> None:
    text = (
        "def helper(): pass\n"
        "def my_tool(arg1: str, /, arg2: int = 3, *rest, deep: dict[str, int], "
        "odd=object(), pair=(1, 2), far=1e999, text='x', **more):\n"
        "  '''\n  Does something useful.\n\n  At length.\n  '''"
    )
    assert parameters(text, "my_tool") == {
        "arg1": {"annotation": "str", "default": None, "required": True},
        "arg2": {"annotation": "int", "default": 3, "required": False},
        "deep": {
            "annotation": "dict[str, int]",
            "default": None,
            "required": True,
            "keyword": True,
        },
        "odd": {"annotation": "Any", "default": None, "required": False, "keyword": True},
        "pair": {"annotation": "Any", "default": None, "required": False, "keyword": True},
        "far": {"annotation": "Any", "default": None, "required": False, "keyword": True},
        "text": {"annotation": "Any", "default": "x", "required": False, "keyword": True},
    }
    assert summary(text, "my_tool") == "Does something useful."


def test_without_the_registered_name_the_last_function_counts() -> None:
    text = "def a(x): pass\ndef b(y):\n  ' '"
    assert list(parameters(text, "c")) == ["y"]
    assert list(parameters(text, "a")) == ["x"]
    assert summary(text, "c") == ""
    assert summary(text, "a") == ""


def test_what_cannot_be_parsed_has_no_parameters() -> None:
    assert parameters("def f(", "f") == {}
    assert parameters("x = 1", "f") == {}
    assert summary("def f(", "f") == ""


def test_the_modules_promised_are_the_modules_there() -> None:
    assert sorted(module.__name__ for module in namespace.MODULES) == sorted(source.MODULES)


@pytest.mark.parametrize(
    "text",
    [
        "import json",
        "import agentic_common.pb as pb, json",
        "from agentic_common.pb import PlanInput",
        "from __future__ import annotations",
    ],
)
def test_code_of_bundles_may_import_what_is_there(text):
    code = f"{text}\ndef plan(plan_input): ..."
    assert source.check(code, name="plan", imports=source.IMPORTABLE) == ()
    assert source.check(code, name="plan")[0].message == source.IMPORT_MESSAGE


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("import os", "os"),
        ("import json, os.path", "os.path"),
        ("from . import helper", "."),
        ("from .json import dumps", ".json"),
        ("from json.tool import main", "json.tool"),
    ],
)
def test_code_of_bundles_imports_nothing_else(text, named):
    code = f"{text}\ndef plan(plan_input): ..."
    (problem,) = source.check(code, name="plan", imports=source.IMPORTABLE)
    assert problem.message == f"There is no module {named} here (line 1)"
    assert "agentic_common.pb" in problem.remedy


def test_a_source_defines_the_function_of_a_name_or_does_not():
    assert source.defines("def plan(i): ...", "plan")
    assert not source.defines("def plans(i): ...", "plan")
    assert not source.defines("plan = 1", "plan")
