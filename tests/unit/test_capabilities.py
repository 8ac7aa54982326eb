"""Profiles: how they are read, and what they allow. Whatever they do not name is denied."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import capabilities
from engine.capabilities import NOTHING, File, Host, Profile, Subject
from engine.errors import Invalid
from workers.sandbox import FURTHER_MODULES

WHOLE: dict[str, Any] = {
    "files": [{"path": "/srv/models", "write": False}, {"path": "/srv/out", "write": True}],
    "hosts": ["https://api.example.com:443", "http://*.corp.example:8080"],
    "databases": {"warehouse": "read", "ledger": "write"},
    "services": ["crm.*", "mail"],
    "modules": ["csv", "urllib.parse"],
    "memory_bytes": 536870912,
    "cpu_seconds": 5.0,
    "seconds": 30.0,
    "secrets": ["API_KEY"],
}


def problems(given: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as raised:
        capabilities.read(given)
    assert all(problem.remedy for problem in raised.value.problems)
    return {problem.path: problem.message for problem in raised.value.problems}


# --- reading --------------------------------------------------------------------------------------


def test_every_problem_is_told_with_its_place() -> None:
    found = problems(
        {
            "files": [
                "relative",
                {"path": "/a/../b"},
                {"path": "/"},
                {"path": "/a", "write": 1},
                3,
            ],
            "hosts": [
                *("api.example.com", "ftp://example.com", "https://example.com/path", "http://*"),
                *("http://*.com", "http://a b", "http://u@h", "http://x:0", "http://x:99999"),
                *("http://käse.example", "http://*.10.0.0.1", 7),
            ],
            "databases": {"a.*": "read", "b": "own"},
            "services": ["*", "a*", ""],
            "modules": ["numpy", "9", "os"],
            "memory_bytes": 1,
            "cpu_seconds": 0,
            "seconds": True,
            "secrets": ["API-KEY", ""],
            "secret": [],
        }
    )
    assert found.keys() == {
        *(f"files[{n}]" for n in range(5)),
        *(f"hosts[{n}]" for n in range(12)),
        *("databases.a.*", "databases.b"),
        *(f"services[{n}]" for n in range(3)),
        *(f"modules[{n}]" for n in range(3)),
        *("memory_bytes", "cpu_seconds", "seconds", "secrets[0]", "secrets[1]", "secret"),
    }


@pytest.mark.parametrize(
    "given",
    [
        *({"files": "x"}, {"hosts": {}}, {"databases": []}, {"services": ["a"] * 201}),
        *({"databases": {f"d{n}": "read" for n in range(201)}}, {"seconds": float("inf")}),
    ],
)
def test_what_has_another_form_is_refused(given: Any) -> None:
    assert len(problems(given)) == 1


@pytest.mark.parametrize("given", [None, [], "x", 3])
def test_what_is_no_object_is_no_profile(given: Any) -> None:
    assert "" in problems(given)


@pytest.mark.parametrize(
    "name",
    [
        *("os", "sys", "subprocess", "socket", "ctypes", "importlib", "importlib.util", "os.path"),
        *(
            "builtins",
            "posix",
            "multiprocessing.pool",
            "gc",
            "pickle",
            "signal",
            "ssl",
        ),
        *("urllib.request", "http.client", "_thread", "_socket", "collections._x", "inspect"),
    ],
)
def test_what_leads_out_is_never_granted(name: str) -> None:
    found = problems({"modules": [name]})
    assert found.keys() == {"modules[0]"}


def test_what_may_be_granted_is_what_the_sandbox_can_give() -> None:
    assert capabilities.GRANTABLE == FURTHER_MODULES


@pytest.mark.parametrize("name", ["json", "csv", "zlib", "urllib.parse", "xml.etree.ElementTree"])
def test_harmless_modules_are_granted(name: str) -> None:
    assert capabilities.read({"modules": [name]}).modules == (name,)


def test_a_profile_is_told_as_it_is_read() -> None:
    found = capabilities.read(WHOLE)
    assert found.told() == WHOLE
    assert capabilities.read(found.told()) == found
    assert found.files == (File(path="/srv/models"), File(path="/srv/out", write=True))


def test_what_is_left_out_is_nothing() -> None:
    assert capabilities.read({}) == NOTHING == Profile()
    assert NOTHING.told() == {}
    assert [*capabilities.entries(NOTHING)] == []


def test_entries_that_are_the_same_are_one() -> None:
    found = capabilities.read(
        {"hosts": ["https://A.example.com", "https://a.example.com.:443/"], "files": ["/a", "/a/"]}
    )
    assert found.hosts == (Host(scheme="https", host="a.example.com", port=443),)
    assert found.files == (File(path="/a"),)


def test_it_is_shown_line_by_line() -> None:
    assert [*capabilities.entries(capabilities.read(WHOLE))] == [
        "files: /srv/models (read), /srv/out (write)",
        "hosts: https://api.example.com:443, http://*.corp.example:8080",
        "databases: warehouse (read), ledger (write)",
        "services: crm.*, mail",
        "modules: csv, urllib.parse",
        "memory_bytes: 536870912",
        "cpu_seconds: 5.0",
        "seconds: 30.0",
        "secrets: API_KEY",
    ]


# --- hosts ----------------------------------------------------------------------------------------

PROFILE = capabilities.read(
    {**WHOLE, "hosts": [*WHOLE["hosts"], "http://10.0.0.1", "http://[::1]:81"]}
)


@pytest.mark.parametrize(
    ("scheme", "host", "port"),
    [
        ("https", "api.example.com", 443),
        ("https", "api.example.com", None),
        ("HTTPS", "API.Example.com.", None),
        ("http", "a.corp.example", 8080),
        ("http", "a.b.corp.example", 8080),
        ("http", "10.0.0.1", 80),
        ("http", "0:0:0:0:0:0:0:1", 81),
        ("http", "[::1]", 81),
    ],
)
def test_what_a_rule_names_may_be_asked(scheme: str, host: str, port: int | None) -> None:
    assert capabilities.allows_host(PROFILE, scheme, host, port)


@pytest.mark.parametrize(
    ("scheme", "host", "port"),
    [
        ("http", "api.example.com", None),  # another protocol
        ("http", "api.example.com", 443),
        ("ftp", "api.example.com", 443),
        ("https", "api.example.com", 8443),  # another port
        ("https", "api.example.com", 0),
        ("https", "example.com", 443),  # another host
        ("https", "x.api.example.com", 443),
        ("https", "api.example.com.evil", 443),
        ("http", "corp.example", 8080),  # not below itself
        ("http", "evilcorp.example", 8080),
        ("http", ".corp.example", 8080),
        ("http", "a.corp.example", 80),
        ("http", "10.0.0.2", 80),
        ("http", "::2", 81),
        ("http", "", 80),
    ],
)
def test_what_no_rule_names_may_not(scheme: str, host: str, port: int | None) -> None:
    assert not capabilities.allows_host(PROFILE, scheme, host, port)


@given(
    scheme=st.sampled_from(["http", "https", "ftp"]),
    host=st.text("ab.*-", max_size=8),
    port=st.one_of(st.none(), st.integers(0, 70_000)),
    name=st.text("ab.*", max_size=4),
)
def test_the_empty_profile_allows_nothing(
    scheme: str, host: str, port: int | None, name: str
) -> None:
    assert not capabilities.allows_host(NOTHING, scheme, host, port)
    assert not capabilities.allows_service(NOTHING, name)
    assert not capabilities.allows_database(NOTHING, name)
    for kind in ("http", "sql", "llm", "mcp"):
        assert capabilities.refusal(NOTHING, kind, name, {"url": f"{scheme}://{host}"})


# --- calls of services ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "may"),
    [("mail", True), ("crm.find", True), ("crm", False), ("crmx", False), ("", False)],
)
def test_services_are_named_or_begin_so(name: str, may: bool) -> None:
    assert capabilities.allows_service(PROFILE, name) is may


@pytest.mark.parametrize(
    ("kind", "name", "arguments", "said"),
    [
        ("llm", "gpt", {}, "service gpt is not granted"),
        ("http", "mail", {"url": "https://evil.example/x"}, r"https://evil.example:443 is not"),
        ("http", "mail", {"url": "https://api.example.com:8443/"}, "8443 is not granted"),
        ("http", "mail", {"url": "ftp://api.example.com/"}, "no address"),
        ("http", "mail", {"url": "http://[::1"}, "no address"),
        ("http", "mail", {"url": "https://api.example.com:x/"}, "no address"),
        ("http", "mail", {}, "no address"),
        ("sql", "mail", {}, "database mail is not granted"),
        ("sql", "mail", {"database": "warehouse", "write": True}, "to be read alone"),
    ],
)
def test_a_call_beyond_the_profile_is_refused_with_what_would_allow_it(
    kind: str, name: str, arguments: dict[str, Any], said: str
) -> None:
    refused = capabilities.refusal(PROFILE, kind, name, arguments)
    assert refused is not None
    assert said in refused
    assert ("grants it with" in refused) or ("use http" in refused)


@pytest.mark.parametrize(
    ("kind", "name", "arguments"),
    [
        ("llm", "mail", {}),
        ("mcp", "crm.find", {"url": "ftp://x"}),
        ("http", "mail", {"url": "https://api.example.com/v1?q=1"}),
        ("http", "mail", {"url": "http://x.corp.example:8080"}),
        ("sql", "mail", {"database": "warehouse"}),
        ("sql", "mail", {"database": "ledger", "write": True}),
        ("sql", "mail", {"database": "ledger"}),
    ],
)
def test_a_call_within_the_profile_is_made(kind: str, name: str, arguments: dict[str, Any]) -> None:
    assert capabilities.refusal(PROFILE, kind, name, arguments) is None


# --- whose ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "f", "agent:f", "function:", "function:f@", "function:f@x@3"])
def test_what_names_nobody_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="neither a function"):
        capabilities.subject(text)


@pytest.mark.parametrize("text", ["function:f@3", "tool:crm.find", "workflow:Pay all@1.2.0-rc.1"])
def test_a_subject_is_told_as_it_is_read(text: str) -> None:
    assert capabilities.subject(text).text == text
    assert capabilities.subject("tool:t@3") == Subject(kind="tool", name="t", version="3")
