"""The imperative shell: each function here is one use case, in its own transactions.

    submit ──tx──> run + first event ──nudge──> coordinate
    coordinate: lock runs, take inbox, fold and decide, admit, write, COMMIT, send
    execute_step: lease, begin, run the node, report, COMMIT, nudge
    sweep: leases that ran out, waits that are over, messages nobody answered

What a turn guarantees (`turns`):

1. Reporting never needs the run's lock: it moves the step row by its fence and leaves an
   event in the inbox. The turn that follows folds everything that waits, so a burst of
   results costs one turn.
2. Everything a turn does is in one transaction. A crash before its commit leaves no trace;
   after it, nothing is undone: the rows say what to send, and the sweeper sends it again.
3. A turn over an empty inbox does nothing, so every message may come twice.
4. A step runs at least once and counts exactly once: its report moves the row it holds, and
   writes the result, the event and the payload in the same statement, or none of them. What
   comes under a fence that no longer holds is kept as a refusal.
5. An attempt begins with a row, before user code runs. Only begun attempts count.
6. What a turn has come to counts for its own questions, though no row tells it yet
   (`requests.Unwritten`). What is to be undone is looked for from the next turn on: by then
   nothing can be reported any more that the search would miss.

Entry points (routes, Celery tasks, commands) parse, call one function here, and render.
"""
