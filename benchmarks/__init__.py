"""What a durable step costs, beside a raw Celery chain on the same broker in the same run.

    python -m benchmarks             the whole of it, some minutes
    python -m benchmarks --quick     small, to see that it works

Three workloads, of steps that read an integer from the state and add one:

- **chain**: one run of 100 steps on an idle system; milliseconds a step from submission to the
  answer seen, and between the clocks of its first and its last step.
- **throughput**: 200 runs of 10 steps, submitted by one client as fast as it can; steps a second
  until the last step has run, and what CPU that took.
- **first step**: from before the submission to the clock of the first step, one run at a time;
  over REST too.

And within us, what the last steps of a long run cost beside its first (`growth`): statements and
bytes of write-ahead log for each lap of a loop of 10 000.

And what ten rules and a budget cost a step, beside none (`governed`).

The same code of the step is run as a function of an installed library and as source in the
sandbox, by two workers and a coordinator as an operator starts them, then with
`CELERIAC_WORKER_TURNS=1`, on a Postgres that syncs every commit.

**Method.** Absolute figures move by half within an hour, so only ratios count. Every round starts,
warms up, measures and ends one system after the other, raw Celery before each of ours; a ratio is
taken within its round, and of rounds the median is shown. Every final value is asserted, and
executions are counted: by the worker itself for raw Celery, from the attempts in the database for
ours.

Stopped early, it shows what it has measured so far.

`raw_celery` is the rival and its whole configuration, `fleet` is us, `servers` what both stand on,
`workloads` what is measured of either, `growth` and `governed` what is measured of us alone, `report` what is shown.
"""
