"""The only SQL.

One module per noun, one statement per function, the connection of the caller's transaction
first; only `session.transaction` commits. Cold statements are SQLAlchemy Core over `tables`;
hot ones are plain SQL, each a single round trip that takes many rows at once, prepared once
per connection (`session.Statement`).

*Mutable and small*: `run` (a head for each run), `step` (live steps only, gone when settled;
the row is the outbox of its message), `inbox` (events that wait for a turn), `wait` (what a step
waits for, gone with it), `event` (sent from outside, until a step claims it or its time is over),
`lock` (one row while somebody holds it), `blob` (a row for each value that lies outside of them),
`tenant` (its number of changes of policies), `policy` (which version is in force), `workflow_draft`.
*Appended*: history, payloads, attempts, results, refusals, calls, pins, logs, checkpoints,
references to blobs, versions that a run was under (`migrations`); what people were asked, what they said, and how it was settled (`question`,
`answer`, `verdict`); our roles may insert and select there, nothing else. These are partitioned by
range of run id, a UUIDv7, so that a run lies in one partition and retention drops partitions.
Versions of policies are appended, too, and says that people hand to others (`delegation`,
`revocation`), and which versions of agents and workflows runs have written (`authorship`); they belong
to no run and lie in one piece.

*Chosen* (`choices`): what becomes of calls that a run made before it was gone on from; each is taken once, by
the worker's same call, and is to be had again by whoever goes back to before that.

*Undone* (`undone`): which calls a run undoes, in which order. What has become of each is told by that run's own
calls alone; a row may be replaced when that run has ended without its call.

*Kept for workers* (`secrets`, `capabilities`): sealed values, whose earlier versions lose what was
sealed, and what is granted to whom. Coordinators have no right to either.

*Sealed*: the acts of a tenant in a chain, and anchors over them and over the runs that moved
(`seals`), appended by whoever holds the tenant's seal. Users' data is taken out of ended runs by
functions of the owner alone (`shreds`).

Locks are taken in one order: a run, then its steps, steps in the order of their keys. Workers
never lock a run; their tables carry no foreign key to it, because its check would.

Two may race to end a wait, and one wins: `waits.end` moves the step's row from `waiting`, and
names the rows that it has moved; the verdict of a question is written in that statement. An event is
claimed in the transaction that ends the wait. Who finds a lock taken keeps its row from going until
its own turn is written, so that the holder sees who waits.

Four roles: the owner migrates; `celeriac_control` (coordinator, upkeep) writes runs and history;
`celeriac_api` may do the same behind a wall; `celeriac_worker` leases, reports, reads what it
needs, and adds the versions that steps publish. The wall is row-level security (`migrations/versions/…_walls`): a transaction of the API sees
and writes the rows of the tenant that it is bound to (`session.bound`), and none before it is bound;
only a key is found before, by a function that tells of that one row. Every statement names its tenant
nevertheless: that is the first wall, and the only one of the other two roles. The database refuses
illegal states as well: by CHECKs, by partial unique indexes (one accepted result a step), by
UPDATEs that name what they expect and whose row count is read.
"""
