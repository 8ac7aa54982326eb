"""`celeriac validate` and `celeriac schema`: the document language, without a platform."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from celeriac.cli import files, printing
from celeriac.cli.failures import FAILED
from engine import documents
from engine.core import schema as language
from engine.errors import Invalid


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@printing.json_option
@click.pass_context
def validate(ctx: click.Context, *, file: str, as_json: bool) -> None:
    """Check a workflow's document: every problem, with its place.

    Without one it says which fork each join brings together.

    Without one it says which fork each join brings together.

    FILE is YAML or JSON, `-` stdin. Whether the functions and tools that it names are registered only
    a platform knows; it says so when the document is published.
    """
    text = files.text_of(file)
    try:
        graph = documents.read_graph(text)
    except Invalid as invalid:
        if as_json:
            printing.document({"valid": False, "problems": list(map(asdict, invalid.problems))})
        else:
            printing.problems(file, invalid.problems)
        ctx.exit(FAILED)
    if as_json:
        printing.document({"valid": True, "problems": [], "joins": dict(graph.joins)})
    else:
        counted = f"{len(graph.nodes)} nodes, {len(graph.edges)} edges"
        if graph.listing is not None:
            counted = f"{len(graph.listing.steps)} steps"
        click.echo(f"{file}: {graph.workflow} is valid: {counted}")
        for node, fork in graph.joins.items():
            click.echo(f"  {node} joins the threads of {fork or 'the whole run'}")


@click.command()
def schema() -> None:
    """Print the JSON Schema of workflow documents.

    An editor checks YAML by it: `# yaml-language-server: $schema=workflow.schema.json`.
    """
    click.echo(json.dumps(language.document_schema(), indent=2, ensure_ascii=False))
