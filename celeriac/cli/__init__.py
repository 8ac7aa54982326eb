"""The command line `celeriac`: what people type, and what their scripts read.

    celeriac up                        the whole platform on this machine, until Ctrl-C
    celeriac run flow.yaml -i n=3      publish, submit, watch; exit code 1 if the run fails
    celeriac runs --status failed --json | jq -r '.[].id'

Three kinds of command. Those about workflows and runs (`run`, `runs`, `show`, `logs`, `cancel`, `pause`, `resume`,
`waits`, `answer`, `answers`, `approvals`, `delegate`, `delegations`, `revoke`, `send`, `graphs`,
`versions`, `publish`, `retire`, `draft`, `migrate`,
`functions`, `tools`, `register`, `services`, `agent`, `me`, `user`, `key`, `secrets`, `capabilities`, `policy`) speak REST, as anybody's program would, with
`celeriac.Client`: to `--url` or `CELERIAC_URL` with `CELERIAC_API_KEY`, else to the embedded platform
of `CELERIAC_HOME`, wherever that listens. Those that are a process (`worker`, `coordinator`, `beat`,
`web`, `flower`) or look after the database (`tenant`, `db`, `doctor`, `audit`) go to `DATABASE_URL` and `BROKER_URL`,
else to the embedded platform's own servers. `schema`, `validate`, `completion` and `version` need nothing, `test`
speaks REST for names and needs nothing for files, and `drill` starts a platform for itself.

A database is made ready in one place (`celeriac.embedded.install`): migrations, the local tenant, its
admin's key, the libraries. `up` and `demo` do that at every start; a fleet does it with `db upgrade`
before it starts the processes of a release.

**Output.** What was asked for goes to stdout, all else to stderr: errors, notes, and a run's steps
where what it came to was asked for. `--json`, on every command that reads, prints one JSON document,
or one a line for logs: the records of `celeriac.client` by their fields, lists as arrays. Text is
coloured on a terminal only and cut by nobody elsewhere, and whatever users wrote is printed without
the control characters that a terminal would obey.

**Exit codes**, the same everywhere:

| code | means |
|---|---|
| 0 | done |
| 1 | the thing asked for failed: the run failed, the document has problems, there is no such run |
| 2 | wrong usage: an option, an argument, a setting |
| 3 | not reachable: the platform, its database, its broker |
| 130 | ended by Ctrl-C |

**Start-up.** `commands` knows every command by name and one line of help; the module that carries a
command out is imported when that command is typed, so `celeriac --help` imports click alone, and
`celeriac worker` does not load Flask. A module per noun therefore imports what it needs at its top.
"""

from __future__ import annotations

from celeriac.cli.commands import main

__all__ = ["main"]
