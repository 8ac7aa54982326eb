"""`celeriac draw`: workflows from one notation into another, without a platform."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import click

from celeriac.cli import files, printing
from celeriac.cli.failures import FAILED
from engine import documents
from engine.core import document
from engine.core.graph import Graph
from engine.core.problem import Problem
from engine.errors import Invalid
from engine.formats import diagram, dot, mermaid

#: Notations that leave something to a sidecar, by what the names of their files end in.
_DRAWN: Mapping[str, ModuleType] = {
    ".mmd": mermaid,
    ".mermaid": mermaid,
    ".dot": dot,
    ".gv": dot,
}
_WRITERS: Mapping[str, Callable[[Graph], str]] = {
    "svg": diagram.svg,
    "mermaid": mermaid.write,
    "dot": dot.write,
    "json": lambda graph: json.dumps(document.write(graph), indent=2, ensure_ascii=False) + "\n",
}


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--as", "notation", type=click.Choice([*_WRITERS]), default="svg", show_default=True)
@click.option(
    "--sidecar",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="What a drawing leaves out: YAML or JSON.",
)
@click.option(
    "--sidecar-of",
    "left",
    type=click.Path(dir_okay=False, writable=True),
    metavar="FILE",
    help="Where to write what Mermaid or DOT leaves out.",
)
@click.pass_context
def draw(
    ctx: click.Context, *, file: str, notation: str, sidecar: str | None, left: str | None
) -> None:
    """Draw a workflow, or read a drawing as the document that it stands for.

    FILE is a document (YAML or JSON, `-` stdin) or a drawing, by the end of its name: Mermaid
    (.mmd) or GraphViz DOT (.dot). The drawing goes to stdout.
    """
    graph = _graph(file, sidecar)
    if not isinstance(graph, Graph):
        printing.problems(file, graph)
        ctx.exit(FAILED)
    if left is not None:
        if notation not in {"mermaid", "dot"}:
            raise click.UsageError(f"{notation} leaves nothing out that a sidecar could say")
        if graph.listing is not None:
            raise click.UsageError(
                "a list of steps cannot be read from a drawing: keep its document"
            )
        beside = (mermaid if notation == "mermaid" else dot).sidecar(graph)
        Path(left).write_text(json.dumps(beside, indent=2, ensure_ascii=False) + "\n")
    click.echo(_WRITERS[notation](graph), nl=False)


def _graph(file: str, sidecar: str | None) -> Graph | tuple[Problem, ...]:
    """The graph of a file, or what is wrong with it."""
    drawn = _DRAWN.get(Path(file).suffix)
    if drawn is None and sidecar is not None:
        raise click.UsageError("only a drawing has a sidecar: a document says everything itself")
    try:
        if drawn is None:
            return documents.read_graph(files.text_of(file))
        beside = None if sidecar is None else documents.read_text(files.text_of(sidecar))
        found: Graph | tuple[Problem, ...] = drawn.read_graph(files.text_of(file), beside)
    except Invalid as invalid:
        return tuple(invalid.problems)
    return found
