"""Asking a model over HTTP, as every server does that is compatible with OpenAI's."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Seconds that one answer may take.
SECONDS = 120
#: Of what a server says when it refuses.
_SHOWN = 500

_FENCED = re.compile(r"```[A-Za-z0-9_+-]*[ \t]*\n(.*?)```", re.DOTALL)


class ModelError(Exception):
    """The model could not be asked, or its answer could not be used. Asking again may help."""


def asked(state: Mapping[str, Any], *, system: str, prompt: str) -> dict[str, Any]:
    """What a model answers, with what it cost: `text`, `model`, `tokens_used`.

    Raises `ModelError`.
    """
    body = {
        "model": state["model"],
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": prompt},
        ],
        "temperature": 0,
    }
    answer = _posted(f"{state['base_url'].rstrip('/')}/chat/completions", body, _headers(state))
    try:
        text = answer["choices"][0]["message"]["content"]
    except (LookupError, TypeError) as error:
        raise ModelError(f"the answer has no message: {json.dumps(answer)[:_SHOWN]}") from error
    if not isinstance(text, str) or not text.strip():
        raise ModelError("the model said nothing")
    usage = answer.get("usage") or {}
    return {
        "text": text,
        "model": answer.get("model", state["model"]),
        "tokens_used": usage.get("total_tokens", 0),
    }


def embedded(state: Mapping[str, Any], texts: Sequence[str]) -> tuple[list[list[float]], int]:
    """What a model of embeddings makes of texts, a vector of each; and the tokens that it took.

    Raises `ModelError`.
    """
    body = {"model": state["embedding_model"], "input": [*texts]}
    answer = _posted(f"{state['base_url'].rstrip('/')}/embeddings", body, _headers(state))
    try:
        found = {each["index"]: [*map(float, each["embedding"])] for each in answer["data"]}
        vectors = [found[place] for place in range(len(texts))]
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError(f"these are no embeddings: {json.dumps(answer)[:_SHOWN]}") from error
    if len({len(vector) for vector in vectors}) != 1:
        raise ModelError("the embeddings are not all of one length")
    return vectors, (answer.get("usage") or {}).get("total_tokens", 0)


def code_in(text: str) -> str:
    """The program in an answer: what its fences hold, or else all of it."""
    blocks: list[str] = _FENCED.findall(text)
    return "\n".join(block.strip("\n") for block in blocks) if blocks else text.strip()


def object_in(text: str, *fields: str) -> dict[str, Any]:
    """The JSON object in an answer, which has these fields. Raises `ModelError`."""
    try:
        found = json.loads(code_in(text))
    except ValueError as error:
        raise ModelError(f"the model did not answer in JSON: {text[:_SHOWN]!r}") from error
    missing = [name for name in fields if not isinstance(found, dict) or name not in found]
    if missing:
        raise ModelError(f"the model's answer has no {', '.join(missing)}: {text[:_SHOWN]!r}")
    assert isinstance(found, dict)
    return found


def _headers(state: Mapping[str, Any]) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if state.get("key_file"):
        key = Path(state["key_file"]).expanduser().read_text().strip()
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _posted(url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise ModelError(f"{url!r} is no address of a server; set base_url, as https://host/v1")
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=dict(headers))  # noqa: S310  # see above
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310  # see above
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        said = error.read(_SHOWN).decode(errors="replace")
        raise ModelError(f"{url} answered {error.code}: {said}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{url} could not be asked: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{url} did not answer with a JSON object")
    return found
