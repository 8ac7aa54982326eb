"""Every command by name, and the group that imports one when it is typed."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from celeriac.cli import failures


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: the module that carries it out under its own name, and what `--help` says of it."""

    module: str
    help: str
    #: Its name there, where its own is a word of Python.
    function: str | None = None


#: As `--help` lists them. The one line is the first of the command's own docstring.
SECTIONS: Mapping[str, Mapping[str, Entry]] = {
    "This machine": {
        "demo": Entry("demo", "Review a Python file with the Code Review agent, live."),
        "up": Entry("embedded", "Run the whole platform on this machine, until Ctrl-C."),
        "down": Entry("embedded", "End the platform that runs on this machine."),
    },
    "Workflows and runs": {
        "run": Entry("run", "Start a run of a workflow, by file or by name, and watch it."),
        "runs": Entry("runs", "List runs, the newest first."),
        "show": Entry("runs", "Show a run: its state, its steps, why it ended."),
        "checkpoints": Entry(
            "checkpoints", "List the places of a run that it can be taken up from, or show one."
        ),
        "fork": Entry(
            "checkpoints",
            "Start a run that goes on from a place of another one, which stays as it is.",
        ),
        "restart": Entry(
            "checkpoints", "Start a run that goes on from just before a step of another one."
        ),
        "export": Entry("recordings", "Write a run that has ended into a file."),
        "import": Entry(
            "recordings",
            "Bring in a run that was recorded elsewhere, to be looked at.",
            function="bring",
        ),
        "rollback": Entry(
            "checkpoints", "Let a run go on from an earlier place of its own: nothing is deleted."
        ),
        "undo": Entry(
            "undoing",
            "Start a run that undoes what calls of a run have done which has ended, or gone back over them.",
        ),
        "logs": Entry("logs", "Print what the steps of a run have printed."),
        "cancel": Entry("acts", "Stop a run, or every run of a filter."),
        "terminate": Entry(
            "acts",
            "End a run, or every run of a filter, as it stands: nothing of it is ever undone.",
        ),
        "pause": Entry(
            "acts", "Let nothing new of a run start; what is being carried out may finish."
        ),
        "resume": Entry("acts", "Let a paused run go on exactly where it was."),
        "migrate": Entry(
            "migrations",
            "Let a live run, or every run of a filter, go on under another version of its workflow.",
        ),
        "retry": Entry(
            "acts",
            "Begin a live step anew, now; without a STEP, take the turn of a run that is stuck.",
        ),
        "skip": Entry(
            "acts", "Let a live step of a run count as done; whoever carries it out loses it."
        ),
        "upload": Entry(
            "bundles", "Publish a bundle: an archive of a drawing and the code of its nodes."
        ),
        "waits": Entry("waits", "List who is asked, and which events are awaited."),
        "answer": Entry("answers", "Answer a step that asks people, or many."),
        "answers": Entry("answers", "Show what a step has asked people, and who said what."),
        "approvals": Entry("answers", "List requests for approvals, and what came of them."),
        "delegate": Entry("delegations", "Hand your say to somebody else."),
        "delegations": Entry("delegations", "List the says that are in other hands."),
        "revoke": Entry("delegations", "Take your say back."),
        "send": Entry("waits", "Send an event to whoever waits for it."),
        "graphs": Entry("workflows", "List workflows, or the versions of one."),
        "versions": Entry(
            "versions", "List the versions of a workflow, who published each, and what he said."
        ),
        "publish": Entry("versions", "Publish a version of a workflow from its document."),
        "retire": Entry("versions", "Retire a version: nothing new begins with it."),
        "draft": Entry("drafts", "Save, show, list, publish and discard drafts of workflows."),
        "backtest": Entry(
            "backtests", "Lead recorded runs of a workflow through another version of it."
        ),
        "explain": Entry("replays", "Say why a run is where it is, and what it waits for."),
        "replay": Entry("replays", "Decide a run once more from what was recorded."),
        "functions": Entry("functions", "List the functions that nodes can use."),
        "tools": Entry("functions", "List the tools that running steps can call."),
        "stand": Entry(
            "functions", "Change the status or the tags of a tool, from the next call on."
        ),
        "register": Entry(
            "functions",
            "Register a function or a tool from its source, or a service from a document.",
        ),
        "agent": Entry("agents", "Run an agent by its name, or look after agents."),
        "services": Entry("services", "Bring the tools of a server into the registry."),
    },
    "Who may do what": {
        "me": Entry("users", "Say who you are, and what you may do."),
        "user": Entry("users", "List, make and change the users of your tenant."),
        "key": Entry("keys", "List, make, rotate and revoke API keys."),
        "secrets": Entry("secrets", "Put, list, delete and rotate secrets."),
        "capabilities": Entry(
            "capabilities", "Grant, show and revoke what registered code may reach."
        ),
    },
    "Guardrails": {
        "policy": Entry(
            "policies", "Apply, lint, try, backtest, list, show and withdraw policies."
        ),
        "usage": Entry("usage", "Say what was used, of whom and for what, as it is just now."),
    },
    "Documents": {
        "validate": Entry(
            "documents", "Check a workflow's document: every problem, with its place."
        ),
        "test": Entry("tests", "Run the tests that stand in workflows and agents, in memory."),
        "schema": Entry("documents", "Print the JSON Schema of workflow documents."),
        "draw": Entry(
            "drawings", "Draw a workflow, or read a drawing as the document that it stands for."
        ),
    },
    "A fleet's processes": {
        "web": Entry("web", "Serve the API."),
        "worker": Entry("fleet", "Run a worker, which carries steps out."),
        "coordinator": Entry("fleet", "Run a coordinator, which decides what follows."),
        "beat": Entry("fleet", "Run beat, which only reminds coordinators."),
        "flower": Entry("flower", "Run Flower, which shows Celery's side, on this machine."),
    },
    "Upkeep": {
        "tenant": Entry("tenants", "List and make tenants, with the database at hand."),
        "db": Entry("database", "Look after the database's schema."),
        "audit": Entry("audit", "Read and verify what happened, and who did what."),
        "doctor": Entry("doctor", "Check what must always hold of the stored runs."),
        "drill": Entry(
            "drill",
            "Disturb a platform of its own, and see whether anything is lost or happens twice.",
        ),
        "completion": Entry(
            "completion", "Print what lets a shell complete commands, agents and their flags."
        ),
        "version": Entry("version", "Print the version."),
    },
}


class Commands(click.Group):
    """The commands of the table above; each is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # see above
        for section in SECTIONS.values():
            if cmd_name in section:
                entry = section[cmd_name]
                module = importlib.import_module(f"celeriac.cli.{entry.module}")
                command = getattr(module, entry.function or cmd_name)
                assert isinstance(command, click.Command)
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # see above
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<11}", entry.help) for name, entry in section.items()])

    def invoke(self, ctx: click.Context) -> Any:
        with failures.translated(ctx):
            return super().invoke(ctx)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"Exit codes: {failures.EXPLAINED}.",
)
@click.version_option(None, "--version", package_name="celeriac", message="%(package)s %(version)s")
@click.option(
    "--url",
    metavar="URL",
    envvar="CELERIAC_URL",
    help="The platform to speak to, if not this machine's.",
)
def main(url: str | None) -> None:  # noqa: ARG001  # `api` reads it where it is needed
    """Agentic workflows that nothing can make forget: carried out by Celery, remembered by Postgres."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows no ✓ is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
