"""What the Coding Agent asks a model for, and what it makes of the answers."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from . import model

#: Parts that a program is written in, side by side.
PARTS = 2

_PLANNER = f"""\
You plan small Python programs. You are given a goal, what its author has answered, and notes on how \
the team writes code. If you cannot tell what is wanted, ask one question. Else split the program \
into {PARTS} parts that can be written without each other. Answer with one JSON object and nothing else:
{{"unclear": true, "question": "..."}} or
{{"unclear": false, "parts": [{{"name": "...", "task": "..."}}, ...]}}"""
_WRITER = """\
You write one part of a Python program. Answer with its code alone, in one fenced block. Where an \
earlier attempt is given, mend what was found in it and keep the rest."""
_REVIEWER = """\
You review one part of a Python program against its task. Answer with one JSON object and nothing \
else: {"valid": true, "findings": []}, or false with every reason why it does not do its task."""


def submit_to_llm(state: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """A plan of the program (`parts`), or what is to be asked first (`unclear`, `question`)."""
    prompt = _sections(
        goal=state["goal"],
        answer=state["answer"],
        notes=[f"{each['title']}: {each['text']}" for each in state["documents"]],
    )
    answer = model.asked(state, system=_PLANNER, prompt=prompt)
    context.use(tokens_used=answer["tokens_used"])
    said = model.object_in(answer["text"], "unclear")
    spent = {"model": answer["model"], "tokens_used": answer["tokens_used"]}
    if said["unclear"]:
        question = str(said.get("question") or "What exactly shall the program do?")
        return {"unclear": True, "question": question, "parts": [], **spent}
    parts = said.get("parts")
    if not (
        isinstance(parts, list)
        and len(parts) == PARTS
        and all(isinstance(part, dict) and part.get("task") for part in parts)
    ):
        raise model.ModelError(f"the plan has not {PARTS} parts with a task each: {parts!r}")
    named = [
        {"name": str(part.get("name") or f"part {number}"), "task": str(part["task"])}
        for number, part in enumerate(parts, start=1)
    ]
    return {"unclear": False, "question": "", "parts": named, **spent}


def write_code(state: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The code of a part, or the next attempt at it where findings or remarks are there."""
    task, before = state["draft"]["parts"][state["part"] - 1], state.get("before") or {}
    prompt = _sections(
        part=task["name"],
        task=task["task"],
        notes=[each["text"] for each in state["documents"]],
        attempt=before.get("code"),
        findings=before.get("findings"),
        remarks=state.get("remarks"),
    )
    answer = model.asked(state, system=_WRITER, prompt=prompt)
    context.use(tokens_used=answer["tokens_used"])
    return {
        "name": task["name"],
        "task": task["task"],
        "code": model.code_in(answer["text"]),
        "attempts": before.get("attempts", 0) + 1,
        "tokens_used": answer["tokens_used"],
    }


def validate_code(state: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The part with what is wrong with it: what Python says, else what a reviewer does."""
    part = state["part"]
    try:
        ast.parse(part["code"])
    except SyntaxError as error:
        finding = f"it is no Python: {error.msg} in line {error.lineno}"
        return {**part, "valid": False, "findings": [finding]}
    prompt = _sections(part=part["name"], task=part["task"], code=part["code"])
    answer = model.asked(state, system=_REVIEWER, prompt=prompt)
    context.use(tokens_used=answer["tokens_used"])
    said = model.object_in(answer["text"], "valid")
    findings = [str(each) for each in said.get("findings") or ()]
    return {
        **part,
        "valid": bool(said["valid"]),
        "findings": findings,
        "tokens_used": part["tokens_used"] + answer["tokens_used"],
    }


def _sections(**told: Any) -> str:
    """What a model is told, under headings; what there is nothing of is left out."""
    return "\n\n".join(
        f"## {name}\n{said if isinstance(said, str) else json.dumps(said, indent=2)}"
        for name, said in told.items()
        if said
    )
