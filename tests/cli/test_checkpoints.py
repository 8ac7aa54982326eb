"""`celeriac checkpoints`, on a real platform."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.support.fleet import wait_until


@pytest.mark.usefixtures("functions")
def test_places_of_a_run_are_listed_named_shown_and_held_against_each_other(
    shell: Shell, line: str
) -> None:
    run = json.loads(shell("run", line, "--json").stdout)["id"]
    assert shell("checkpoints", run, "--name", "x").exit_code == 2
    missing = shell("checkpoints", run, "999")
    assert (missing.exit_code, "no line 999" in missing.stderr) == (1, True)
    listed = json.loads(shell("checkpoints", run, "--json").stdout)
    assert [point["step"] for point in listed][:2] == ["a#1", "b#1"]
    first = str(listed[0]["seq"])
    named = shell("checkpoints", run, first, "--name", "after a")
    assert named.exit_code == 0, named.output
    assert named.stdout.startswith(f"line {first}, 'after a' of ")
    assert "goes on" in named.stdout
    row = next(r for r in shell("checkpoints", run).stdout.splitlines() if "after a" in r)
    assert row.split()[0] == first
    shown = shell("checkpoints", run, first, "--against", "2")
    assert shown.exit_code == 0, shown.output
    assert "since 2" in shown.stdout
    told = json.loads(shell("checkpoints", run, first, "--against", "2", "--json").stdout)
    assert (told["against"], told["name"]) == (2, "after a")


@pytest.mark.usefixtures("functions")
def test_a_run_goes_on_from_a_place_that_has_a_name(shell: Shell, line: str) -> None:
    run = json.loads(shell("run", line, "--json").stdout)["id"]
    seq = str(json.loads(shell("checkpoints", run, "--json").stdout)[0]["seq"])
    nowhere = shell("fork", run, "nowhere")
    assert (nowhere.exit_code, "no place that is called" in nowhere.stderr) == (2, True)
    shell("checkpoints", run, seq, "--name", "after a")
    made = shell("fork", run, "after a", "--set", "n=7")
    assert made.exit_code == 0, made.output
    fork = made.stdout.strip()
    shown = shell("show", fork)
    assert f"line {seq} of {run}" in shown.stdout.replace("\n", " ")


@pytest.mark.usefixtures("functions")
def test_a_run_goes_on_from_before_a_step_with_a_result(shell: Shell, line: str) -> None:
    run = json.loads(shell("run", line, "--json").stdout)["id"]
    assert shell("restart", run, "b#1", "--choice", "x").exit_code == 2
    assert shell("restart", run, "b#9").exit_code == 1
    plan = shell("restart", run, "b#1", "--plan")
    assert (plan.exit_code, plan.stderr.strip()) == (0, "No call would be made again.")
    made = json.loads(shell("restart", run, "b#1", "--result", "1", "--json").stdout)
    assert made["forked_from"]["run_id"] == run
    assert "No call" in shell("fork", run, "2", "--plan").stderr


@pytest.mark.usefixtures("functions")
def test_a_place_that_a_node_names_is_gone_on_from_by_that_name(
    shell: Shell, tmp_path: Path
) -> None:
    document = {
        "workflow": "naming",
        "variables": {"n": {"default": 0}},
        "nodes": {
            "a": {"uses": "increment", "checkpoint": "counted"},
            "b": {"uses": "increment"},
        },
        "edges": [{"from": "a", "to": "a", "label": "loop", "when": "$n < 2"}, "a -> b -> end"],
    }
    file = tmp_path / "naming.json"
    file.write_text(json.dumps(document))
    run = json.loads(shell("run", str(file), "--json").stdout)["id"]
    listed = shell("checkpoints", run).stdout
    assert "counted#1" in listed
    assert "node:a" in listed
    for name in ("counted", "counted#1"):
        made = shell("fork", run, name)
        assert made.exit_code == 0, made.output
    assert shell("fork", run, "counted#7").exit_code == 2


@pytest.mark.usefixtures("functions")
def test_a_run_goes_back_to_a_place_of_its_own(shell: Shell, patient: str) -> None:
    run = shell("run", patient, "--no-wait").stdout.strip()
    nowhere = shell("rollback", run, "nowhere")
    assert (nowhere.exit_code, "no place that is called" in nowhere.stderr) == (2, True)
    wait_until(lambda: "a#1" in shell("show", run).stdout, what="its first step")
    asked = next(
        line["seq"]
        for line in json.loads(shell("show", run, "--history", "--json").stdout)["history"]
        if line["kind"] == "Admitted"
    )
    shell("checkpoints", run, str(asked), "--name", "begun")
    assert "No call" in shell("rollback", run, "begun", "--plan").stderr
    went = shell("rollback", run, "begun", "--set", "n=7", "--reason", "a wrong turn")
    assert went.exit_code == 0, went.output
    assert f"went back to line {asked}" in went.stdout
    assert "a#2" in went.stdout
    told = json.loads(shell("rollback", run, str(asked), "--json").stdout)
    assert (told["to"], told["ended"], told["anew"]) == (asked, ["a#2"], {"a#1": "a#3"})
    assert shell("cancel", run).exit_code == 0
    ended = shell("rollback", run, str(asked))
    assert (ended.exit_code, "has already ended" in ended.stderr) == (1, True)


@pytest.mark.usefixtures("functions")
def test_what_becomes_of_calls_is_asked_for_where_it_must_be_chosen(
    shell: Shell, tmp_path: Path
) -> None:
    file = tmp_path / "calling.yaml"
    file.write_text(
        "workflow: calling\nnodes: {a: {uses: increment}, b: {kind: tool, tool: pay, with: {sum: 3}}}\n"
        "edges: [a -> b -> end]\n"
    )
    source = "def pay(sum):\n    return sum"
    made = shell("register", "tool", "-", "--name", "pay", "--effect", "at_most_once", text=source)
    assert made.exit_code == 0, made.output
    run = json.loads(shell("run", str(file), "--json").stdout)["id"]
    seq = str(json.loads(shell("checkpoints", run, "--json").stdout)[0]["seq"])
    plan = shell("fork", run, seq, "--plan")
    assert ("undecided" in plan.stdout, "b#1" in plan.stdout) == (True, True)
    refused = shell("fork", run, seq, "--json")
    assert (refused.exit_code, "choices.b#1.1" in refused.stderr) == (1, True)
    wrong = shell("fork", run, seq, "--effect", "b#1.1=perhaps")
    assert wrong.exit_code != 0
    asked = shell("fork", run, seq, text="reuse\n")
    assert asked.exit_code == 0, asked.output
    assert "What becomes of calls that are" in asked.output
    chosen = shell("fork", run, seq, "--effect", "b#1.1=skip")
    assert chosen.exit_code == 0, chosen.output
    fork = asked.stdout.split()[-1]
    wait_until(lambda: "completed" in shell("show", fork).stdout, what="its end")
    called = json.loads(shell("show", fork, "--json").stdout)
    assert called["status"] == "completed"


@pytest.mark.usefixtures("functions")
def test_what_a_run_has_done_is_undone_before_another_goes_on_from_it(
    shell: Shell, tmp_path: Path
) -> None:
    file, terms = tmp_path / "buying.yaml", tmp_path / "terms.yaml"
    file.write_text(
        "workflow: buying\nnodes: {a: {uses: increment}, b: {kind: tool, tool: buy, with: {sum: 3}},"
        " c: {kind: tool, tool: buy, with: {sum: 4}}}\nedges: [a -> b -> c -> end]\n"
    )
    source = "def {name}(sum):\n    return sum"
    terms.write_text("undo: {tool: sell, with: {sum: $result}}\n")
    refused = shell(
        *("register", "tool", "-", "--name", "buy", "--terms", str(terms)),
        text=source.format(name="buy"),
    )
    assert (refused.exit_code, "as compensable" in refused.stderr) == (1, True)
    for name, effect, more in (
        ("sell", "at_most_once", ()),
        ("buy", "compensable", ("--terms", str(terms))),
    ):
        made = shell(
            *("register", "tool", "-", "--name", name, "--effect", effect, *more),
            text=source.format(name=name),
        )
        assert made.exit_code == 0, made.output
    run = json.loads(shell("run", str(file), "--json").stdout)["id"]
    seq = str(json.loads(shell("checkpoints", run, "--json").stdout)[0]["seq"])
    assert shell("undo", run).exit_code == 2
    assert shell("undo", run, "c#1.1", "--class", "compensable").exit_code == 2
    unknown = shell("undo", run, "c#1.7")
    assert (unknown.exit_code, "calls.c#1.7" in unknown.stderr) == (1, True)
    plan = shell("undo", run, "--plan")
    assert (plan.exit_code, "sell" in plan.stdout) == (0, True)
    # One by one, by hand; and the rest on the way.
    undoing = shell("undo", run, "c#1.1", "--reason", "a wrong order").stdout.strip()
    wait_until(lambda: "completed" in shell("show", undoing).stdout, what="its end")
    refused = shell("undo", run, "c#1.1")
    assert (refused.exit_code, f"run {undoing} has undone it" in refused.stderr) == (1, True)
    made = shell("fork", run, seq, "--effect", "compensable=compensate")
    assert made.exit_code == 0, made.output
    told = json.loads(shell("undo", run, "--plan", "--json").stdout)
    assert [one["undone"] for one in told] == ["undone", "undone"]
    again = shell("restart", run, "b#1", "--effect", "compensable=compensate")
    assert again.exit_code == 0, again.output
    for one in (made, again):
        fork = one.stdout.strip()
        wait_until(lambda of=fork: "completed" in shell("show", of).stdout, what="its end")
    resting = shell("restart", run, "c#1", "--result", "1")
    assert (resting.exit_code, "has undone since" in resting.stderr) == (1, True)
    assert shell("undo", run, "--all").exit_code == 1


@pytest.mark.usefixtures("functions")
def test_a_run_that_has_not_ended_goes_back_and_is_undone(shell: Shell, tmp_path: Path) -> None:
    file, terms = tmp_path / "booking.yaml", tmp_path / "terms.yaml"
    file.write_text(
        "workflow: booking\nnodes: {a: {uses: increment}, b: {kind: tool, tool: book, with: {n: 3}},"
        " c: {uses: nap}}\nedges: [a -> b -> c -> end]\n"
    )
    terms.write_text("undo: {tool: release, with: {n: $result}}\n")
    source = "def {name}(n):\n    return n"
    for name, effect, more in (
        ("release", "at_most_once", ()),
        ("book", "compensable", ("--terms", str(terms))),
    ):
        told = ("register", "tool", "-", "--name", name, "--effect", effect, *more)
        assert shell(*told, text=source.format(name=name)).exit_code == 0
    run = shell("run", str(file), "--no-wait").stdout.strip()
    wait_until(lambda: "c#1" in shell("show", run).stdout, what="its last step")
    seq = str(json.loads(shell("checkpoints", run, "--json").stdout)[0]["seq"])
    refused = shell("fork", run, seq, "--effect", "compensable=compensate")
    assert (refused.exit_code, "has not ended" in refused.stderr) == (1, True)
    made = shell("rollback", run, seq, "--effect", "compensable=compensate")
    assert made.exit_code == 0, made.output
    wait_until(lambda: "c#2" in shell("show", run).stdout, what="its last step")
    calls = json.loads(shell("undo", run, "--plan", "--json").stdout)
    assert [(one["name"], one["undone"]) for one in calls] == [("b#1.1", "undone"), ("b#2.1", None)]
    assert shell("cancel", run).exit_code == 0
