"""What a child can see of the worker, and what a lying child can do to it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from tests.unit.sandbox.deeds import FORGERIES, STATUSES
from tests.unit.sandbox.jobs import condition, deed, node, within
from workers.sandbox import CallAnswer, Choose, Job, Sandbox


@pytest.fixture(scope="module")
def listed() -> Iterator[Sandbox]:
    """A sandbox whose library code was given one variable, in a worker that has a secret."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", "postgresql://user:canary@host/db")
        patch.setenv("CELERIAC_HOME", "/canary")
        with Sandbox(environment={"GREETING": "hello"}) as running:
            yield running


def test_library_code_finds_what_it_was_given_and_nothing_of_the_worker(listed: Sandbox) -> None:
    found = listed.run(deed("environment")).value
    assert isinstance(found, dict)
    found.pop("LD_LIBRARY_PATH", None)
    assert found == {"LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "2", "GREETING": "hello"}
    assert "canary" not in str(found)
    assert "canary" not in str(listed.run(deed("kernel_environment")).value)


def test_a_preloaded_library_is_imported_once_and_a_missing_one_hurts_nobody() -> None:
    with Sandbox(preload=["no.such.module", "tests.unit.sandbox.deeds"]) as sandbox:
        first, second = (sandbox.run(deed("importer")).value for _ in range(2))
        assert first == second == sandbox._zygotes[True].pid


def test_the_zygote_for_source_was_started_with_two_variables(listed: Sandbox) -> None:
    given = set(listed._variables(library=False))
    assert given - {"LD_LIBRARY_PATH"} == {"LANG", "MALLOC_ARENA_MAX"}


def test_a_child_has_its_streams_and_one_socket_and_no_other_descriptor() -> None:
    leaked = [os.pipe() for _ in range(5)]
    for pair in leaked:
        os.set_inheritable(pair[0], True)
    with Sandbox() as sandbox:
        found = sandbox.run(deed("descriptors")).value
    assert found == [0, 1, 2, 3, 4]  # 4 is the listing's own
    for pair in leaked:
        os.close(pair[0])
        os.close(pair[1])


def test_a_child_leads_a_session_of_its_own_and_reads_nothing(sandbox: Sandbox) -> None:
    found = sandbox.run(deed("standing")).value
    assert isinstance(found, dict)
    assert found["pid"] == found["group"] == found["session"] != os.getpid()
    assert found["stdin"] == "/dev/null"


def test_the_limits_stand_before_user_code_begins(sandbox: Sandbox) -> None:
    found = sandbox.run(deed("limits", limits=within(9, cpu_seconds=3))).value
    assert isinstance(found, dict)
    assert found["RLIMIT_CORE"][0] == 0
    assert found["RLIMIT_CPU"][0] >= 3
    assert found["RLIMIT_NOFILE"][0] <= 1024


def test_module_level_code_is_limited_too(sandbox: Sandbox) -> None:
    source = "big = 'x' * 2**30\ndef f(state): return 1"
    job = Job(mode="node", name="f", source=source, arguments={"state": {}})
    assert sandbox.run(job).reason == "memory"


def test_random_numbers_differ_between_executions(sandbox: Sandbox) -> None:
    job = node("return [random.random(), uuid.uuid4().hex]")
    first, second = sandbox.run(job).value, sandbox.run(job).value
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert not set(first) & set(second)


def test_one_execution_leaves_nothing_for_the_next(sandbox: Sandbox) -> None:
    job = node("math.marked = getattr(math, 'marked', 0) + 1\nreturn math.marked")
    assert [sandbox.run(job).value for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_message_ends_as_killed_and_hurts_nobody(sandbox: Sandbox, forgery: str) -> None:
    asked: list[str] = []

    def on_call(tool: str, _args: object, _kwargs: object) -> CallAnswer:
        asked.append(tool)
        return CallAnswer(ok=True)

    job = deed("forge", {"forgery": forgery}, limits=within(1))
    outcome = sandbox.run(job, on_call=on_call)
    assert not outcome.ok
    odd = {"noise": "output_too_large", "half a message": "timeout"}
    assert outcome.reason == odd.get(forgery, "killed")
    assert asked == []
    assert outcome.value is None
    assert sandbox.run(node("return 1")).value == 1


@pytest.mark.parametrize("which", STATUSES)
def test_a_forged_status_ends_as_killed(sandbox: Sandbox, which: str) -> None:
    job = Job(
        mode="library-node",
        name="forge_status",
        library="tests.unit.sandbox.deeds:forge_status",
        arguments={"params": {"which": which}, "output": []},
        limits=within(1),
    )
    outcome = sandbox.run(job)
    assert (outcome.ok, outcome.reason) == (False, "killed")


def test_a_message_that_announces_gigabytes_is_refused_before_it_is_read(sandbox: Sandbox) -> None:
    outcome = sandbox.run(deed("announce_much", limits=within(20)))
    assert outcome.reason == "output_too_large"
    assert outcome.seconds < 15


def test_what_comes_after_a_report_counts_for_nothing(sandbox: Sandbox) -> None:
    asked: list[str] = []

    def on_call(tool: str, _args: object, _kwargs: object) -> CallAnswer:
        asked.append(tool)
        return CallAnswer(ok=True)

    outcome = sandbox.run(deed("report_and_stay", limits=within(20)), on_call=on_call)
    assert (outcome.ok, outcome.value, asked) == (True, "reported", [])
    assert outcome.seconds < 15


def test_half_a_message_from_a_dead_child_is_killed(sandbox: Sandbox) -> None:
    assert sandbox.run(deed("half_a_message_and_leave")).reason == "killed"


def test_a_caller_that_dies_before_the_answer_is_killed(sandbox: Sandbox) -> None:
    outcome = sandbox.run(deed("call_and_leave"), on_call=lambda *_: CallAnswer(ok=True))
    assert outcome.reason == "killed"
    assert "exit status 9" in outcome.message


def test_a_job_larger_than_any_buffer_arrives(sandbox: Sandbox) -> None:
    outcome = sandbox.run(node("return len(state['big'])", {"big": "x" * 5_000_000}))
    assert outcome.value == 5_000_000


def test_a_child_that_does_not_read_its_job_cannot_hold_the_worker(sandbox: Sandbox) -> None:
    """Nor its answers: writing to it never blocks."""
    job = node("invoke('t')\ntime.sleep(600)", limits=within(0.5))
    answer = CallAnswer(ok=True, value="x" * 5_000_000)
    assert sandbox.run(job, on_call=lambda *_: answer).reason == "timeout"


def test_source_never_runs_where_libraries_are_trusted() -> None:
    with pytest.raises(ValueError, match="library alone"):
        deed("grow", choose=condition("return True"))
    with pytest.raises(ValueError, match="source alone"):
        node("return 1", choose=Choose(name="judge", library="os:getpid"))
    with pytest.raises(ValueError, match="library alone"):
        Job(mode="library-node", name="f", source="def f(s): 1", arguments={"state": {}})
    with pytest.raises(ValueError, match="neither"):
        Job(mode="node", name="f")
    with pytest.raises(ValueError, match="needs a state"):
        Job(mode="node", name="f", choose=condition("return True"))
    with pytest.raises(ValueError, match="either source or library"):
        Choose(name="judge")
    with pytest.raises(ValueError, match="more than 0"):
        within(0)


def test_a_sandbox_of_another_process_is_refused(sandbox: Sandbox) -> None:
    pid = os.fork() if threading.active_count() == 1 else -1
    if pid == 0:
        try:
            sandbox.run(node("return 1"))
        except RuntimeError:
            os._exit(42)
        os._exit(1)
    if pid > 0:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
