"""Runs that a client drives step by step, in the words of seed 003.

A *session* is an ordinary run of a document that is made from a configuration (`graph`): it waits
for the event `step`, does what that says, and waits for the next. So calls, retries, waits, limits,
recovery and history are the engine's own. What a client is shown, a workflow with its steps,
checkpoints and money, is folded from that history (`story`), and nowhere kept beside it.

What a step may do is worked out before its event is sent, from what the session has come to
(`steps`): its references to the context are resolved, its condition asked, the limits of the
session looked at. The event says the number of the step that it was worked out for; if another
came in between, the graph does not take it up.

*Rolling back* is an event too: context, count and total are those of the checkpoint again, and what
came later is marked. What was spent stays spent, and limits are held to that.

Nothing here does I/O: `engine.runs.sessions` is the same over the store, `celeriac.steps` in memory.
"""
