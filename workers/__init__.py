"""The processes that Celery runs: workers, which carry steps out, and coordinators.

A Celery task here is a hint and an entry point: it parses ids, calls one function of
`engine.runs`, and returns. `execution` is the pipeline of one step (lease, begin, run,
report); `keeper` keeps its lease and tells it to stop; `kinds` says how each kind of node
runs; `sandbox` is where code that users supplied runs; `processes` starts it all.

A step is leased by the thread that is about to run it, never ahead of it: messages that were
fetched, and not begun, own nothing. So a worker that is told to end finishes the steps that it
is at and takes no other; Celery hands the messages back, and no step waits for a lease to end.
"""
