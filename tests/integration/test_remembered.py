"""`$steps.NODE` on the real store: carried out in sandboxes, asked of people, kept elsewhere."""

from __future__ import annotations

from typing import Any

from engine.core.values import VARIABLES_BYTES
from engine.platform import Platform
from engine.runs import answers, turns, views, waits
from tests.support.hands import carry_out
from tests.support.platforms import publish, register, sql, submit
from workers.execution import Worker

DOCUMENT: dict[str, Any] = {
    "workflow": "w",
    "inputs": {"size": {"type": "integer"}},
    "outputs": {"told": "$steps.again.size", "whole": "$steps.tell", "by": "$steps.accept.by"},
    "nodes": {
        "tell": {"uses": "tell", "with": {"n": "$size"}},
        "again": {"uses": "look", "with": {"seen": "$steps.tell"}, "save": {}},
        "accept": {"kind": "approval", "show": "$steps.again.size"},
    },
    "edges": [
        {"from": "tell", "to": "again", "when": "$steps.tell.n > 0"},
        "tell -> end",
        "again -> accept -> end",
    ],
}
TELL = "def tell(state):\n    return {'n': state['n'], 'text': 'x' * state['n']}\n"
LOOK = (
    "def look(state):\n"
    "    assert not [name for name in state if name.startswith('$')]\n"
    "    return {'size': len(state['seen']['text'])}\n"
)


def accepted(main: Platform, worker: Worker, size: int) -> dict[str, Any]:
    """What a run gives that is accepted in the end."""
    register(main, "tell", TELL)
    register(main, "look", LOOK)
    run = submit(main, publish(main, DOCUMENT), size=size)
    carry_out(main, worker, run)
    (asked,) = waits.page(main, run.tenant)
    assert asked.show == size
    answers.answer(main, run, asked.step, by="ada", choice="approve")
    turns.take_turns(main, [run])
    found = views.result(main, run, "tell#1")
    assert found is not None
    assert not [name for name in found.patch if name.startswith("$")]
    ended = views.run(main, run)
    assert (ended.status, ended.message) == ("completed", "")
    assert not [name for name in ended.variables if name.startswith("$")]
    (row,) = sql(main, "SELECT outputs FROM run WHERE id = :run", run=run.run)
    return dict(row.outputs)


def test_results_are_recalled_by_those_who_work_and_those_who_wait(
    main: Platform, worker: Worker
) -> None:
    given = accepted(main, worker, 3)
    assert given == {"told": 3, "whole": {"n": 3, "text": "xxx"}, "by": ["ada"]}


def test_a_large_result_lies_elsewhere_and_is_recalled_all_the_same(
    main: Platform, worker: Worker
) -> None:
    given = accepted(main, worker, 2 * VARIABLES_BYTES)
    assert given["told"] == 2 * VARIABLES_BYTES
    assert [*given["whole"]] == ["$blob", "size"], "handed on unread"
