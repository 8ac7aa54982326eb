"""Language models behind an API that is compatible with OpenAI's: what is registered of one.

A configuration says where it is, how it is asked, and in `models` what each model costs. That table
is the list of the models that may be asked, too: of a model without a price nobody could say whether
a budget has room for it, so it is not asked. One that costs nothing has the price 0.

What a call will use is guessed from the sizes of what is sent and the most that may be answered
(`estimate`), so that budgets have room for it before it is made. What it did use is what the server
says (`spent`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from engine.core import values
from engine.core.section import Section, suggestion
from engine.core.values import Json
from engine.errors import Invalid
from engine.services import origins, settled

#: How often a call is tried, where the server is busy or away.
ATTEMPTS = 3
MAX_ATTEMPTS = 10
#: Seconds of a call, all its tries together; and until the first word of a try.
SECONDS = 120.0
FIRST_TOKEN_SECONDS = 60.0
MAX_SECONDS = 86_400.0
MAX_MODELS = 200
MAX_HEADERS = 20
MAX_PRICE = 1_000_000.0
MAX_TOKENS = 10_000_000
#: Tokens of an answer whose length nothing bounds, for the guess.
USUAL_ANSWER = 4096
#: Bytes of text that make one token, or more: a guess that errs upwards for most texts.
BYTES_PER_TOKEN = 3
#: Tokens that a message takes beside its text, and a picture beside its place.
MESSAGE_TOKENS = 4
PICTURE_TOKENS = 2000

#: What stands in a configuration where something secret belongs.
_REFERENCE = r"\$env\.[A-Za-z_][A-Za-z0-9_]{0,127}"
_MODEL = r"[^\x00-\x20\x7f]{1,200}"
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HEADER_TEXT = re.compile(r"[\x20-\x7e]{0,4000}")
#: What the platform itself says in a request.
_OURS = frozenset(
    (
        *("authorization", "content-type", "content-length", "accept", "accept-encoding"),
        *("host", "connection", "transfer-encoding", "idempotency-key"),
    )
)
_MILLION = Decimal(1_000_000)
_FIELDS = (
    *("url", "api_key", "model", "models", "attempts", "timeout", "first_token_timeout"),
    *("headers", "allow_private", "max_tokens_as"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model costs, in USD per million tokens, and how much it may answer."""

    prompt: Decimal
    completion: Decimal
    #: Of the part of a prompt that the server had at hand.
    cached: Decimal
    #: The most tokens of an answer; None where nobody says.
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """An API of language models."""

    #: Without what stands behind it, `/chat/completions`.
    url: str
    api_key: str | None
    #: The one that is asked where a call names none.
    model: str | None
    models: Mapping[str, Price]
    attempts: int
    timeout: float
    first_token_timeout: float
    headers: Mapping[str, str]
    #: The private places that it may be in.
    allow_private: tuple[str, ...]
    #: What the API calls the most tokens of an answer.
    max_tokens_as: str

    @property
    def effect(self) -> str:
        """A question may be asked again: that costs, and changes nothing."""
        return "idempotent"

    @property
    def parameters(self) -> Mapping[str, Json]:
        """The JSON Schema of the arguments of a call, which is what is recorded of it."""
        model: dict[str, Json] = {"type": "string", "enum": [*self.models]}
        if self.model is not None:
            model["default"] = self.model
        properties: dict[str, Json] = {"model": model, **_PROPERTIES}
        return {
            "type": "object",
            "properties": properties,
            "required": ["model", "messages"],
            "additionalProperties": False,
        }


_PROPERTIES: Mapping[str, Json] = {
    "messages": {
        "description": "What was said, oldest first.",
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "properties": {
                "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
                "content": {"type": ["string", "array", "null"]},
            },
            "required": ["role"],
        },
    },
    "tools": {
        "description": "The functions that the model may ask for, as models are told of them.",
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"type": {"const": "function"}, "function": {"type": "object"}},
            "required": ["type", "function"],
        },
    },
    "tool_choice": {"type": ["string", "object"]},
    "schema": {
        "description": "The JSON Schema of the answer, which is JSON then.",
        "type": "object",
    },
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "top_p": {"type": "number", "minimum": 0, "maximum": 1},
    "max_tokens": {"type": "integer", "minimum": 1, "maximum": MAX_TOKENS},
    "stop": {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}, "maxItems": 16},
        ]
    },
    "seed": {"type": "integer"},
    "stream": {"type": "boolean", "default": True},
}


# --- reading ----------------------------------------------------------------------------------


def read(config: Mapping[str, Any], *, path: str = "config", resolved: bool = False) -> Config:
    """Read what somebody registers; `resolved` where what is secret has been put in.

    Raises `Invalid` with every problem.
    """
    problems = list(values.problems(dict(config), path=path))
    if problems:
        raise Invalid(problems, "the service cannot be registered")
    section = Section(dict(config), path, problems)
    section.known(_FIELDS)
    models = _models(section)
    found = Config(
        url=_url(section),
        api_key=_api_key(section, resolved=resolved),
        model=_default_model(section, models),
        models=models,
        attempts=section.integer("attempts", 1, MAX_ATTEMPTS, ATTEMPTS),
        timeout=section.duration("timeout", 0.1, MAX_SECONDS) or SECONDS,
        first_token_timeout=section.duration("first_token_timeout", 0.1, MAX_SECONDS)
        or FIRST_TOKEN_SECONDS,
        headers=_headers(section, resolved=resolved),
        allow_private=settled.private(section),
        max_tokens_as=section.option("max_tokens_as", ("max_tokens", "max_completion_tokens"), ())
        or "max_tokens",
    )
    if problems:
        raise Invalid(problems, "the service cannot be registered")
    return found


def _url(section: Section) -> str:
    wanted = "the base of the API, such as https://api.example.com/v1"
    if "url" not in section.fields:
        section.fail("url", "the service has no url", f"write {wanted}")
        return ""
    given = section.text("url", r"https?://[^\x00-\x20\x7f]{1,2000}", wanted)
    if given is None:
        return ""
    try:
        origins.origin(given)
    except ValueError as error:
        section.fail("url", str(error), f"write {wanted}")
        return ""
    parts = urlsplit(given)
    if parts.query or parts.fragment:
        section.fail("url", "a query stands here", f"write {wanted}")
    if parts.path.rstrip("/").endswith("/chat/completions"):
        section.fail("url", "`/chat/completions` is put behind it", "leave that out")
    return given.rstrip("/")


def _api_key(section: Section, *, resolved: bool) -> str | None:
    if section.fields.get("api_key") is None:
        return None
    if resolved:
        return section.text("api_key", r"[\x21-\x7e]{1,4000}", "a key without spaces")
    # What stands in a configuration is shown to whoever may see the service.
    return section.text("api_key", _REFERENCE, "$env.NAME, and keep the key as the secret NAME")


def _headers(section: Section, *, resolved: bool) -> dict[str, str]:
    inner = section.section("headers")
    found: dict[str, str] = {}
    if len(inner.fields) > MAX_HEADERS:
        section.fail("headers", f"more than {MAX_HEADERS} headers", "send fewer")
    for name, value in inner.fields.items():
        if not _HEADER.fullmatch(name):
            inner.fail(name, "this is no name of a header", "use letters, digits and -")
        elif name.lower() in _OURS:
            inner.fail(name, "the platform itself says this", "leave it out")
        elif not isinstance(value, str) or not _HEADER_TEXT.fullmatch(value):
            inner.fail(name, "this is no value of a header", "write one line of ASCII text")
        elif (
            not resolved and settled.is_credential(name) and not settled.REFERENCE.fullmatch(value)
        ):
            message = "a secret is written out, for all who may see the service"
            inner.fail(name, message, settled.REMEDY)
        else:
            found[name] = value
    return found


def _models(section: Section) -> dict[str, Price]:
    inner = section.section("models")
    if not inner.fields:
        section.fail(
            "models",
            "the service has no models with their prices",
            "write models: {NAME: {input_usd_per_million: 0.5, output_usd_per_million: 1.5}}",
        )
    if len(inner.fields) > MAX_MODELS:
        section.fail("models", f"more than {MAX_MODELS} models", "register a second service")
    found: dict[str, Price] = {}
    for name in inner.fields:
        if not re.fullmatch(_MODEL, name):
            inner.fail(name, "this is no name of a model", "write it without spaces")
            continue
        found[name] = _price(inner.section(name))
    return found


def _price(section: Section) -> Price:
    section.known(
        (
            *("input_usd_per_million", "output_usd_per_million", "cached_input_usd_per_million"),
            "max_output",
        )
    )
    for name in ("input_usd_per_million", "output_usd_per_million"):
        if name not in section.fields:
            section.fail(name, "the price is missing", "write it; 0 where it costs nothing")

    def usd(name: str, usual: float) -> Decimal:
        return Decimal(str(section.number(name, 0, MAX_PRICE, usual)))

    prompt = usd("input_usd_per_million", 0)
    most = None
    if "max_output" in section.fields:
        most = section.integer("max_output", 1, MAX_TOKENS, USUAL_ANSWER)
    return Price(
        prompt=prompt,
        completion=usd("output_usd_per_million", 0),
        cached=usd("cached_input_usd_per_million", float(prompt)),
        most=most,
    )


def _default_model(section: Section, models: Mapping[str, Price]) -> str | None:
    if "model" not in section.fields:
        return next(iter(models)) if len(models) == 1 else None
    given = section.text("model", _MODEL, "the name of one of its models")
    if given is not None and models and given not in models:
        remedy = suggestion(given, models) or f"it has {', '.join(models)}"
        section.fail("model", f"{given!r} has no price in `models`", remedy)
    return given


# --- what is asked ----------------------------------------------------------------------------


def body(config: Config, arguments: Mapping[str, Json]) -> dict[str, Json]:
    """What is sent to the API for a call with these arguments."""
    kept = ("messages", "tools", "tool_choice", "temperature", "top_p", "stop", "seed")
    found: dict[str, Json] = {
        "model": _asked_model(config, arguments),
        **{name: arguments[name] for name in kept if arguments.get(name) is not None},
    }
    if not found.get("tools"):
        found.pop("tools", None)
        found.pop("tool_choice", None)
    if (most := _most(config, arguments)) is not None:
        found[config.max_tokens_as] = most
    if isinstance(schema := arguments.get("schema"), dict):
        answer: dict[str, Json] = {"name": "answer", "schema": schema, "strict": _is_strict(schema)}
        found["response_format"] = {"type": "json_schema", "json_schema": answer}
    if arguments.get("stream", True):
        found |= {"stream": True, "stream_options": {"include_usage": True}}
    return found


def _asked_model(config: Config, arguments: Mapping[str, Json]) -> str:
    return str(arguments.get("model") or config.model)


def _most(config: Config, arguments: Mapping[str, Json]) -> int | None:
    """The most tokens of an answer: what is asked for, and no more than the model may."""
    price = config.models.get(_asked_model(config, arguments))
    asked = arguments.get("max_tokens")
    bounds = (asked if isinstance(asked, int) else None, price.most if price else None)
    return min((bound for bound in bounds if bound is not None), default=None)


def _is_strict(schema: Json) -> bool:
    """Whether an API can hold a model to a schema as it writes: every object says all of itself."""
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or properties is not None:
        names = {*properties} if isinstance(properties, dict) else set()
        required = schema.get("required")
        if schema.get("additionalProperties") is not False or not isinstance(required, list):
            return False
        if {str(name) for name in required} != names:
            return False
    return all(map(_is_strict, schema.values()))


# --- what it costs ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """Tokens of one answer."""

    prompt: int
    completion: int
    #: As much of the prompt as the server had at hand.
    cached: int = 0
    #: What the server says that it comes to, if it says so.
    total: int | None = None
    #: The server did not say: it was guessed from the sizes.
    guessed: bool = False

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion if self.total is None else self.total


def used(usage: Json) -> Used | None:
    """What a server says that an answer used; None where it says nothing that could be so."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    total = _count(usage.get("total_tokens"))
    if prompt is None and completion is None and total is None:
        return None
    if prompt is None:
        prompt = max((total or 0) - (completion or 0), 0)
    if completion is None:
        completion = max((total or 0) - prompt, 0)
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return Used(prompt=prompt, completion=completion, cached=min(cached or 0, prompt), total=total)


def guessed(arguments: Mapping[str, Json], said: str) -> Used:
    """What an answer used of which the server did not say it."""
    return Used(
        prompt=prompt_tokens(arguments),
        completion=math.ceil(len(said.encode(errors="replace")) / BYTES_PER_TOKEN),
        guessed=True,
    )


def spent(config: Config, model: str, found: Used) -> dict[str, float]:
    """A usage as it is charged: by unit, dollars by the table of prices.

    `tokens_guessed` is as much of `tokens_used` as no server has told.
    """
    told: dict[str, float] = {
        "prompt_tokens": found.prompt,
        "completion_tokens": found.completion,
        "tokens_used": found.tokens,
        "cost_usd": float(cost(config, model, found)),
        "llm_calls": 1,
    }
    if found.cached:
        told["cached_tokens"] = found.cached
    if found.guessed:
        told["tokens_guessed"] = found.tokens
    return told


def cost(config: Config, model: str, found: Used) -> Decimal:
    """USD, exact. Raises `KeyError` for a model without a price."""
    price = config.models[model]
    fresh = found.prompt - found.cached
    whole = fresh * price.prompt + found.cached * price.cached + found.completion * price.completion
    return whole / _MILLION


def estimate(config: Config, arguments: Mapping[str, Json]) -> dict[str, float]:
    """What a call may use at the most, as far as sizes tell: `tokens_used`, `cost_usd`.

    A model without a price is refused when it is asked, and costs nothing here.
    """
    model = _asked_model(config, arguments)
    most = _most(config, arguments) or USUAL_ANSWER
    found = Used(prompt=prompt_tokens(arguments), completion=most, guessed=True)
    usd = float(cost(config, model, found)) if model in config.models else 0.0
    return {"tokens_used": float(found.tokens), "cost_usd": usd}


def prompt_tokens(arguments: Mapping[str, Json]) -> int:
    """Tokens of what is sent, guessed from its size."""
    messages = arguments.get("messages")
    listed = messages if isinstance(messages, list) else []
    tokens = sum(MESSAGE_TOKENS + _tokens(message) for message in listed)
    beside = [arguments[name] for name in ("tools", "schema") if arguments.get(name) is not None]
    return tokens + sum(_bytes(each) for each in beside)


def _tokens(message: Json) -> int:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(content, list):
        return _bytes(message)
    rest: dict[str, Json] = {name: each for name, each in message.items() if name != "content"}
    texts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
    # A picture is sent as a long text, and is not read as one.
    pictures = len(content) - len(texts)
    return _bytes(rest) + sum(map(_bytes, texts)) + pictures * PICTURE_TOKENS


def _bytes(value: Json) -> int:
    return math.ceil(values.size(value) / BYTES_PER_TOKEN)


def _count(value: Json) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 2**53:
        return None
    return value
