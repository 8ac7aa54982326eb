"""A deterministic simulator of the protocol over the real core.

Everything outside the core is played: the store as tables in memory whose transactions are
atomic, the broker as a bag of messages that loses, doubles, delays and replays them, workers,
coordinators and sweepers as generators that may die wherever they yield, people who answer or do
not, events that come before or after somebody waits for them, and a clock that jumps. Its runs
wait for times, people, events, other runs, items and locks, and undo what they did. A seed is a whole world: the same seed gives the same run of everything.

A world first lives through faults (*safety*: nothing wrong may ever be recorded), then the
faults stop (*liveness*: every run must end by itself, unless people alone can end what it waits for). The checks know nothing of how the
protocol works. `Rules` switches its parts off one by one; each such mutant must be caught,
so that the checks cannot rot.
"""
