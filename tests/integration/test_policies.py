"""Policies in the store: versions, what is in force, and the number that tells of changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pytest
from sqlalchemy import text

from engine.core.values import Json
from engine.errors import Conflict, Damaged, Invalid, NotFound
from engine.guardrails import judge, plugins
from engine.guardrails.facts import Facts, Total
from engine.guardrails.governance import Governance
from engine.platform import DatabaseRole, Platform
from engine.runs import policies
from engine.runs.attempts import Succeeded
from engine.settings import Settings
from engine.store import session
from tests.support import platforms
from tests.support.platforms import TENANT, Sent

SPENDING = "policy: spending\nrules:\n  - sum(tokens_used) > 10\u2009000 → abort_lifetime\n"
LOOSER = SPENDING.replace("10\u2009000", "20 000")
OTHER = "policy: tools\nrules:\n  - {tool: file_delete, action: require_approval}\n"


@pytest.fixture
def main(settings: Settings) -> Iterator[Platform]:
    with platforms.platform(settings) as built:
        with session.transaction(built.database) as connection:
            connection.execute(text("INSERT INTO tenant (id, name) VALUES ('other', 'Other')"))
        yield replace(built, broker=Sent(app=built.broker.app))


def apply(main: Platform, document: str, tenant: str = TENANT) -> tuple[int, bool]:
    applied = policies.apply(main, tenant, document, by="ada", why="because")
    return applied.version.version, applied.changed


def number(main: Platform, tenant: str = TENANT) -> int:
    ((found,),) = platforms.sql(main, "SELECT governance FROM tenant WHERE id = :id", id=tenant)
    return int(found)


def held(main: Platform, tenant: str = TENANT, at: int | None = None) -> Governance:
    with session.transaction(main.database) as connection:
        return policies.governance(connection, tenant, number(main, tenant) if at is None else at)


def acts(main: Platform) -> list[tuple[str, str, str, str, Json]]:
    statement = (
        "SELECT by, action, subject, why, detail FROM admin_act"
        " WHERE action LIKE 'policy.%' ORDER BY id"
    )
    rows = platforms.sql(main, statement)
    return [tuple(row) for row in rows]  # type: ignore[misc]


# --- what goes wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        "",
        "policy: p",
        "policy: p\nrules: [nonsense]",
        "policy: p\nplugins: [{use: nobody}]",
        b"\xff",
    ],
)
def test_what_is_no_policy_changes_nothing(main: Platform, document: str | bytes) -> None:
    with pytest.raises(Invalid):
        policies.apply(main, TENANT, document, by="ada")
    assert policies.listed(main, TENANT) == ()
    assert (number(main), acts(main)) == (0, [])


def test_a_plug_in_that_is_not_installed_is_told_with_its_place(main: Platform) -> None:
    found = policies.linted(main, TENANT, "policy: p\nplugins:\n  - {use: nobody}")
    assert [(each.path, each.message) for each in found.problems] == [
        ("plugins[0].use", "the policy plug-in nobody is not installed (line 3, column 11)")
    ]


def test_what_is_not_there_is_said_to_be_so(main: Platform) -> None:
    apply(main, SPENDING)
    for ask in (
        lambda: policies.show(main, TENANT, "nothing"),
        lambda: policies.show(main, TENANT, "spending", 2),
        lambda: policies.versions(main, TENANT, "nothing"),
        lambda: policies.withdraw(main, TENANT, "nothing", by="ada"),
        # Another tenant's policy is nobody's.
        lambda: policies.show(main, "other", "spending"),
        lambda: policies.versions(main, "other", "spending"),
        lambda: policies.withdraw(main, "other", "spending", by="eve"),
        lambda: policies.try_out(
            main, TENANT, SPENDING, run="01900000-0000-7000-8000-000000000000"
        ),
    ):
        with pytest.raises(NotFound):
            ask()
    assert number(main) == 1


def test_a_policy_is_withdrawn_once(main: Platform) -> None:
    apply(main, SPENDING)
    assert policies.withdraw(main, TENANT, "spending", by="eve", why="done").active is False
    with pytest.raises(Conflict):
        policies.withdraw(main, TENANT, "spending", by="eve")
    assert number(main) == 2


def test_only_so_many_policies_are_in_force(
    main: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "MAX_ACTIVE", 1)
    apply(main, SPENDING)
    with pytest.raises(Conflict, match="withdraw one"):
        apply(main, OTHER)
    assert apply(main, LOOSER) == (2, True)
    policies.withdraw(main, TENANT, "spending", by="ada")
    assert apply(main, OTHER) == (1, True)


def test_a_stored_policy_that_cannot_be_read_is_not_taken_for_leave(
    main: Platform, settings: Settings
) -> None:
    apply(main, SPENDING)
    platforms.as_owner(settings, "UPDATE policy_version SET document = 'policy: spending'")
    with pytest.raises(Damaged, match="spending@1 cannot be read"):
        held(main)


# --- what goes well ---------------------------------------------------------------------------


def test_each_change_is_a_version_an_act_and_a_number(main: Platform) -> None:
    assert apply(main, SPENDING) == (1, True)
    assert apply(main, SPENDING) == (1, False)
    assert apply(main, "# the same\n" + SPENDING.replace("\u2009", "\u2009")) == (1, False)
    assert apply(main, LOOSER) == (2, True)
    assert apply(main, SPENDING) == (3, True)
    policies.withdraw(main, TENANT, "spending", by="eve", why="done")
    assert apply(main, SPENDING) == (3, True)
    assert number(main) == 5
    assert [(by, action, why, detail) for by, action, _, why, detail in acts(main)] == [
        ("ada", "policy.apply", "because", {"version": 1, "governance": 1}),
        ("ada", "policy.apply", "because", {"version": 2, "governance": 2}),
        ("ada", "policy.apply", "because", {"version": 3, "governance": 3}),
        ("eve", "policy.withdraw", "done", {"version": 3, "governance": 4}),
        ("ada", "policy.apply", "because", {"version": 3, "governance": 5}),
    ]
    digests = platforms.sql(
        main,
        "SELECT before IS NULL, after IS NULL FROM admin_act WHERE action LIKE 'policy.%' ORDER BY id",
    )
    assert [tuple(row) for row in digests] == [
        (True, False),
        (False, False),
        (False, False),
        (False, True),
        (True, False),
    ]
    found = policies.versions(main, TENANT, "spending")
    assert [(each.version, each.active, each.document) for each in found] == [
        (3, True, SPENDING),
        (2, False, LOOSER),
        (1, False, SPENDING),
    ]
    assert [
        each.version for each in policies.versions(main, TENANT, "spending", before=3, limit=1)
    ] == [2]


def test_of_each_policy_the_version_in_force_is_listed(main: Platform) -> None:
    for document in (SPENDING, LOOSER, OTHER):
        apply(main, document)
    policies.withdraw(main, TENANT, "tools", by="ada")
    apply(main, OTHER, "other")
    assert [(each.name, each.version, each.active) for each in policies.listed(main, TENANT)] == [
        ("spending", 2, True),
        ("tools", 1, False),
    ]
    assert [each.name for each in policies.listed(main, TENANT, after="spending")] == ["tools"]
    assert policies.show(main, TENANT, "spending").document == LOOSER
    assert policies.show(main, TENANT, "spending", 1).document == SPENDING
    assert policies.show(main, TENANT, "tools").version == 1


# The API sees what it is bound to, which the helpers here are not.
@pytest.mark.parametrize("role", [DatabaseRole.CONTROL, DatabaseRole.WORKER])
def test_what_is_in_force_is_read_again_when_the_number_has_moved_on(
    main: Platform, settings: Settings, role: DatabaseRole
) -> None:
    with platforms.platform(settings, role) as reader:
        assert held(reader).policies == ()
        apply(main, SPENDING)
        apply(main, OTHER, "other")
        first = held(reader)
        facts = Facts(moment="start", totals={Total("run", "none", "tokens_used"): Decimal(10_001)})
        (verdict,) = judge.judge(first, facts, {}).verdicts
        assert (verdict.policy, verdict.version, verdict.action) == (
            "spending",
            1,
            "abort_lifetime",
        )
        # Nothing has changed: it is the one at hand.
        assert held(reader) is first
        apply(main, LOOSER)
        # Whoever has read the number before the change gets what is in force after it, by its number.
        late = held(reader, at=0)
        assert late.number == 2
        assert not judge.judge(held(reader), facts, {}).verdicts
        policies.withdraw(main, TENANT, "spending", by="ada")
        assert held(reader).policies == ()
        (other,) = held(reader, "other").policies
        assert other.policy.name == "tools"


def test_a_process_keeps_the_policies_of_so_many_tenants(
    main: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "MAX_KEPT", 1)
    first = held(main)
    assert held(main) is first
    held(main, "other")
    assert held(main) is not first


def test_changes_at_the_same_time_come_one_after_the_other(main: Platform) -> None:
    documents = [SPENDING.replace("10\u2009000", str(limit)) for limit in range(1, 9)]
    gate = threading.Barrier(len(documents))

    def change(document: str) -> None:
        gate.wait()
        apply(main, document)

    threads = [threading.Thread(target=change, args=[each]) for each in documents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = policies.versions(main, TENANT, "spending")
    assert [each.version for each in found] == list(range(8, 0, -1))
    assert [each.active for each in found] == [True] + [False] * 7
    assert {each.document for each in found} == set(documents)
    assert (number(main), len(acts(main))) == (8, 8)


def test_a_policy_is_held_against_what_the_tenant_has(main: Platform) -> None:
    platforms.register(main, "noop")
    platforms.publish(main, dict(platforms.LINE))
    found = policies.linted(
        main,
        TENANT,
        "policy: p\napplies_to: {workflows: [lin, 'l*']}\nrules: [{tool: serch, action: deny}]",
    )
    assert [(each.path, each.message, each.remedy) for each in found.warnings] == [
        ("applies_to.workflows", "there is no workflow 'lin'", "did you mean line?"),
        ("rules[0].tool", "there is no tool 'serch'", "it will be for a tool that is added later"),
    ]
    assert policies.apply(main, TENANT, SPENDING, by="ada").warnings == ()


def test_a_policy_is_tried_on_a_run_as_it_was_recorded(main: Platform, settings: Settings) -> None:
    platforms.register(main, "noop")
    run = platforms.submit(main, platforms.publish(main, dict(platforms.LINE)))
    with platforms.platform(settings, DatabaseRole.WORKER) as built:
        worker = replace(built, broker=Sent(app=built.broker.app))
        for key, tokens in (("a#1", 6_000), ("b#1", 4_001)):
            lease = platforms.take(worker, run, key)
            done = Succeeded(result={"note": f"{key}: 123-45-6789"}, usage={"tokens_used": tokens})
            platforms.finish(main, worker, lease, done)
    assert platforms.status(main, run) == "completed"
    tried = policies.try_out(
        main,
        TENANT,
        SPENDING
        + "  - steps > 1 → warn\n"
        + r"  - {name: ssn, content: {matches: 'b#1: \d{3}-\d{2}-\d{4}', in: [result]}, action: deny}",
        run=run.run,
    )
    assert [
        (each.facts.moment, each.facts.step, [verdict.rule for verdict in each.verdicts])
        for each in tried
    ] == [
        ("start", "a#1", []),
        ("report", "a#1", []),
        ("start", "b#1", []),
        (
            "report",
            "b#1",
            ["sum(tokens_used) > 10 000 → abort_lifetime", "steps > 1 → warn", "ssn"],
        ),
    ]
    assert tried[-1].decides is not None
    assert tried[-1].decides.observed == 10_001
    assert (number(main), platforms.status(main, run)) == (0, "completed")


def test_plug_ins_are_those_that_are_installed(main: Platform) -> None:
    assert plugins.GROUP == "celeriac.policies"
    assert "rego" in policies.installed()
    pytest.importorskip("regopy", reason="make rego installs it")
    document = 'policy: p\nplugins:\n  - use: rego\n    with: {source: "package celeriac\\n%s"}'
    found = policies.linted(main, TENANT, document % "decision := {")
    assert [(each.path, each.message) for each in found.problems] == [
        (
            "plugins[0].use",
            "the policy plug-in rego cannot be set up: RegoError: this is unclosed (line 3, column 10)",
        )
    ]
    apply(main, document % "decision := 'DENY' if input.action.tool == 'x'".replace("'", '\\"'))
    (verdict,) = judge.judge(held(main), Facts(moment="call", tool="x"), {}).verdicts
    assert (verdict.rule, verdict.action) == ("rego", "reject_execution")
