from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from engine import tools
from engine.errors import Invalid
from engine.platform import Platform
from engine.runs import catalogue, libraries
from engine.settings import Settings
from tests.support import platforms
from tests.support.platforms import TENANT

LIBRARY = '''
def double(state):
    """Twice n."""
    state["n"] *= 2
    return state

def lookup(query: str, limit: int = 5): ...

class Group:
    @staticmethod
    def inner(state): ...

FUNCTIONS = {"double": double, "inner": Group.inner}
TOOLS = {"lookup": lookup}
TERMS = {"lookup": {"parameters": {"query": {"type": "string"}}, "cost_estimate_usd": 0.01}}
GRAPHS = (
    {"name": "doubling", "nodes": [{"name": "a", "function": "double"}, {"name": "z", "type": "end"}],
     "edges": [{"source": "a", "target": "z"}]},
    {"workflow": "looking", "nodes": {"a": {"kind": "tool", "tool": "lookup"}}, "edges": ["a -> end"]},
)
'''

MakeLibrary = Callable[[str], str]


@pytest.fixture
def main(settings: Settings) -> Iterator[Platform]:
    with platforms.platform(settings) as built:
        yield built


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeLibrary]:
    """Writes an importable module; its name."""
    made: list[str] = []
    monkeypatch.syspath_prepend(tmp_path)

    def make(text: str) -> str:
        made.append(f"library_{uuid4().hex[:8]}")
        (tmp_path / f"{made[-1]}.py").write_text(text)
        return made[-1]

    yield make
    for name in made:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_that_name", "cannot be imported: ModuleNotFoundError"),
        ("def f(:", "cannot be imported: SyntaxError"),
        ("raise SystemError('no')", "cannot be imported: SystemError: no"),
        ("FUNCTIONS = {'f': lambda state: state}", "f cannot be found as"),
        (
            "def f(): ...\nTOOLS = {'f': f}\nTERMS = {'f': {'timeout_seconds': 0}}",
            "TERMS.f.timeout_seconds",
        ),
        (
            "def make():\n    def f(s): ...\n    return f\nTOOLS = {'f': make()}",
            "f cannot be found as",
        ),
    ],
)
def test_a_library_that_cannot_be_used_is_refused_by_its_name(
    main: Platform, library: MakeLibrary, text: str, message: str
) -> None:
    name = library(text)
    with pytest.raises(Invalid, match=name) as refused:
        libraries.install(main.database, TENANT, [name])
    assert message in str(refused.value)
    assert catalogue.function_list(main, TENANT, "function") == ()


def test_a_library_brings_functions_tools_and_workflows(
    main: Platform, library: MakeLibrary
) -> None:
    name = library(LIBRARY)
    libraries.install(main.database, TENANT, [name])
    double = catalogue.function(main, TENANT, "function", "double")
    assert (double.library, double.source) == (f"{name}:double", None)
    assert (double.description, double.created_by) == ("Twice n.", "library")
    assert catalogue.function(main, TENANT, "function", "inner").library == f"{name}:Group.inner"
    lookup = catalogue.function(main, TENANT, "tool", "lookup")
    assert list(lookup.parameters) == ["query", "limit"]
    assert lookup.terms == tools.terms(
        {"parameters": {"query": {"type": "string"}}, "cost_estimate_usd": 0.01}
    )
    assert catalogue.find(main, TENANT, "doubling").version == "1.0.0"
    assert catalogue.find(main, TENANT, "looking").version == "1.0.0"


def test_a_tool_of_a_library_is_called_once_at_most_unless_it_says_otherwise(
    main: Platform, library: MakeLibrary
) -> None:
    name = library(
        "def pay(): ...\ndef look(): ...\n"
        "TOOLS = {'pay': pay, 'look': look}\nEFFECTS = {'look': 'pure'}"
    )
    libraries.install(main.database, TENANT, [name])
    effects = [catalogue.function(main, TENANT, "tool", tool).effect for tool in ("pay", "look")]
    assert effects == ["at_most_once", "pure"]


def test_installing_again_adds_nothing_and_a_changed_file_is_a_new_version(
    main: Platform, library: MakeLibrary, tmp_path: Path
) -> None:
    name = library(LIBRARY)
    libraries.install(main.database, TENANT, [name])
    libraries.install(main.database, TENANT, [name, name])
    assert _versions(main) == [1, 1]
    (tmp_path / f"{name}.py").write_text(LIBRARY + "# changed\n")
    libraries.install(main.database, TENANT, [name])
    assert _versions(main) == [2, 2]
    assert catalogue.find(main, TENANT, "doubling").version == "1.0.0"


def test_what_is_installed_with_the_platform_is_found_by_itself(main: Platform) -> None:
    assert "celeriac.code_review" in libraries.names()
    libraries.install(main.database, TENANT)
    assert catalogue.find(main, TENANT, "code_review_agent").version == "1.0.0"
    tools = {tool.name for tool in catalogue.function_list(main, TENANT, "tool")}
    assert {"extract_functions", "calculate_quality_score"} <= tools


def test_a_module_is_named_once_however_often_it_is_found() -> None:
    names = libraries.names(["celeriac.code_review", "mine", "mine"])
    assert (names.count("celeriac.code_review"), names.count("mine"), names[-1]) == (1, 1, "mine")


def test_a_worker_finds_every_installed_function_at_its_place(main: Platform) -> None:
    libraries.install(main.database, TENANT)
    places = [
        function.library
        for namespace in ("function", "tool")
        for function in catalogue.function_list(main, TENANT, namespace)
    ]
    program = (
        "import sys, importlib, functools\n"
        "for place in sys.argv[1:]:\n"
        "    module, _, path = place.partition(':')\n"
        "    assert callable(functools.reduce(getattr, path.split('.'), importlib.import_module(module)))"
    )
    assert places
    subprocess.run([sys.executable, "-c", program, *filter(None, places)], check=True)


def _versions(main: Platform) -> list[int]:
    return [
        catalogue.function(main, TENANT, "function", "double").version,
        catalogue.function(main, TENANT, "tool", "lookup").version,
    ]
