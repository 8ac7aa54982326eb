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

**Failures.** `{from: a, to: b, on: error, reason: [timeout]}` is taken when no attempt is left;
its `when` sees `$result.reason` and `$result.message`. Without one the run fails.

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
where it has parameters for them, with `output` (the list) and `context`. A name in a param is
another param of the same step, if it has one of that name, else what is on the tape. If the agent
answers with an object, its keys are left on the tape; any other value is left by the first name
of `output`. It may return `(answer, {"status": {"value": 0, "reason": "…"}})`, a tuple, and any
`value` but 0 says that it failed; who says nothing has succeeded. `$status` is how the last step
ended. A step that fails, so or by an error, ends the run with its reason, or with
`return_on_fail: false` leaves its status to the next one.

`$step_index` is the place on the list, from 0. One is added to it after every step, also after
one that left an index of its own: a step that leaves 4 is followed by step 5. Where it points at
no step the run has ended. That is all there is to jumps and repetitions: agents do them
(`celeriac.agents` has some), and only the step budget, which counts steps here, bounds them.

What the language has and this version does not carry out (`llm`, `approval`, `map`, …) is
refused by its name: ignoring it would be a promise broken at run time.
"""

from __future__ import annotations

from engine.core.document.names import Reference, names_used
from engine.core.document.reading import read
from engine.core.document.variables import wanted
from engine.core.document.writing import write

__all__ = ["Reference", "names_used", "read", "wanted", "write"]
