"""What a durable step costs, beside raw Celery and others on the same servers in the same run.

    python -m benchmarks             the whole of it, half an hour
    python -m benchmarks --quick     small, to see that it works

Every system carries out the same steps, which read an integer from the state and add one; with
nothing else, with 5 ms of CPU, or with 20 ms of sleep. Of each is measured:

- **throughput**: 200 runs of 10 steps, submitted by one client as fast as it can; steps a second
  until the last step has run, and what CPU that took, of the servers too;
- **chain**: one run of 100 steps on an idle system; milliseconds a step from submission to the
  answer seen, and between the clocks of its first and its last step;
- **fan-out**: 500 branches and what joins them, from submission to the answer seen;
- **loop**: 200 laps of a node that leads back to itself;
- **first step**: from before the submission to the clock of the first step, one run at a time;
- **half load**: runs submitted at half of the rate that was just measured; the time from step to
  step, and, of us, from a committed result to the start of the attempt that follows;
- **memory** of its own processes, shared pages counted once.

And of us alone: what the last steps of a long run cost beside its first (`growth`), what ten rules
and a budget cost a step (`governed`), what a step costs beside 10 to 10 000 active runs and after
10^3 to 10^6 steps of history (`burden`).

`configuration.toml` fixes how much is measured and how everybody is configured; peers' packages are
pinned in `peers/*.txt`. Ours are two workers and a coordinator as an operator starts them, with one
policy in force, the code once installed and once as source in the sandbox; then the same with
`CELERIAC_WORKER_TURNS=1`. Postgres syncs every commit, and is asked whether it does.

**Method.** Absolute figures move by half within an hour, so only ratios count. Every round starts,
warms up, measures and ends one system after the other, raw Celery before each of ours and before the
peers; a ratio is taken within its round, and of rounds the median is shown. Every final value is
asserted, and executions are counted: by whoever carries them out, or from what it keeps of them.
That raw Celery was at its best is checked with somebody else's script, where it is on this machine
(`reference`): a run in which the two are 20 % apart is void.

Stopped early, it shows what it has measured so far.

`workloads` is what is measured of anybody, `raw_celery` the rival, `fleet` us, `peer` how one of
`peers` is installed and asked, `servers` what all stand on, `report` what is shown of it. `python -m
benchmarks.publish FILE` writes the README's table and the picture from the JSON.
"""
