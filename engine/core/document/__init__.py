"""The document language: what people write, editors draw and importers produce.

    workflow: summarize
    inputs: {text: {type: string}}
    nodes:
      draft: {uses: write_draft, with: {text: $text}, save: {draft: $result.text}}
      grade: {uses: grade_draft, with: {draft: $draft}, save: {score: $result}}
    edges:
      - draft -> grade -> end
      - {from: grade, to: draft, when: $score < 7, label: loop}

`read` makes a graph of it or says everything that is wrong with it; `write` gives the one
canonical document of a graph, and `read(write(graph)) == graph`. Text in YAML or JSON becomes
data elsewhere (`engine.documents`); the same rules as a JSON Schema are in `schema`.

A run starts at `start:`, by default at the node of kind `start`, else at the first node that
is declared. `end` need not be declared. The order of edges means something: a source takes
the first that holds. Objects have no order.

**Forks.** An edge of `type: parallel` makes its source take every edge that holds; the others
must then say so too, unless a function or a plan chooses between them. Edges that are waited
for cannot say both, so where *all* edges of a node are `join` or `final` and all shall be taken,
the node says `route: all`. A *plan* (`role: plan`) takes the edges to the nodes that it names,
however many: its rules do (`rules: [{when: $score < 7, next: [draft]}, {next: [a, b]}]`, the
first that holds, decided without running anything), or what its function answers. A node that
is named twice is started twice; an empty list ends the thread.

**Joins.** A token on an edge of `type: join` waits at its target for the others; one on a normal
edge starts it at once, apart from those that wait, and both may lead to one node. Without a word
a join waits for every thread that can still come, so that what was not woken is not waited for.
It may demand more or less: `join: all` (one on each edge), `join: any` (the first),
`join: {first: 2}`, `join: {share: 0.5}`; `surplus` says what becomes of the others (`cancel`;
`finish`: they go on and end here; `keep`: they wait here for the next time, and end if there is
none), `of: NODE` whose fork is meant if not the nearest. One join edge is enough: a plan can send
several threads over it. If what is demanded cannot come any more, the join takes its edge
`on: short`, else the run fails. `timeout: 10m` counts from the first that waits: when it is over,
the join takes its edge `on: short`; without one, it goes on with those that are there, the others
being surplus, or, where it demands more, the run fails. Time runs on while a run is paused.

**Regions.** `cancels: [NODE, …]`: when a step succeeds at the node, and before its edges are taken,
every other thread of the run that is at one of these nodes, waits there or is on its way to it
ends. What it wrote stays, as of any thread that ends; whoever carries it out loses it.

**Milestones.** `{kind: milestone, at: NODE}` is passed while some other thread of the run is at that
node, and waited at until then; joins after it wait, too. When it `expires: 10m`, or nobody moves
any more in the whole run, it takes its edge `on: short`, else the run fails.

**Waiting.** Some nodes wait rather than work; no worker is held for them, and time runs on for
them while a run is paused. What came is `$result`, for `save` and the edges.

    nodes:
      rest: {kind: timer, for: 10m}
      paid: {kind: event, name: paid, match: {order: $order}, schema: {type: object}, expires: 7d}
      accept: {kind: approval, show: $draft, from: [role:boss], quorum: 2, expires: 3d}
      ask: {kind: input, form: {answer: {type: string}}}
      part: {kind: workflow, workflow: write-code@1, with: {goal: $goal}, save: {code: $result.code}}

A *timer* waits `for` a time, or `until` an instant (ISO 8601). An *event* is sent by its `name` to
the run, or to whoever waits with an equal `match`; it ends one wait, and its payload must be of
the `schema`. One that came before is kept until somebody waits, but for `transient: true`. People
who may answer (`from`; without it whoever sees the run) choose at an *approval* (`choices`, by
default approve and reject; edges labelled with a choice are taken by it) and fill in the `form` of
either; so many as the `quorum` must choose the same, or of each choice its own number: `quorum:
{approve: 2, deny: 1}`. Where all that are named have spoken and none comes to its number, it is
denied, or, where no choice is `deny` or `reject`, `expired`. `reason: required`: whoever denies
must say why. `four_eyes: true`: whoever submitted the run may not answer. `escalate: {after: 2h,
to: [role:admin]}`: they are asked, too, if it is not settled by then. The result is `{choice, by,
form}`, with the `reason` if one was given, and `behalf` of whom somebody answered, if of another; of an
*input* the fields, each saved as the variable of its name unless `save` says otherwise. A
*workflow* is a run of its own with `with` as inputs; its outputs are the result. It is the latest
release, one (`NAME@1.2.0`) or the highest of a range (`NAME@^1.2`), pinned when the run is submitted; or an
expression of that, such as `$written.workflow`, worked out and looked up when the step begins. If its step is
gone it is cancelled, or goes on with `orphan: finish`. Whatever `expires` fails as `expired`.

**Maps.** `{kind: map, over: $files, as: file, do: review, save: {reports: $result}}` does one thing
with each item of a list: a function, `{kind: tool, tool: NAME, with: {…}}` or `{kind: workflow,
…}`, to which the item is `$file` (without `as`, `$item`) and its place, from 0, `$index`. Up to
`at_once: 10` are under way. The result is the list of results in the order of the items, null for
those that have none. `stop_when: {failed: 3, succeeded: $enough}`: so many may not fail (by
default 1), so many are enough, looked at anew whenever something happens to the run. While it runs
people may add items, and say that it has enough; what is under way then is let go.

**Locks.** `lock: NAME`, or an expression: of all threads of a run one at a time is at a node with
it, the others wait for their turn. `lock: {name: $account, until: settle, of: tenant}`: the thread
keeps it up to and with the node `settle`, or until it ends; of all runs of the tenant.

**Compensation.** `compensate: FUNCTION` (or a node, as in a map) undoes a node. When the run fails,
or is cancelled by somebody who asks for that, the handlers of all that was done run, last things
first and one by one, each with the result of what it undoes as `$result` and `result` in its state. One
that fails holds up no other.

**Names in expressions.** `$name` is a variable or an input, `$result` what the step came to (in
`save`, on its edges and to the handler that undoes it), `$steps.NODE` the newest result of a node
on this thread, null before there is one; `$steps["a node"]` if its name is no word. In `save` it is
the one before. Where threads come together the last branch that has one counts. `$run.id`.

**Failures.** `{from: a, to: b, on: error, reason: [timeout]}` is taken when no attempt is left;
its `when` sees `$result.reason` and `$result.message`. Without one the run fails. `retry:
{attempts: 4, backoff: 1s, factor: 2, max: 1m, on: [timeout]}` tries again for

    error timeout memory cpu output_too_large    what code did (all of them, without `on`)
    child_failed child_cancelled                 how a run of its own ended

and these fail at once: `input_failed` and `save_failed` (an expression, or a value that does not
fit), `variables_too_large`, `result_too_large`, `arguments_too_large`, `no_plan` (a plan's answer
is no list of nodes), `no_such_function`, `no_such_tool`, `no_such_workflow`, `unknown_kind`,
`too_deep` (runs within runs), `refused` (a start, by a rule or for want of money), `rejected` (a
result, by a rule), `denied` (by people), `nondeterministic_call` (another call than in
the attempt before), `unknown_outcome` (nobody can say whether a call was made), `damaged` (a value
cannot be read back), `expired`, `items_failed`. `lost` and `killed` (the worker, or the process,
is gone) are tried again whatever the node says, a few times; `defect` is ours. A run fails by
itself, too, for which there is no edge: `step_budget`, `contradiction` (two threads wrote one
variable), `condition_failed`, `no_such_choice`, `join_starved`, `join_timeout`,
`milestone_missed`, `output_failed`; of step lists, `no_step_index` and `status`.

**Variables** have a `type` (the name of a JSON type, or a JSON Schema), a `default`, and, where
several threads write them, a reducer: `reduce: append|merge|sum|min|max|set|replace`. What a step
saves there is then what it adds. `shared: true` lets every thread write at once and see what
others wrote, for reducers that give the same in any order. Values may be large: what does not
fit in 256 KiB with all others lies elsewhere and reads as ever, for conditions up to 64 MiB. What
a reducer adds up has to fit. The key `$blob` is ours; no value that enters may have it.

**`strict: true`** asks for what seed 001 asks: tasks and plans take turns.

**Step lists.** A document may have `steps` in place of nodes and edges:

    workflow: loop_test
    inputs: {loop_max: {type: integer}}
    outputs: {laps: $lap}
    steps:
      - agent: loop_start
        params: {step_index: $step_index, loop_max: $loop_max}
        output: [start, most, lap]
      - {agent: echo, params: {input: $lap}, output: [said]}
      - {agent: loop_end, params: {step_index: $start, loop_max: $most, loop_index: $lap}, output: [lap]}
    return_on_fail: true

The variables are the *tape*: first the inputs, then whatever steps leave there, the newest of
each name. An agent is a function, `NAME` or `NAME@3`, or a workflow, which runs
as a run of its own and leaves its `outputs`. It is called with the `params` by name and,
where it has parameters for them, with `output` (the list) and `context`. Bytes, which elsewhere stand
as `{"$bytes": BASE64}`, are bytes to it, a param that is null is left to its own default, and one that
it says is `str` or `bytes` is turned into that. A name in a param is another param of the same step, if it has one of that name, else what is on the tape. If the agent
answers with an object, its keys are left on the tape; any other value is left by the first name
of `output`. Of a workflow, `save: {said: $result.text}` leaves some of the outputs by other names. It may return `(answer, {"status": {"value": 0, "reason": "…"}})`, a tuple, and any
`value` but 0 says that it failed; who says nothing has succeeded. `$status` is how the last step
ended. A step that fails, so or by an error, ends the run with its reason, or with
`return_on_fail: false` leaves its status to the next one.

`$step_index` is the place on the list, from 0. One is added to it after every step, also after
one that left an index of its own: a step that leaves 4 is followed by step 5. Where it points at
no step the run has ended. That is all there is to jumps and repetitions: agents do them
(`celeriac.agents` has some), and only the step budget, which counts steps here, bounds them.

While `dryrun` holds on the tape, or among a step's params, its function reaches nothing outside:
http and sql services say what they would do, and no other service and no tool that leaves something
in the world is called (`dry_run`). A list hands it on to its workflows by their params, if it does.

**Tests.** `tests: {NAME: {inputs: {…}, fakes: {…}, acts: […], expect: {…}}}` says what runs come to
that are given such inputs and answers. They are part of the document, kept and shown with it, and
so of its digest: another test makes another version. No run looks at them. Here they are kept as
they are; what may stand in them is told, and read, in `engine.cases`.

What the language has and this version does not carry out (`llm`, `http`, `sql`, …) is
refused by its name: ignoring it would be a promise broken at run time.
"""

from __future__ import annotations

from engine.core.document.names import Reference, names_used
from engine.core.document.reading import read
from engine.core.document.variables import wanted
from engine.core.document.writing import write

__all__ = ["Reference", "names_used", "read", "wanted", "write"]
