"""Guardrails: what policies say, and whether something may go on by them.

*A policy* is a document (`document.read`): rules, budgets and plug-ins, for some workflows and
users of a tenant or for all. *A rule* asks one thing or several (`policy`), all of which must
hold, and says what follows. The shortest is a line (`line`):

    sum(tokens_used) > 10 000 → abort_lifetime

*Governance* (`governance.govern`) is all that holds for a tenant at one number of changes, made
ready once: `wants` says, at no cost, whether there is anything to judge at a moment and which
facts the rules of that moment look at, and `Governance.budgets` what may be spent.

*Judging* (`judge.judge`) is pure: facts of one moment and what the run remembers go in, verdicts
and what it is to remember come out. So what was decided can be decided again, and a policy tried
on what has happened. A step is judged before it starts (`start`) and after it has reported
(`report`), a call of a tool likewise (`call`, `call_report`).

*Which verdict decides* is settled by strength, whatever the order: abort, pause, reject, require
approval, modify, warn, allow with audit, allow. So a denial wins over every leave. Policies are
asked by priority (lower first), then by name, their rules in the order of the document; the order
decides between verdicts of equal strength, and which modification is made first. A policy with
`enforce: false` only warns, and its verdicts say what they would have been.

*A rule that cannot be judged fires*: an expression without a value, a content too large to look
through, an argument that cannot be compared, a plug-in that raises or is not installed.

*Sums* are kept by the platform: those of a run, a workflow, a user, a tenant, since ever or in
the minute, hour or day by UTC, hence `Facts.totals`. An execution's own figures are in
`Facts.usage`. What else is put together of a run's executions (`max`, `min`, `avg`, `count`,
`last`) and its laps is in the run's memory (`memory`), which is small and handed back and forth.

*Budgets.* How much may be in an account, and which budget has no room, is `bounds`; the ledger on
the platform (`engine.runs.budgets`) and the one in memory (`spending`) both go by it.

*Backtests.* Recorded moments of many runs are judged in the order of time, budgets kept in memory
(`spending`); where a policy parts from the record, the run is told of, and once it would have been
blocked it is gone through no further (`backtest`).

*Bounds.* What may be written is bounded before work is done on it (`vocabulary`, `patterns`);
regular expressions are RE2's alone. What strangers write here is data; only plug-ins are code, and
those are installed by whoever runs the platform (`plugins`).

The package does no I/O and knows no clock.
"""
