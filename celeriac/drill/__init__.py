"""Drills: does the platform keep what it promises, on this machine, while everything goes wrong?

`drill` starts a platform of its own (web, two coordinators, two workers, beat, Postgres, Valkey, in a
temporary folder), has clients submit runs (chains, threads that join, loops, lists, timers, events,
retries), does faults by a plan that a seed decides, lets it settle, and judges. Three sides are
compared: what clients were answered, what a *witness* outside was told by the steps themselves under
their idempotency keys, and what the rows say. *Lost* is what was accepted and is not there, has not
completed, or counts without ever having happened. *Doubled* is a submission that became two runs, a
step that counts twice or was executed after it had counted, an attempt that was carried out twice, a
variable of an attempt other than the one that counts. A step that is executed again because its worker
died is neither: at least once is what is promised of the world outside, once of what counts.

| fault | how it is done |
|---|---|
| worker-kill | `kill -9` of a worker, alone, with its children, or of these alone |
| worker-stall | a worker stands still for longer than its leases, then goes on and reports |
| coordinator-kill, beat-kill | `kill -9` |
| web-kill | `kill -9` of the API, or of its processes that answer |
| broker-flush | `FLUSHALL` |
| broker-restart | `kill -9`, away for up to three seconds, half of the time without what it held |
| broker-mute | takes connections and requests, answers nothing for up to three seconds |
| postgres-restart | an immediate stop, as by a power cut; its log is replayed |
| connection-cut | one connection to the database or to the broker is reset, or ended by the server |
| duplicate-delivery | a message for a step that is live or long over, for any run, or out of its turn |
| slow-network | everything to one of the servers comes up to a tenth of a second later |
| clock-skew | the clock of a worker jumps by up to an hour (`clocked` says what that covers) |
| disk-full | not a byte is left on the disk of Postgres; needs a tmpfs, hence root on Linux |
| deploy | every process is told to end and replaced, one after the other, under load |

A deploy is from a release to itself: what changes between two is tested by `tests/migration` and by
recorded histories. The database's clock is the only one that decides, and no fault sets it.

`plan` decides what is done and when, `faults` does it, `recovery` measures how long what was struck
takes to move on, `load` submits, `witness` and `steps` see, `verdict` judges, `drill` is the whole.
`stage` is what it is played on, made of `servers`, `fleet` and `network`, which the tests of the
project use by themselves. No switch of the product makes it weaker: drills that must fail start their
processes through a module of the tests (`tests.support.weakened`).

**Whatever happens to a drill, what it started ends**: with the block that started it, on Ctrl-C and
SIGTERM; and if the drill itself is killed, by the kernel, with it. Only its folder in `/tmp` stays then,
and the tmpfs that may be mounted there.
"""
