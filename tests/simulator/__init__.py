"""A deterministic simulator of the protocol over the real core.

Everything outside the core is played: the store as tables in memory whose transactions are
atomic (`tables`, `world`), turns that read, write and commit apart, of several runs at once
(`turns`), the broker as a bag of messages that loses, doubles, delays and replays them and forgets
all it has, worker processes whose threads take and report together, coordinators, sweepers, people
and senders (`actors`) as generators that may die or stand still wherever they yield: before and
after each commit and between its halves. A commit may be cut off, so that nobody knows what
became of it; a turn may fail by itself; the database's clock jumps both ways, beside the time that
passes. The runs (`graphs`) wait for times, people, events, other runs, items and locks, race and
cancel each other, are paused, resumed, skipped and ended, and undo what they did. A seed is a whole
world: the same seed gives the same run of everything.

A world first lives through faults (*safety*: nothing wrong may ever be recorded), then the
faults stop (*liveness*: every run must end by itself, unless only people can end what it waits
for); some are *calm* from the start: nobody dies and nothing is lost, so messages alone must
carry every run, with the sweeper for what time ends (`play`). The checks know nothing of how the
protocol works. `Rules` switches its parts off one by one; each such mutant must be caught, so that
the checks cannot rot, and what the worlds have met is counted, so that the faults cannot.
"""
