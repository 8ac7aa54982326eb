"""What pytest gets from Celeriac: fixtures, and the tests that stand in documents as its own.

    def test_a_poor_draft_is_written_anew(celeriac_run, celeriac_tools):
        celeriac_tools.returns("search", {"hits": []})
        record = celeriac_run("workflows/triage.yaml", {"text": "…"}, functions={…})
        assert record.status == "completed"

Nothing is collected unless it is asked for, in pytest's own settings:

    [tool.pytest.ini_options]
    celeriac_documents = ["workflows/*.yaml"]   # whose `tests` are collected
    celeriac_code = ["workflows/*.py"]          # the functions that they name, behind walls

It is found by its entry point; `-p no:celeriac` leaves it out. What it needs is imported when a
fixture is asked for, or a document is collected: to whoever uses neither it costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from celeriac.testing import Clock, Fakes, Record
    from celeriac.testing.suites import Suite
    from celeriac.testing.walls import Walls
    from engine.cases import Case

#: What the fixtures that run something give.
Run: TypeAlias = "Callable[..., Record]"

_DOCUMENTS = "celeriac_documents"
_CODE = "celeriac_code"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say what may stand in pytest's settings."""
    parser.addini(
        _DOCUMENTS,
        "documents and files of agents whose tests are collected, as patterns from the root folder",
        type="linelist",
        default=[],
    )
    parser.addini(
        _CODE,
        "files of Python with one function each that documents name, as patterns from the root folder",
        type="linelist",
        default=[],
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the tests of a document that the settings name."""
    if _asked_for(file_path, parent.config):
        return DocumentFile.from_parent(parent, path=file_path)
    return None


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the sandbox of the session, if there was one."""
    walls = config.stash.get(_WALLS, None)
    if walls is not None:
        walls.__exit__(None, None, None)


# --- fixtures ---------------------------------------------------------------------------------


@pytest.fixture
def celeriac_clock() -> Clock:
    """A clock that stands still until a run waits, and is then set forward at once."""
    from celeriac.testing import Clock  # noqa: PLC0415  # see above

    return Clock()


@pytest.fixture
def celeriac_tools() -> Fakes:
    """Tools that are made up: `celeriac_tools.returns("search", {"hits": []})`."""
    from celeriac.testing import Fakes  # noqa: PLC0415  # see above

    return Fakes()


@pytest.fixture
def celeriac_run(
    celeriac_clock: Clock, celeriac_tools: Fakes, request: pytest.FixtureRequest
) -> Run:
    """`celeriac.testing.run` with the clock and the tools of the test; a text that ends in .yaml,
    .yml or .json is a file, looked for from the root folder.
    """
    from celeriac import testing  # noqa: PLC0415  # see above

    return partial(_run, testing.run, request.config.rootpath, celeriac_clock, celeriac_tools)


@pytest.fixture
def celeriac_node(
    celeriac_clock: Clock, celeriac_tools: Fakes, request: pytest.FixtureRequest
) -> Run:
    """`celeriac.testing.node`, one node alone, with the clock and the tools of the test."""
    from celeriac import testing  # noqa: PLC0415  # see above

    return partial(_run, testing.node, request.config.rootpath, celeriac_clock, celeriac_tools)


def _run(
    run: Run, root: Path, clock: Clock, tools: Fakes, workflow: Any, /, *args: Any, **given: Any
) -> Record:
    if isinstance(workflow, str) and workflow.endswith((".yaml", ".yml", ".json")):
        workflow = root / workflow
    # What is faked in the course of a test counts, too.
    given["tools"] = {**tools, **(given.get("tools") or {})}
    return run(workflow, *args, **{"clock": clock, **given})


# --- tests in documents -----------------------------------------------------------------------


class DocumentFile(pytest.File):
    """A document, or a file of agents: each of its tests is one of pytest's."""

    def collect(self) -> Iterable[pytest.Item]:
        from celeriac.testing import suites  # noqa: PLC0415  # see above
        from engine import cases  # noqa: PLC0415  # see above
        from engine.errors import Invalid  # noqa: PLC0415  # see above

        try:
            found = suites.of_text(self.path.read_text(encoding="utf-8"))
        except (Invalid, UnicodeDecodeError) as wrong:
            raise self.CollectError(str(wrong)) from None
        for suite in found:
            prefix = f"{suite.graph.workflow}: " if len(found) > 1 else ""
            for problem in suite.unread:
                message = f"{problem.path}: {problem.message}; {problem.remedy}"
                raise self.CollectError(message)
            for case in cases.read(suite.graph)[0]:
                yield DocumentItem.from_parent(
                    self, name=f"{prefix}{case.name}", suite=suite, case=case
                )


class DocumentItem(pytest.Item):
    """A test that stands in a document."""

    def __init__(self, *, suite: Suite, case: Case, **more: Any) -> None:
        super().__init__(**more)
        self._suite = suite
        self._case = case

    def runtest(self) -> None:
        from celeriac.testing import cases, supplies  # noqa: PLC0415  # see above

        walls = _walls(self.config)
        own = supplies.Given(
            walls=walls, sources=self._suite.sources, workflows=self._suite.workflows
        )
        beside = supplies.Given(walls=walls, sources=_sources(self.config))
        supply = supplies.Several((own, beside, supplies.Installed()))
        checked = cases.check(self._suite.graph, self._case, supply)
        if checked.outcome != "passed":
            raise NotAsExpected(checked)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        if isinstance(excinfo.value, NotAsExpected):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


class NotAsExpected(AssertionError):
    """What differed, or why a test cannot be run as it is written."""

    def __init__(self, checked: Any) -> None:
        from celeriac.testing import reports  # noqa: PLC0415  # see above

        lines = reports.told(checked)
        if checked.path:
            lines.append(f"path: {' → '.join(checked.path)}: {checked.ended}")
        super().__init__("\n".join(lines))


_WALLS = pytest.StashKey["Walls"]()
_SOURCES = pytest.StashKey[dict[str, str]]()


def _walls(config: pytest.Config) -> Walls:
    """The sandbox of a session."""
    from celeriac.testing.walls import Walls  # noqa: PLC0415  # see above

    if _WALLS not in config.stash:
        config.stash[_WALLS] = Walls()
    return config.stash[_WALLS]


def _sources(config: pytest.Config) -> dict[str, str]:
    """The source of functions by name, as the settings say where it is."""
    from celeriac.client.sources import name_in  # noqa: PLC0415  # see above

    if _SOURCES not in config.stash:
        texts = [file.read_text(encoding="utf-8") for file in _files(config)]
        config.stash[_SOURCES] = {name_in(text): text for text in texts}
    return config.stash[_SOURCES]


def _files(config: pytest.Config) -> Iterator[Path]:
    for pattern in config.getini(_CODE):
        yield from sorted(config.rootpath.glob(pattern))


def _asked_for(file: Path, config: pytest.Config) -> bool:
    patterns = config.getini(_DOCUMENTS)
    if not patterns or not file.is_relative_to(config.rootpath):
        return False
    return any(file.relative_to(config.rootpath).match(pattern) for pattern in patterns)
