"""The engine: Postgres is the truth, the core decides, Celery carries.

`core` decides, purely. `guardrails` judges by a tenant's policies, `tools` says what a tool asks of
its callers, `services` what those of them are set up with that reach outside, `kinds` which kinds of
nodes are installed, `capabilities` what registered code may reach, `redaction` how secrets are taken out
of what it leaves, `sessions` what a run is that a client drives step by step, `retrace` leads a recorded run
through another graph, `cases` reads the tests of documents; none does I/O. `store` is the only SQL.
`platform` is what a process stands on: settings, database, broker, live hints. `runs` is the shell
around the core: it launches runs, takes turns, leases steps, authorises calls, sweeps.
Imports go in that order, downward only.
"""
