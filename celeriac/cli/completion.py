"""`celeriac completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print what lets a shell complete commands, agents and their flags.

    In ~/.bashrc: eval "$(celeriac completion bash)"; in ~/.zshrc the same with zsh; for fish:
    celeriac completion fish > ~/.config/fish/completions/celeriac.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    root = ctx.find_root()
    name = "celeriac"
    click.echo(made(root.command, {}, name, f"_{name.upper()}_COMPLETE").source())
