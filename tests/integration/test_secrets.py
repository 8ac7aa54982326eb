"""Secrets in attempts, with a real sandbox and database: who gets them, and what is left of them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from engine import keys
from engine.capabilities import subject
from engine.errors import Damaged, Invalid, NotFound, OutOfReach
from engine.keys import Key, Ring
from engine.platform import DatabaseRole, Platform
from engine.runs import capabilities, catalogue, secrets, views
from engine.settings import Settings
from tests.support import platforms
from tests.support.hands import carry_out
from tests.support.platforms import TENANT, as_owner, chain, publish, register, submit
from workers.execution import Worker

VALUE = "hunter2-correct-horse"
NODE: dict[str, Any] = {"uses": "f", "with": {"key": "$env.KEY"}, "save": {"said": "$result"}}


@pytest.fixture
def api(settings: Settings, main: Platform) -> Iterator[Platform]:
    """A platform as processes of the API have it, of the tenant that `main` has made."""
    assert main.settings == settings
    with platforms.platform(settings, DatabaseRole.API) as built:
        yield built.of(TENANT)


@pytest.fixture
def key(api: Platform) -> str:
    secrets.put(api, TENANT, "KEY", VALUE, by="ada")
    return VALUE


def grant(api: Platform, whom: str, **profile: Any) -> None:
    capabilities.grant(api, TENANT, subject(whom), profile, by="ada")


def run(main: Platform, worker: Worker, *, inputs: Any = None, **nodes: Any) -> Any:
    return carry_out(main, worker, submit(main, publish(main, chain(**nodes)), **(inputs or {})))


# --- not given ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "granted",
    [
        {},
        {"function:f": {"secrets": ["OTHER"]}},
        {"function:g": {"secrets": ["KEY"]}},
        # A version's own grant holds instead of that for all.
        {"function:f": {"secrets": ["KEY"]}, "function:f@1": {"seconds": 5}},
        # What runs a function reads what was granted to that.
        {"workflow:w": {"secrets": ["KEY"]}},
    ],
)
@pytest.mark.usefixtures("key")
def test_what_was_not_granted_fails_the_step_for_good(
    main: Platform, worker: Worker, api: Platform, granted: dict[str, Any]
) -> None:
    register(main, "f", "def f(state):\n    return 1")
    register(main, "g", "def g(state):\n    return 1")
    publish(main, chain(a={"uses": "f"}))
    for whom, profile in granted.items():
        grant(api, whom, **profile)
    ended = run(main, worker, a={**NODE, "retry": {"attempts": 3, "backoff": 0}})
    assert (ended.status, ended.reason) == ("failed", "not_granted")
    assert ended.message.startswith("node a: secret KEY is not granted to function:f@1")
    assert "celeriac capabilities grant function:f@1" in ended.message


def test_what_is_not_there_fails_the_step_for_good(
    main: Platform, worker: Worker, api: Platform, key: str
) -> None:
    register(main, "f", "def f(state):\n    return 1")
    grant(api, "function:f", secrets=["KEY", "GONE"])
    secrets.delete(api, TENANT, "KEY", by="ada")
    for name in ("KEY", "GONE"):
        ended = run(main, worker, a={**NODE, "with": {"key": f"$env.{name}"}})
        assert (ended.status, ended.reason) == ("failed", "no_such_secret")
        assert f"celeriac secrets put {name} -" in ended.message
    assert key not in ended.message


@pytest.mark.usefixtures("key")
def test_a_worker_without_the_key_loses_the_attempt_and_says_which(
    main: Platform, worker: Worker, api: Platform
) -> None:
    register(main, "f", "def f(state):\n    return 1")
    grant(api, "function:f", secrets=["KEY"])
    other = Ring(keys=(Key(id="other", secret=bytes(32)),), use=keys.SECRETS)
    settings = replace(worker.platform.settings, secret_keys=other)
    without = replace(worker, platform=replace(worker.platform, settings=settings))
    at = submit(main, publish(main, chain(a=NODE)))
    assert carry_out(main, without, at).status == "running"
    assert {attempt.reason for attempt in views.attempts(main, at)} == {"lost"}
    (message, *_) = (attempt.message for attempt in views.attempts(main, at))
    assert "a secret was sealed with the key 'vault'" in str(message)
    assert "CELERIAC_SECRET_KEYS" in str(message)


@pytest.mark.parametrize(
    "change",
    ["tenant_id = 'other'", "name = 'K2'", "version = 7", "ciphertext = '\\x00' || ciphertext"],
)
def test_what_was_sealed_opens_for_nothing_else(
    worker: Worker, api: Platform, settings: Settings, main: Platform, change: str
) -> None:
    """Whoever can write rows can move a secret to where it is granted; it does not open there."""
    secrets.put(api, TENANT, "KEY", VALUE, by="ada")
    as_owner(settings, "INSERT INTO tenant (id, name) VALUES ('other', 'Other')")
    as_owner(settings, f"UPDATE secret SET {change}")
    for tenant in (TENANT, "other"):
        as_owner(
            settings,
            "INSERT INTO capability (tenant_id, kind, name, version, profile, granted_by)"
            f" VALUES ('{tenant}', 'tool', 't', '', '{{\"secrets\": [\"KEY\", \"K2\"]}}', 'eve')",
        )
    tenant = "other" if "tenant" in change else TENANT
    name = "K2" if "name" in change else "KEY"
    with pytest.raises(Damaged, match="was changed where it is stored"):
        secrets.resolve(worker.platform, tenant, subject("tool:t@1"), name)


# --- given ----------------------------------------------------------------------------------------

LEAK = """
def f(state):
    key = state["key"]
    print(key, repr(key), json.dumps({"k": key}))
    print(base64.b64encode(("user:" + key).encode()).decode())
    state["kept"] = [key, {key: 1}]
    state.set("hex", key.encode().hex())
    return {"is": len(key), "key": key, "basic": base64.b64encode(key.encode()).decode()}
"""


@pytest.mark.parametrize("whom", ["function:f", "function:f@1"])
def test_who_was_granted_it_gets_it_and_leaves_nothing_of_it(
    main: Platform, worker: Worker, api: Platform, key: str, whom: str
) -> None:
    register(main, "f", LEAK)
    grant(api, whom, secrets=["KEY"])
    at = submit(main, publish(main, chain(a={"uses": "f", "with": NODE["with"]})))
    ended = carry_out(main, worker, at)
    assert ended.status == "completed", ended.message
    hidden = "[secret:KEY]"
    assert ended.variables["is"] == len(key)
    assert ended.variables["key"] == ended.variables["basic"] == ended.variables["hex"] == hidden
    assert ended.variables["kept"] == [hidden, {hidden: 1}]
    first, second = [line.text for line in views.logs(main, at)]
    assert first == f'{hidden} \'{hidden}\' {{"k": "{hidden}"}}'
    assert hidden in second
    assert base64.b64encode(key.encode()).decode()[4:-4] not in second


def test_what_is_not_sensitive_is_seen(main: Platform, worker: Worker, api: Platform) -> None:
    secrets.put(api, TENANT, "KEY", "m-1", by="ada", sensitive=False)
    register(main, "f", "def f(state):\n    return state['key']")
    grant(api, "function:f", secrets=["KEY"])
    assert run(main, worker, a=NODE).variables["said"] == "m-1"


def test_library_code_needs_a_grant_too(
    main: Platform, worker: Worker, api: Platform, key: str
) -> None:
    register(main, "f", library="tests.support.witness:tell")
    assert run(main, worker, a=NODE).reason == "not_granted"
    grant(api, "function:f", secrets=["KEY"])
    ended = run(main, worker, a=NODE)
    assert ended.variables["said"] == {"got": "[secret:KEY]", "length": len(key)}


def test_a_step_of_a_list_reads_it_in_its_params(
    main: Platform, worker: Worker, api: Platform, key: str
) -> None:
    register(main, "f", "def f(url):\n    return [url, len(url)]")
    grant(api, "function:f", secrets=["KEY"])
    params = {"url": "$('https://h/' + $env.KEY)"}
    step = {"agent": "f", "params": params, "output": ["got"]}
    at = submit(main, publish(main, {"workflow": "listed", "steps": [step]}))
    ended = carry_out(main, worker, at)
    assert ended.variables["got"] == ["https://h/[secret:KEY]", len(key) + 10]


def test_a_failure_does_not_tell_it(
    main: Platform, worker: Worker, api: Platform, key: str
) -> None:
    register(main, "f", "def f(state):\n    raise ValueError('bad ' + state['key'])")
    grant(api, "function:f", secrets=["KEY"])
    ended = run(main, worker, a=NODE)
    assert ended.status == "failed"
    assert "bad [secret:KEY]" in ended.message
    assert key not in ended.message


def test_a_new_value_holds_from_the_next_attempt(
    main: Platform, worker: Worker, api: Platform, key: str
) -> None:
    register(main, "f", "def f(state):\n    return len(state['key'])")
    grant(api, "function:f", secrets=["KEY"])
    assert run(main, worker, a=NODE).variables["said"] == len(key)
    secrets.put(api, TENANT, "KEY", "another", by="ada")
    assert run(main, worker, a=NODE).variables["said"] == len("another")
    capabilities.revoke(api, TENANT, subject("function:f"), by="ada")
    assert run(main, worker, a=NODE).reason == "not_granted"


def test_what_undoes_a_step_and_what_a_map_does_read_what_they_were_granted(
    main: Platform, worker: Worker, api: Platform, key: str
) -> None:
    register(main, "f", "def f(state):\n    return len(state['key'])")
    grant(api, "function:f", secrets=["KEY"])
    do = {"uses": "f", "with": {"key": "$env.KEY", "i": "$item"}}
    mapped = {"kind": "map", "over": [1, 2], "do": do, "save": {"all": "$result"}}
    assert run(main, worker, a=mapped).variables["all"] == [len(key)] * 2


# --- calls ----------------------------------------------------------------------------------------

TOOL = "def send(key, to='x'):\n    print('key', key)\n    return {'sent': len(key), 'echo': key}"
CALL: dict[str, Any] = {
    "kind": "tool",
    "tool": "send",
    "with": {"key": "$env.KEY", "to": "$env.KEY"},
    "save": {"said": "$result"},
}


def calls_of(main: Platform, at: Any) -> list[Any]:
    return [*views.calls(main, at)]


def test_a_tool_gets_it_and_what_is_recorded_of_the_call_does_not_tell_it(
    main: Platform, worker: Worker, api: Platform, key: str
) -> None:
    register(main, "send", TOOL, namespace="tool")
    grant(api, "tool:send@1", secrets=["KEY"])
    at = submit(main, publish(main, chain(a=CALL)))
    ended = carry_out(main, worker, at)
    hidden = "[secret:KEY]"
    assert ended.variables["said"] == {"sent": len(key), "echo": hidden}, ended.message
    (call,) = calls_of(main, at)
    assert call.arguments == {"args": [], "kwargs": {"key": hidden, "to": hidden}}
    assert call.value == {"sent": len(key), "echo": hidden}
    assert [line.text for line in views.logs(main, at)] == [f"key {hidden}"]


def test_a_tool_whose_name_is_worked_out_reads_what_that_one_was_granted(
    main: Platform, worker: Worker, api: Platform, key: str
) -> None:
    register(main, "send", TOOL, namespace="tool")
    register(main, "look", TOOL.replace("send", "look"), namespace="tool")
    grant(api, "tool:send", secrets=["KEY"])
    node = {**CALL, "tool": "$which"}
    assert run(main, worker, inputs={"which": "send"}, a=node).variables["said"]["sent"] == len(key)
    assert run(main, worker, inputs={"which": "look"}, a=node).reason == "not_granted"
    assert run(main, worker, inputs={"which": "nope"}, a=node).reason == "no_such_tool"


def test_code_hands_it_on_to_a_tool_and_gets_no_more_than_its_mark_back(
    main: Platform, worker: Worker, api: Platform, key: str
) -> None:
    register(main, "send", TOOL, namespace="tool")
    register(
        main,
        "f",
        "def f(state):\n"
        "    first = invoke('send', state['key'], to='[secret:KEY]')\n"
        "    return [first, invoke('send', '[secret:KEY]')['sent']]",
    )
    grant(api, "function:f", secrets=["KEY"])
    at = submit(main, publish(main, chain(a=NODE)))
    said = carry_out(main, worker, at).variables["said"]
    # A mark that code writes itself is a text like any other.
    assert said == [{"sent": len(key), "echo": "[secret:KEY]"}, len("[secret:KEY]")]
    assert key not in str(calls_of(main, at))


@pytest.mark.usefixtures("key")
def test_people_are_shown_the_mark_and_the_value_is_what_is_sent(
    main: Platform, worker: Worker, api: Platform
) -> None:
    register(main, "send", TOOL, namespace="tool", requires_approval=True)
    grant(api, "tool:send", secrets=["KEY"])
    at = submit(main, publish(main, chain(a=CALL)))
    carry_out(main, worker, at)
    (wait,) = platforms.sql(main, "SELECT * FROM question")
    assert wait.asks["arguments"] == {"key": "[secret:KEY]", "to": "[secret:KEY]"}


# --- limits ---------------------------------------------------------------------------------------


def test_code_runs_within_the_limits_that_were_granted_to_it(
    main: Platform, worker: Worker, api: Platform
) -> None:
    register(main, "f", "def f(state):\n    time.sleep(30)")
    grant(api, "function:f", seconds=0.3)
    for node in ({"uses": "f"}, {"uses": "f", "timeout": 20}):
        ended = run(main, worker, a=node)
        assert (ended.status, ended.reason) == ("failed", "timeout")
        assert "longer than its 0.3 s" in ended.message
    register(main, "f", "def f(state):\n    state['x'] = 'x' * 100_000_000\n    del state['x']")
    grant(api, "function:f@2", memory_bytes=32 * 1024 * 1024)
    assert run(main, worker, a={"uses": "f"}).reason == "memory"
    grant(api, "function:f@2", memory_bytes=1024 * 1024 * 1024)
    assert run(main, worker, a={"uses": "f"}).status == "completed"


def test_modules_are_found_by_whom_they_were_granted_to(
    main: Platform, worker: Worker, api: Platform
) -> None:
    """S2-08."""
    register(main, "f", "def f(state):\n    return bisect.bisect([1, 3], 2)")
    register(main, "t", "def t():\n    return bisect.bisect([1, 3], 2)", namespace="tool")
    tool = {"kind": "tool", "tool": "t", "save": {"said": "$result"}}
    for node, whom in (
        ({"uses": "f", "save": {"said": "$result"}}, "function:f"),
        (tool, "tool:t"),
    ):
        denied = run(main, worker, a=node)
        assert denied.status == "failed"
        assert "bisect" in denied.message
        grant(api, whom, modules=["bisect"])
        assert run(main, worker, a=node).variables["said"] == 1


# --- putting --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "sensitive", "path"),
    [
        ("A-B", "long enough", True, "name"),
        ("A", "short", True, "value"),
        ("A", "", False, "value"),
        ("A", "x" * 65_537, True, "value"),
        ("A", "a\0bcdefg", True, "value"),
        ("A", "\ud800bcdefg", True, "value"),
        ("A", "secret", True, "value"),
    ],
)
def test_what_cannot_be_kept_is_refused_without_being_repeated(
    api: Platform, name: str, value: str, sensitive: bool, path: str
) -> None:
    with pytest.raises(Invalid) as raised:
        secrets.put(api, TENANT, name, value, by="ada", sensitive=sensitive)
    (problem,) = raised.value.problems
    assert problem.path == path
    assert problem.remedy
    assert not value or value not in str(raised.value).replace("secret cannot", "")
    assert secrets.page(api, TENANT, limit=9) == ()


def test_versions_tell_who_and_when_and_only_the_newest_is_whole(api: Platform) -> None:
    secrets.put(api, TENANT, "A", "first value", by="ada")
    secrets.put(api, TENANT, "A", "second value", by="bob")
    newest, oldest = secrets.versions(api, TENANT, "A")
    assert (newest.version, newest.created_by, newest.key_id) == (2, "bob", "vault")
    assert (oldest.version, oldest.created_by, oldest.key_id) == (1, "ada", None)
    assert [one.version for one in secrets.page(api, TENANT, limit=9)] == [2]
    secrets.delete(api, TENANT, "A", by="ada")
    assert secrets.page(api, TENANT, limit=9) == ()
    with pytest.raises(NotFound):
        secrets.delete(api, TENANT, "A", by="ada")
    assert secrets.put(api, TENANT, "A", "third value", by="ada").version == 3


def test_a_ring_turns_and_the_old_key_can_go(worker: Worker, api: Platform, main: Platform) -> None:
    register(main, "f")
    grant(api, "function:f", secrets=[f"S{n}" for n in range(3)])
    for number in range(3):
        secrets.put(api, TENANT, f"S{number}", f"value {number}", by="ada")
    old = api.settings.secret_keys.keys
    new = Key(id="new", secret=bytes(range(64, 96)))

    def under(platform: Platform, *given: Key) -> Platform:
        ring = Ring(keys=given, use=keys.SECRETS)
        return replace(platform, settings=replace(platform.settings, secret_keys=ring))

    with pytest.raises(OutOfReach, match="'vault', which CELERIAC_SECRET_KEYS does not hold"):
        secrets.rotate(under(api, new), TENANT, by="ada")
    both = under(api, new, *old)
    secrets.put(both, TENANT, "S0", "value 0 anew", by="ada")
    assert secrets.rotate(both, TENANT, by="ada") == 2
    assert secrets.rotate(both, TENANT, by="ada") == 0
    assert {one.key_id for one in secrets.page(api, TENANT, limit=9)} == {"new"}
    alone, whose = under(worker.platform, new), subject("function:f@1")
    found = [secrets.resolve(alone, TENANT, whose, f"S{n}").value for n in range(3)]
    assert found == ["value 0 anew", "value 1", "value 2"]


def test_what_is_granted_to_nobody_is_refused(api: Platform, main: Platform) -> None:
    register(main, "f")
    catalogue_version = publish(main, chain(a={"uses": "f"}))
    assert catalogue.version(main, TENANT, catalogue_version)
    for whom in (
        "function:g",
        "function:f@2",
        "function:f@1.0",
        "tool:f",
        "workflow:x",
        "workflow:w@9.9.9",
    ):
        with pytest.raises(NotFound):
            grant(api, whom)
    with pytest.raises(Invalid, match="never allowed"):
        grant(api, "function:f", modules=["os"])
    grant(api, "workflow:w", secrets=["A"])
    assert capabilities.show(api, TENANT, subject("workflow:w@1.0.0")).subject.text == "workflow:w"
    with pytest.raises(NotFound):
        capabilities.revoke(api, TENANT, subject("workflow:w@1.0.0"), by="ada")


@pytest.mark.usefixtures("key")
def test_what_was_granted_to_a_service_is_for_its_configuration_alone(
    main: Platform, worker: Worker, api: Platform
) -> None:
    config = {"hosts": ["https://a.example"], "auth": {"bearer": "$env.KEY"}}
    catalogue.register_service(main, TENANT, "crm", "http", config, by="ada")
    grant(api, "tool:crm@1", secrets=["KEY"])
    node = {"kind": "http", "service": "crm", "url": "https://a.example/", "dry_run": True}
    done = run(main, worker, a={**node, "json": {"u": "$env.KEY"}})
    assert (done.status, done.reason) == ("failed", "not_granted")
    assert "workflow" in (done.message or "")
    assert run(main, worker, a=node).status == "completed"
