"""What the layers promise and no type can say."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import engine.errors
from engine.core import transitions
from tests.support.services import ROOT

CORE = sorted((ROOT / "engine" / "core").rglob("*.py"))
#: The standard library's own ways to the outside world.
OUTSIDE = {"os", "io", "time", "random", "secrets", "socket", "subprocess", "threading", "logging"}


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_the_core_imports_the_standard_library_and_itself(path):
    for name in _imports(path):
        top = name.partition(".")[0]
        assert name.startswith("engine.core") or top in sys.stdlib_module_names, name
        assert top not in OUTSIDE, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_the_core_reads_no_clock(path):
    called = {
        f"{node.func.value.id}.{node.func.attr}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
    }
    assert not called & {"datetime.now", "datetime.utcnow", "date.today", "uuid.uuid4"}


def test_only_the_session_commits():
    for path in _sources("engine", "workers", "web"):
        if path.name != "session.py":
            assert ".commit()" not in path.read_text(), path


def test_only_settings_read_the_environment():
    # A zygote may need the loader's path, and a child puts back what it was forked with: none of
    # that is a setting of ours.
    sandbox = ROOT / "workers" / "sandbox"
    reads = {
        ROOT / "engine" / "settings.py",
        sandbox / "sandbox.py",
        sandbox / "inside" / "remains.py",
    }
    for path in _sources("engine", "workers", "web"):
        if path not in reads:
            assert "os.environ" not in path.read_text(), path


def test_every_module_can_be_imported_without_any_setting():
    modules = [
        name
        for package in ("engine", "workers", "web", "celeriac")
        for name in _modules(package)
        if not name.endswith("__main__")
    ]
    done = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(modules)}"],
        env={"PATH": "/usr/bin:/bin"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_package_says_what_it_is():
    for path in _sources("engine", "workers", "web", "celeriac"):
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no essay"


def test_every_error_says_what_to_make_of_it():
    errors = [
        found
        for _, found in inspect.getmembers(engine.errors, inspect.isclass)
        if issubclass(found, engine.errors.CeleriacError)
    ]
    assert errors
    assert all(inspect.getdoc(found) for found in errors)


def test_every_status_can_be_reached_and_terminal_ones_cannot_be_left():
    for table in (transitions.RUN, transitions.STEP):
        reached = {new for following in table.values() for new in following}
        first = {"queued", "requested", "succeeded"}
        assert {status for status in table if status not in reached} <= first
    assert {status.value for status in transitions.TERMINAL} == {"completed", "failed", "cancelled"}


def _imports(path: Path) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


def _sources(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def _modules(package: str) -> list[str]:
    root = importlib.import_module(package)
    return [package, *(m.name for m in pkgutil.walk_packages(root.__path__, f"{package}."))]
