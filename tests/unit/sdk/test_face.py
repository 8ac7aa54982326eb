"""What `import celeriac` gives, and what it costs."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import celeriac

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Workflow'"):
        celeriac.Workflow  # type: ignore[attr-defined]  # noqa: B018  # the point


def test_every_name_of_the_face_can_be_had() -> None:
    assert {name for name in celeriac.__all__ if not hasattr(celeriac, name)} == set()
    assert set(celeriac.__all__) == set(celeriac._HOMES)
    assert set(celeriac.__all__) <= set(dir(celeriac))


def test_importing_celeriac_loads_nothing_else() -> None:
    loaded = _python("import celeriac, sys; print(*sys.modules)").split()
    ours = {"celery", "flask", "sqlalchemy", "httpx2", "asyncio", "engine", "workers", "web"}
    assert not ours & set(loaded)


def test_running_a_graph_loads_neither_celery_nor_flask_nor_a_database() -> None:
    loaded = _python("from celeriac import WorkflowEngine; import sys; print(*sys.modules)").split()
    assert not {"celery", "flask", "sqlalchemy", "redis"} & set(loaded)


@pytest.mark.parametrize(("example", "printed"), [("quickstart", "10\n"), ("loop", "5\n")])
def test_the_examples_print_what_they_promise(
    example: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(EXAMPLES / f"sdk_{example}.py"), run_name="__main__")
    assert capsys.readouterr().out == printed


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout
