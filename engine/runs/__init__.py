"""The imperative shell: each function here is one use case, in its own transactions.

    submit ──tx──> run + first event ──nudge──> coordinate
    coordinate: lock runs, take inbox, fold and decide, admit, write, COMMIT, send
    execute_step: lease, begin, run the node, report, COMMIT, nudge;
                  or report, coordinate and lease what follows in one commit, where workers may
    sweep: leases that ran out, waits that are over, messages nobody answered

What a turn guarantees (`turns`):

1. Reporting never needs the run's lock: it moves the step row by its fence and leaves an
   event in the inbox. The turn that follows folds everything that waits, so a burst of
   results costs one turn. Who has the lock anyway, and takes the turn in the same commit, hears
   what it reports at once, behind whatever has waited. Who took the only step of a run with its last
   turn need not even read the run again, if it still stands as it was left (`known`).
2. Everything a turn does is in one transaction. A crash before its commit leaves no trace;
   after it, nothing is undone: the rows say what to send, and the sweeper sends it again.
3. A turn over an empty inbox does nothing, so every message may come twice.
4. A step runs at least once and counts exactly once: its report moves the row it holds, or takes it
   away where its turn settles it, and writes the result, the event and the payload in the same
   statement, or none of them. What
   comes under a fence that no longer holds is kept as a refusal.
   So it is with an attempt that a person takes away: its fence is raised, and its worker is
   told so by its next heartbeat.
5. An attempt begins with a row, before user code runs. Only begun attempts count.
6. What is large lies in a blob (`large`) and is read outside of transactions; a turn that needs
   it is given up and taken again with the value at hand.
7. What a turn has come to counts for its own questions, though no row tells it yet
   (`requests.Sitting`). What is to be undone is looked for from the next turn on, as soon as
   nothing waits any more: by then nothing can be reported that the search would miss.

*Who is served first.* What a turn makes ready goes into lanes (`engine.lanes`), one for each tenant that is
busy, as far as there are; a sweep sends what a lane lacks, of each tenant as often as of another, and takes
overdue turns likewise. Nudges for a tenant beyond a steady pace go into a lane beside the others'.

*What is run* (`catalogue`, `drafts`, `retirement`). A version is published once and never changes; what asks for a
range of them gets one at submission, and keeps to it. What somebody is writing is a draft, which nobody runs.
A version is retired rather than removed, because the runs that it has had are read by it.

*What runs write* (`authorship`). A step publishes agents and workflows by calls of a catalogue service. What could
do more than the workflow that writes it is put to people before the call is made, within `calls.authorise`; how
much is written is bounded by run and by tenant, and who has written a version is kept with it.

*Going on under another version* (`migrations`, `moves`). Whoever asks is told what would become of each live step,
and what keeps the run where it is. The request is an event; the turn that hears it settles what was reported
before, looks at every live step once more (`core.migration`), and answers it: `Migrated` or `NotMigrated`. Its rows
keep their owners: an attempt that is under way ends under the graph that it was leased with, and what it reports is
folded under the new one. Which version a line of history was decided under is found by `graphs.under`.

*Going back* (`checkpoints`, `origins`, `forks`, `restarts`, `rollbacks`). A run can be looked at just after any line
of its history. Another run can go on from there, or the run itself. A new run's first line holds where it comes from, by
the hash of that line, and the state that it takes over, so that its history tells all of it and the other run stays as
it is. A run that goes back itself is told by an event that holds the state of the place; the turn that folds it ends
whatever is live. What was live there begins anew; what is known of its calls by then lies beside its first attempt,
which nobody has made (`carrying`), and so do the results of items of a map that is under way there. From within a child
run the root goes on, and the turn that starts the child anew lets it go on from its own place. Later calls that may
happen only once must be chosen for (`effects`): the choices are part of the event, and wait in rows of their own until
the run makes the same calls.

*Undoing calls* (`compensations`) of a run that has ended, or gone back over them, is an act of its own: a run of
`celeriac.undo` calls what their tools name for that. Which calls can be, and why others cannot, is looked at as of
now (`undoable`). What has become of each is read from that run, never written beside it. Nobody goes on from where
an undone call counts (`origins`), and nothing is undone that a live run rests on; the two exclude each other by the row
of the root. Before that place the call did not happen, and is no question.

*What waits* (`requests`, `waits`, `answers`, `events`, `children`, `locks`). A turn answers what the core asks
for, in its own transaction: a lock is a row that is there or not, a child run is submitted, what a
step waits for lies in a row beside its own. Whoever ends a wait, a person, an event, a child, the
clock, does it by one guarded statement that moves the step from `waiting` to `reported`, and the
event for the turn goes with it; whoever comes later finds it moved, and is told what it was. An
event and a wait look for each other after either is committed, so one of the two finds the other,
and the sweeper looks once more. What nodes say they wait for, and what an answer must be, is
worked out without I/O (`engine.waiting`, `engine.asking`): the runner in memory uses the same.

*People* (`answers`, `says`, `delegations`, `escalations`, `approvals`). Whoever answers uses a say, his
own or one that was handed to him by somebody who has it still: everybody speaks once, every say counts
once. What nobody settles in time is put to others, too. A question and its verdict outlive the step
that asked.

*Policies* (`policies`) are a tenant's, and hold from the next turn of each of its runs. A change of
what is in force moves one number on, which a turn reads anyway: only another number makes it read
policies again. On a run as it was recorded (`recorded`) a policy can be tried.

*What is asked before anything happens.* A step passes `admission`: its lock, the rules (`guard`), the
budgets (`budgets`), people. What it reports is judged in the turn, before the core folds it (`hearing`); a
result that people must accept lies beside the step until they have. A call passes `calls.authorise`, which
asks the same of it and the terms of its tool besides; what became of one that may have happened a
person says (`outcomes`). Whatever is said goes into history as an event.
Money is set aside in the transaction that lets something start (`engine.store.ledger`), and charged by
the report, by the sweep for what was lost (`ledgers`), or, of calls, when they end; what is told beyond
it while code runs is set aside then (`overdraft`).

*Usage* (`usage`) is read from the ledger, which whoever settles has written: what was used, of whom and
for what, what is set aside, and what is left of the budgets in force.

*Backtests* (`backtests`) hold a policy, or a version of a workflow, against what has happened. Records
are read in transactions that cannot write (`records`); a policy sees them told once more, with all that
rules look at (`retold`, `engine.guardrails.backtest`), a version hears their events (`engine.retrace`).

*Replays* (`replays`) decide one run anew from its recorded events and compare every decision with its
history (`engine.core.replay`); against another version or a policy they are a backtest of that run.
*Explanations* (`explanations`) say why one is where it is, from its head, its live steps and the end of its
history alone.

*Files* (`exports`, `imports`). A run that has ended can be taken out as a file (`engine.formats.recording`), and be
brought in elsewhere. There it has rows as any other that has ended, but for what was left out, and a version that
nobody finds or runs. What it rests on was verified before; nothing goes on from it.

*Sessions* (`sessions`) are runs whose client says what comes next. What a step may do is worked out
from the run's history, sent as an event with the number that it was worked out for, and not taken up
if another came in between.

*Items of maps* are steps. Their values are written as soon as they get their places, because the
same turn may start runs with them; their results are read by the worker that gathers them.

*The audit.* Whatever changes something is an event of a run, or an act (`acts`) in the same
transaction. `sealing` chains and anchors both, beside all turns; `verification` finds what was altered
since, `audit` reads it as one stream, `shredding` takes users' data out of it.

*Secrets* (`secrets`) are sealed here and opened by workers, for what they were granted to
(`capabilities`): they are no business of turns, and in no event, because `$env` is evaluated by
workers alone, which hide what they have opened in all that they report.

What cannot be read ends with one error. A worker that cannot read a step's graph or state says
so in a lost attempt, so that another release may try, not for ever; a run whose turn fails is
set aside with the error, and whoever cancels it then gets it ended without a turn (`abandonment`).

*Who may what* (`access`, `users`, `keys`, `tenants`, `refusals`). A credential resolves to one
principal (`engine.core.principal`), as its user is at that moment; what it may do is asked at the door,
by the route. Whoever gives, gives of his own. Every change of it is an act (`acts`), in its transaction.

Entry points (routes, Celery tasks, commands) parse, call one function here, and render.
"""
