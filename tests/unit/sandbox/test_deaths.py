"""Each kind of death has its own reason, and nothing outlives it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.unit.sandbox.jobs import Watch, alive, deed, node, within
from workers.sandbox import (
    CallAnswer,
    Job,
    Limits,
    Sandbox,
    SandboxUnavailable,
    execution,
    messages,
)
from workers.sandbox.inside import zygote as inside

ROOT = Path(__file__).parents[3]


def test_an_allocation_of_a_gigabyte_is_memory(sandbox: Sandbox) -> None:
    outcome = sandbox.run(node('state.set("big", "x" * 2**30)'))
    assert (outcome.ok, outcome.reason) == (False, "memory")
    assert "line 2" in outcome.message
    assert outcome.patch is None


def test_memory_that_grows_in_small_pieces_is_memory(sandbox: Sandbox) -> None:
    outcome = sandbox.run(
        node("kept = []\nwhile True: kept.append('x' * 100 + str(len(kept)))"),
    )
    assert outcome.reason == "memory"
    assert outcome.max_rss > 100 * 2**20


def test_a_spin_is_cpu(sandbox: Sandbox) -> None:
    outcome = sandbox.run(node("while True: pass", limits=within(20, cpu_seconds=1)))
    assert outcome.reason == "cpu"
    assert 0.5 < outcome.cpu_seconds < 3


def test_a_spin_that_is_deaf_to_the_signal_is_cpu_all_the_same(sandbox: Sandbox) -> None:
    outcome = sandbox.run(deed("spin_deaf", limits=within(20, cpu_seconds=1)))
    assert outcome.reason == "cpu"


def test_a_spin_within_default_limits_is_cpu_and_not_timeout() -> None:
    assert messages.cpu_seconds(node("pass")) == Limits().seconds / 2


def test_a_sleep_is_timeout(sandbox: Sandbox) -> None:
    outcome = sandbox.run(node("time.sleep(600)", limits=within(0.2)))
    assert outcome.reason == "timeout"
    assert "0.2 s" in outcome.message
    assert 0.2 <= outcome.seconds < 60


def test_swallowing_every_error_does_not_outlive_the_deadline(sandbox: Sandbox) -> None:
    body = "while True:\n  try: time.sleep(60)\n  except BaseException: pass"
    assert sandbox.run(node(body, limits=within(0.2))).reason == "timeout"


@pytest.mark.parametrize("status", [0, 3])
def test_a_process_that_leaves_without_a_result_is_killed(sandbox: Sandbox, status: int) -> None:
    outcome = sandbox.run(deed("leave", {"status": status}))
    assert outcome.reason == "killed"
    assert f"exit status {status}" in outcome.message


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV])
def test_a_process_that_a_signal_ends_is_killed(sandbox: Sandbox, number: signal.Signals) -> None:
    outcome = sandbox.run(deed("die", {"signal": int(number)}))
    assert outcome.reason == "killed"
    assert number.name in outcome.message


def test_a_crash_of_the_interpreter_is_killed(sandbox: Sandbox) -> None:
    assert sandbox.run(deed("crash")).reason == "killed"


@pytest.mark.parametrize("text", ["raise SystemExit(0)", "raise KeyboardInterrupt", "return 1/0"])
def test_what_user_code_raises_is_error(sandbox: Sandbox, text: str) -> None:
    assert sandbox.run(node(text)).reason == "error"


def test_a_missing_module_of_a_library_is_error(sandbox: Sandbox) -> None:
    job = Job(mode="library-node", name="x", library="no_such:thing", arguments={"state": {}})
    outcome = sandbox.run(job)
    assert outcome.reason == "error"
    assert "no_such" in outcome.message


def test_a_stop_of_the_group_does_not_end_what_runs(sandbox: Sandbox) -> None:
    def stop(_stream: str, line: str) -> None:
        os.kill(int(line), signal.SIGTERM)
        os.kill(int(line), signal.SIGINT)

    job = deed("slow_identity", limits=within(20))
    assert sandbox.run(job, on_log=stop).value == "finished"


def test_cancelling_ends_a_run_within_a_second(sandbox: Sandbox) -> None:
    cancelled = threading.Event()
    asked = []

    def on_log(_stream: str, _line: str) -> None:
        asked.append(time.monotonic())
        cancelled.set()

    job = node("print('begun')\ntime.sleep(600)", limits=within(30))
    outcome = sandbox.run(job, on_log=on_log, cancelled=cancelled)
    assert outcome.reason == "cancelled"
    assert time.monotonic() - asked[0] < 15


def test_what_is_cancelled_before_it_begins_does_not_begin(sandbox: Sandbox) -> None:
    cancelled = threading.Event()
    cancelled.set()
    lines: list[str] = []
    job = node("print('begun')")
    outcome = sandbox.run(job, on_log=lambda _, line: lines.append(line), cancelled=cancelled)
    assert (outcome.reason, lines) == ("cancelled", [])


def test_a_daemon_that_left_the_session_ends_with_its_execution(sandbox: Sandbox) -> None:
    outcome = sandbox.run(deed("leave_daemon"))
    assert outcome.ok
    assert isinstance(outcome.value, int)
    assert not alive(outcome.value)


@pytest.mark.parametrize("how", ["timeout", "cancelled"])
def test_programs_that_were_started_end_with_their_execution(sandbox: Sandbox, how: str) -> None:
    pids: list[int] = []
    cancelled = threading.Event()

    def on_log(_stream: str, line: str) -> None:
        pids.extend(json.loads(line))
        if how == "cancelled":
            cancelled.set()

    outcome = sandbox.run(deed("family", limits=within(2)), on_log=on_log, cancelled=cancelled)
    assert outcome.reason == how
    assert len(pids) == 3
    assert not any(alive(pid) for pid in pids)


def test_a_daemon_does_not_disturb_executions_beside_it(sandbox: Sandbox) -> None:
    """Programs of a live execution are left alone when another one ends."""
    pids: list[int] = []
    seen: list[bool] = []

    def on_log(_stream: str, line: str) -> None:
        pids.extend(json.loads(line))
        sandbox.run(deed("grow"))
        seen.extend(alive(pid) for pid in pids)

    sandbox.run(deed("family", limits=within(2)), on_log=on_log)
    assert seen == [True, True, True]
    assert not any(alive(pid) for pid in pids)


def test_a_zygote_killed_under_a_run_makes_it_killed_and_the_next_call_works() -> None:
    with Sandbox() as sandbox:
        watches: list[Watch] = []

        def on_log(_stream: str, line: str) -> None:
            child, near, far = json.loads(line)
            watches.append(Watch(child, near))
            os.kill(sandbox._zygotes[True].pid, signal.SIGKILL)
            os.kill(far, signal.SIGKILL)  # out of reach until there are pid namespaces

        outcome = sandbox.run(deed("family", limits=within(30)), on_log=on_log)
        assert outcome.reason == "killed"
        assert watches[0].all_end(5)
        assert sandbox.run(deed("grow")).patch == {"n": 1}


def test_a_zygote_killed_between_runs_is_replaced() -> None:
    with Sandbox() as sandbox:
        watch = Watch(sandbox._zygotes[False].pid)
        os.kill(sandbox._zygotes[False].pid, signal.SIGKILL)
        assert watch.all_end(5)
        assert sandbox.run(node("return 1")).value == 1


def test_a_frozen_zygote_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_BURIAL_SECONDS", 0.3)
    with Sandbox() as sandbox:
        frozen = sandbox._zygotes[False].pid

        def on_log(_stream: str, _line: str) -> None:
            os.kill(frozen, signal.SIGSTOP)

        job = node("print('begun')\ntime.sleep(600)", limits=within(0.3))
        assert sandbox.run(job, on_log=on_log).reason == "timeout"
        assert not alive(frozen)
        assert sandbox.run(node("return 1")).value == 1


def test_a_child_that_got_the_descriptor_of_a_buried_one_is_not_waited_for() -> None:
    """What was to be read there came to the one before, all within one look of the zygote's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper = inside._Zygote.__new__(inside._Zygote)
    keeper._poll = select.poll()
    keeper._poll.register(theirs)
    with ours, theirs, subprocess.Popen(["sleep", "600"], start_new_session=True) as child:
        # Whoever waits for a word all the same gets to hear that nobody listens any more.
        late = threading.Timer(10, lambda: ours.shutdown(socket.SHUT_RDWR))
        late.start()
        keeper._heed(inside._Execution(child.pid, theirs))
        assert not late.finished.is_set()
        late.cancel()
        child.kill()


def test_killing_the_worker_leaves_no_process() -> None:
    script = (
        "from workers.sandbox import Sandbox\n"
        "from tests.unit.sandbox.jobs import deed, within\n"
        "sandbox = Sandbox()\n"
        "sandbox.start()\n"
        "print([zygote.pid for zygote in sandbox._zygotes.values()], flush=True)\n"
        "say = lambda stream, line: print(line, flush=True)\n"
        "sandbox.run(deed('family', limits=within(60)), on_log=say)\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    with worker:
        assert worker.stdout is not None
        zygotes = json.loads(worker.stdout.readline())
        family = json.loads(worker.stdout.readline())
        watch = Watch(*zygotes, *family)
        worker.kill()
        assert watch.all_end(5)


def test_closing_ends_what_still_runs() -> None:
    sandbox = Sandbox()
    sandbox.start()
    begun = threading.Event()
    outcomes = []

    def run() -> None:
        job = node("print('begun')\ntime.sleep(600)", limits=within(30))
        outcomes.append(sandbox.run(job, on_log=lambda _stream, _line: begun.set()))

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(10)
    sandbox.close()
    thread.join(10)
    assert [outcome.reason for outcome in outcomes] == ["killed"]


def test_a_callback_that_raises_ends_the_execution(sandbox: Sandbox) -> None:
    pids: list[int] = []

    def on_log(_stream: str, line: str) -> None:
        pids.extend(json.loads(line))
        watches.append(Watch(*pids))
        raise OSError("the log cannot be kept")

    watches: list[Watch] = []
    with pytest.raises(OSError, match="cannot be kept"):
        sandbox.run(deed("family", limits=within(30)), on_log=on_log)
    assert watches[0].all_end(5)


def test_a_deadline_that_falls_together_with_the_end_disturbs_nobody_else(
    sandbox: Sandbox,
) -> None:
    zygote = sandbox._zygotes[False].pid
    reasons = {
        sandbox.run(node("return 1", limits=within(0.002 + turn % 40 / 10_000))).reason
        for turn in range(200)
    }
    assert reasons <= {None, "timeout"}
    assert sandbox._zygotes[False].pid == zygote
    assert sandbox.run(node("return 1")).ok


def test_the_thread_that_started_a_zygote_may_end() -> None:
    sandbox = Sandbox()
    thread = threading.Thread(target=sandbox.start)
    thread.start()
    thread.join()
    with contextlib.closing(sandbox):
        zygote = sandbox._zygotes[False].pid
        assert [sandbox.run(node("return 1")).value for _ in range(5)] == [1] * 5
        assert sandbox._zygotes[False].pid == zygote


def test_a_sandbox_that_was_not_started_says_so() -> None:
    with pytest.raises(SandboxUnavailable, match="is not started"):
        Sandbox().run(node("return 1"))


def test_an_interpreter_that_cannot_start_is_said_at_the_start() -> None:
    with pytest.raises(SandboxUnavailable, match="no/such"):
        Sandbox(python="/no/such/python").start()
    with pytest.raises(SandboxUnavailable, match="ready"):
        Sandbox(python="/bin/true").start()


def test_10_runs_in_8_threads_each_do_not_mix() -> None:
    wrong: list[object] = []

    def run(number: int) -> None:
        for turn in range(10):
            lines: list[str] = []
            job = node(
                f"print('thread {number}')\nstate.set('n', invoke('echo', {number}))\nreturn {turn}"
            )
            outcome = sandbox.run(
                job,
                on_log=lambda _, line, lines=lines: lines.append(line),  # type: ignore[misc]
                on_call=lambda _tool, args, _kwargs: CallAnswer(ok=True, value=args[0]),
            )
            if (outcome.value, outcome.patch, lines) != (
                turn,
                {"n": number},
                [f"thread {number}"],
            ):
                wrong.append(outcome)

    with Sandbox() as sandbox:
        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_200_runs_leave_no_descriptor_and_no_process(sandbox: Sandbox) -> None:
    sandbox.run(deed("grow"))
    zygote = sandbox._zygotes[True].pid
    own, theirs = _descriptors("self"), _descriptors(zygote)
    for turn in range(200):
        job = deed("grow") if turn % 10 else deed("leave", {"status": 1})
        sandbox.run(job)
    assert _descriptors("self") == own
    # It tells how an execution ended just before it closes that one's socket.
    assert _descriptors(zygote) <= theirs + 1
    for each in sandbox._zygotes.values():
        left = Path(f"/proc/{each.pid}/task/{each.pid}/children").read_text().split()
        assert sorted(map(int, left)) == sorted(lane.pid for lane in each._parked)


def _descriptors(pid: int | str) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
