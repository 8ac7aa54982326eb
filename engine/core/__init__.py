"""What a run does next, decided without I/O, clock or SQL.

*A run is its history.* `messages` holds two closed unions: events, which are reported, and
commands, which are decided. `state.evolve` folds one record into the state;
`decide.decide` names the one command that follows from a state; `decide.advance` folds
events one by one and, after each, decides until nothing follows. Every event carries the
database's time of receipt, and that is the `now` of what follows from it. So history alone
determines every decision, however its events were batched.

*Tokens on edges.* A settled step leaves a token on each edge it takes; a token starts its
target (or ends the run, on a `final` edge) and is spent. Control nodes are passed at once.
A step carries its thread and how often the thread has visited the nodes of its loops:
bounds need no memory elsewhere. A loop is the innermost cycle a node turns in (`loops`);
entered from outside, it counts anew. At the bound the ways back are closed, and the record
of the routing says so.

*Waiting for one another.* Threads that wait are tokens in the head: at joins (`joins`), at
milestones (`milestones`). Who may still come is a question to the counts, and since when somebody waits is
part of the token, so that the moment at which it has been long enough follows from the state
alone (`deadlines`): the shell keeps it as the run's wake, and says when it has come.

*Asking before doing.* The core does nothing by itself. It asks for a start (REQUESTED), for a wait
to be set up (OPENING), for what a wait leaves to be worked out (SAVING), for the next thing to
undo, and the shell answers each by an event, in the same turn; the answers are history like
anything else. A lock is given with the start, held by steps and tokens, and gone with them.

*What policies say.* The core knows no rule. What was said of a step, a report or a call comes as an
event beside it (`Judged`, `fold.guard`): a run is cut off, or paused until somebody resumes it and so
lets pass what it was paused for. What people must allow first has a name (`permits`): a step is
`Parked` before it starts, its report is `AttemptWithheld`, an attempt is `AttemptSuspended` at a call
and made anew. What was used counts whatever becomes of it.

*Waiting for the world.* A step that waits is one without a worker: what it waits for ends it by
one event, or its time does; the core never asks which came first.

*Maps.* A map is a cursor with counts (`items`). Its items are steps of their own that stand on no
edge; where they and their results lie, and putting them together, is no business of the core.

*Going back.* A run can go on from an earlier place of its own (`rollback`). The state of that place
comes with the event, so that deciding needs no history; names of steps are never given out twice.

*Another version.* A live run can go on under another graph if all that is live has an image there
(`migration`). What follows from that is told whole in one event, so that its fold needs no graph.

*Undoing.* Before a run fails, its history is gone through backwards, a step at a time (`undo`).

*Recalling.* A result that some expression asks for by its node is a hidden variable of the thread
(`remembered`).

*Step lists.* A list of steps is a graph too, in which one control node leads to whichever step
the tape's index names (`listing`, `tape`). It has no loops that anybody here knows of.

*Small state.* The state is a head and the live steps; a turn may hold just those that its
events name. What must be known of all is counted in `scopes`. So a step can end whatever
is at other nodes (`regions`) without knowing who that is.

Around that: `graph` (the template), `document` (what people write, and all that is wrong
with it at once), `expressions` (the one language of `when` and `$…`), `values` (JSON, strictly),
`versions` (numbers of workflows' versions, and ranges of them), `codec` (records as rows; formats and upcasters), `records` (changing a record, quickly),
`transitions` (the legal changes of status, as data), `policy` (the operator's bounds), `executions` (a run in the words of seed 001).

The package imports the standard library and itself.
"""
