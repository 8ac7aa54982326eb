"""Nodes that fill in a text, and services that code reaches only as far as it was granted."""

from __future__ import annotations

import pytest

from engine.platform import DatabaseRole
from engine.runs import capabilities, catalogue, views
from tests.support import platforms
from tests.support.hands import carry_out
from tests.support.platforms import TENANT, chain, publish, register, submit


def filled_in(main, worker, node, **inputs):
    document = {**chain(a={"kind": "template", "save": {"text": "$result"}, **node})}
    document["inputs"] = {name: {} for name in inputs}
    run = submit(main, publish(main, document), **inputs)
    return run, carry_out(main, worker, run)


def test_a_template_is_filled_in_with_what_it_is_given(main, worker):
    node = {"template": "Dear {{ who|title }},", "with": {"who": "$name + ' lovelace'"}}
    _, done = filled_in(main, worker, node, name="ada")
    assert done.variables["text"] == "Dear Ada Lovelace,"


def test_a_template_without_names_sees_all_variables(main, worker):
    text = "{% for item in items %}- {{ item }}\n{% endfor %}"
    _, done = filled_in(main, worker, {"template": text}, items=["a", "b"])
    assert done.variables["text"].split() == ["-", "a", "-", "b"]


def test_a_template_may_be_worked_out(main, worker):
    _, done = filled_in(main, worker, {"template": "$letter", "with": {}}, letter="{{ 6 * 7 }}")
    assert done.variables["text"] == "42"


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"template": "a\n{{ missing }}", "with": {}}, "line 2"),
        ({"template": "{% if %}", "with": {}}, "line 1"),
        ({"template": "{{ ''.__class__.__mro__ }}", "with": {}}, "unsafe"),
        ({"template": "$n", "with": {}}, "a text is filled in, and this is none"),
        ({"template": "$letters[3]", "with": {}}, "node a"),
    ],
)
def test_a_template_that_cannot_be_filled_in_says_where_and_why(main, worker, node, said):
    run, done = filled_in(main, worker, node, n=1, letters=[])
    assert done.status == "failed"
    assert said in (done.message or ""), done.message
    assert len(views.attempts(main, run)) == 1


# --- what code may reach ----------------------------------------------------------------------

ASKING = """
def f(state):
    try:
        return {"got": invoke("site", url=state["url"])}
    except ToolError as error:
        return {"why": error.reason, "said": str(error)}
"""


def asked(main, worker, url):
    run = submit(main, publish(main, {**chain(a={"uses": "f"}), "inputs": {"url": {}}}), url=url)
    return run, carry_out(main, worker, run).variables


@pytest.fixture
def site(main):
    register(main, "f", ASKING)
    config = {"hosts": ["https://a.example", "https://b.example:8443"]}
    catalogue.register_service(main, TENANT, "site", "http", config, by="ada")


@pytest.fixture
def grant(settings):
    """As the API, which alone may grant."""
    with platforms.platform(settings, DatabaseRole.API) as built:
        yield lambda profile: granted(built.of(TENANT), profile)


def granted(main, profile):
    subject = capabilities.Subject(kind="function", name="f", version=None)
    capabilities.grant(main, TENANT, subject, profile, by="root", why="it needs it")


def test_code_reaches_no_service_that_it_was_not_granted(main, worker, site):
    run, found = asked(main, worker, "https://a.example/")
    assert found["why"] == "not_granted"
    assert "services: [site]" in found["said"]
    assert views.calls(main, run) == ()


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://b.example:8443/x", "https://b.example:8443"),
        ("https://a.example:8443/", "https://a.example:8443"),
        ("http://a.example/", "http://a.example:80"),
    ],
)
def test_code_reaches_no_host_port_or_protocol_that_it_was_not_granted(
    main, worker, grant, url, host
):
    grant({"services": ["site"], "hosts": ["https://a.example"]})
    _, found = asked(main, worker, url)
    assert (found["why"], f"{host} is not granted" in found["said"]) == ("not_granted", True)


def test_code_reaches_what_it_was_granted(main, worker, site, grant):
    grant({"services": ["site"], "hosts": ["https://a.example"]})
    run, found = asked(main, worker, "https://a.example/")
    # It is asked for, and there is no such host.
    assert (found["why"], len(views.calls(main, run))) == ("unreachable", 1)


def test_code_writes_no_database_that_it_may_only_read(main, worker, grant):
    source = ASKING.replace('"site", url=state["url"]', '"books", statement="DELETE FROM book"')
    register(main, "f", source)
    config = {"url": "postgresql://u@db.example/books", "write": True}
    catalogue.register_service(main, TENANT, "books", "sql", config, by="ada")
    grant({"services": ["books"], "databases": {"books": "read"}})
    _, found = asked(main, worker, "")
    assert found["why"] == "not_granted"
    assert "books is granted to be read alone" in found["said"]
