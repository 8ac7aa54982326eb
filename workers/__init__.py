"""The processes that Celery runs: workers, which carry steps out, and coordinators.

A Celery task here is a hint and an entry point: it parses ids, calls one function of
`engine.runs`, and returns. `execution` is the pipeline of one step (lease and begin, run,
report); `keeper` keeps its lease and tells it to stop; `kinds` says how each kind of node
runs; `services` reach hosts, databases, models and servers of tools for them; `sandbox` is where
code that users supplied runs; `watchdog` ends a worker that no work reaches; `fetching` gets as many
messages at a time as threads are free; `monitoring` says how often Celery's monitors are told;
`processes` starts it all.

What the threads of a worker ask of the database is done for all that ask at a time (`group`): each step
is its own Celery task, and many share a commit. So do the turns that the messages of a coordinator ask for.
There is no timer, so who is alone waits for nobody.

`secrets` opens what a node reads as `$env.NAME`, for as long as its attempt lasts, and takes it out of
everything the attempt leaves; `capabilities` is what a granted profile makes of limits.

Where a worker takes turns itself, a thread goes on with a step that its report has made ready: leased with that
turn, in one commit, and carried out as the next Celery task of the thread (`succession`). While all threads are
at work one more is spared for those of whom the worker carries nothing out (`relief`).

A step is leased by the thread that is about to run it, never ahead of it: messages that were
fetched, and not begun, own nothing. So a worker that is told to end finishes the steps that it
is at and takes no other; Celery hands the messages back, and no step waits for a lease to end.
"""
