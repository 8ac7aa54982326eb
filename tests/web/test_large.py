"""Large values over HTTP: whole where they are named, and by their sha256."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from engine.core.values import INLINE_BYTES
from engine.runs import attempts
from engine.runs.attempts import Succeeded
from engine.store.ids import RunId
from tests.support.platforms import LINE, finish, publish, register, submit, take

RESULT = "x" * (INLINE_BYTES - 1)
TEXT = "y" * 300_000


@pytest.fixture
def run(control, worker):
    """A run with an input and a result that are large."""
    register(control, "noop")
    run = submit(control, publish(control, LINE), text=TEXT)
    lease = take(worker, run, "a#1")
    outcome = attempts.moved_out(worker, lease, Succeeded(result=RESULT, patch={"n": 1}))
    assert finish(control, worker, lease, outcome)
    return run.run


def output(api, run):
    return api.get(f"/api/v1/runs/{run}/steps/a%231/output").json


def test_a_blob_that_is_none_is_not_found(api, run):
    for sha256 in ("ab" * 32, "AB" * 32, "x", "%00", "ab" * 33, "..%2f" + "ab" * 32):
        answer = api.get(f"/api/v1/blobs/{sha256}")
        assert answer.status_code in (404, 422), sha256
        assert answer.content_type == "application/problem+json"


def test_a_blob_of_another_tenant_is_not_found(api, stranger, run):
    uri = output(api, run)["uri"]
    assert stranger.get(uri).status_code == 404
    assert api.client.get(uri).status_code == 401


def test_a_blob_that_cannot_be_read_is_an_error_and_no_half_answer(api, run, local_settings):
    folder = Path(unquote(urlsplit(local_settings.blob_url).path))
    (place,) = folder.rglob(output(api, run)["sha256"])
    sealed = place.read_bytes()
    place.write_bytes(sealed[:100])
    damaged = api.get(output(api, run)["uri"])
    assert damaged.status_code == 500
    assert "cannot read blob" in damaged.json["detail"]
    place.unlink()
    missing = api.get(output(api, run)["uri"])
    assert missing.status_code == 503
    assert "no such object" in missing.json["detail"]
    assert api.get(f"/api/v1/runs/{run}").status_code == 200


def test_a_large_result_has_an_address_and_a_small_one_none(api, run):
    told = output(api, run)
    assert told == {
        "uri": f"/api/v1/blobs/{told['sha256']}",
        "size_bytes": INLINE_BYTES + 1,
        "sha256": told["sha256"],
    }
    answer = api.get(told["uri"])
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert answer.content_length == told["size_bytes"]
    assert hashlib.sha256(answer.data).hexdigest() == told["sha256"]
    assert answer.json == RESULT


def test_what_the_caller_has_is_not_sent_again(api, run):
    uri = output(api, run)["uri"]
    first = api.get(uri)
    again = api.get(uri, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    head = api.send("HEAD", uri)
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["ETag"] == first.headers["ETag"]


def test_results_and_variables_are_shown_whole(api, seed, run):
    result = api.get(f"/api/v1/runs/{run}/steps/a%231/result").json
    assert result == {"result": RESULT, "patch": {"n": 1}}
    assert api.get(f"/api/v1/runs/{run}").json["variables"] == {"text": TEXT, "n": 1}
    state = seed.get(f"/graph/state/{run}").json["current_state"]
    assert state["data"] == {"text": TEXT, "n": 1}
    assert state["execution_log"][0]["input"] == {"text": {"$omitted": len(TEXT) + 2}}


def test_a_small_result_is_described_inline(api, control, worker, run):
    lease = take(worker, RunId("local", run), "b#1")
    assert finish(control, worker, lease, Succeeded(result={"a": 1}))
    told = api.get(f"/api/v1/runs/{run}/steps/b%231/output").json
    assert told == {
        "inline": {"a": 1},
        "size_bytes": 7,
        "sha256": hashlib.sha256(b'{"a":1}').hexdigest(),
    }


@pytest.mark.parametrize("inputs", [{"$blob": "ab" * 32}, {"x": [{"$blob": "ab" * 32, "size": 3}]}])
def test_nobody_forges_a_reference(api, control, inputs):
    register(control, "noop")
    publish(control, LINE)
    answer = api.post("/api/v1/runs", json={"workflow": "line", "inputs": inputs})
    assert answer.status_code == 422
    assert "is ours" in answer.json["errors"][0]["message"]
    nodes = {**LINE["nodes"], "a": {"uses": "noop", "save": {"x": {"$blob": "ab" * 32}}}}
    document = {**LINE, "nodes": nodes}
    assert api.post("/api/v1/workflows", json=document).status_code == 422


def test_the_state_at_a_checkpoint_is_shown_whole(api, run):
    seq = api.get(f"/api/v1/runs/{run}/checkpoints").json["items"][0]["seq"]
    state = api.get(f"/api/v1/runs/{run}/checkpoints/{seq}").json["state"]
    assert state["variables"] == {"text": TEXT, "n": 1}
