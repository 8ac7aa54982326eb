"""The API of seed 000, exactly, over the same functions as everything else.

A run there is a list of *steps* and a *state*; here it is a history. `shape` tells the one
from the other, purely: each line of history gives at most one step, whose `seq` is that of its
line. A stream can therefore be taken up after any step without missing or repeating one, and
nothing has to be remembered about a stream.

| history | step |
|---|---|
| the first visit of the run | `started` |
| `Admitted` | `executing` |
| `AttemptSucceeded`, a visit that needs no worker | `completed`, with what it changed |
| `AttemptFailed`, `AttemptLost`, `Refused` | `timeout` where that is the reason, else `error` |
| `RetryStep` | `started`, with the number of the attempt |
| `TakeEdges` | `transition`; `max_iterations` where a bound closed the way back; `end_reached` |
| `FinishRun` | `completed` or `error` of the pseudo-node `workflow`, which closes the log |

A run that was cancelled closes with `error` and says so in its message, for the list of
statuses has no better word; the run itself is `cancelled`. A failed run is `error`, and its
state carries the error: a node that raised never ends in `completed`.
"""
