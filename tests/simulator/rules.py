"""What the protocol consists of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The protocol's parts; a mutant lacks one."""

    # Workers, and what they own.
    guard: bool = True  #: only a ready step can be leased
    fence: bool = True  #: a report must hold the fence
    beat: bool = True  #: heartbeats extend leases
    give_up: bool = True  #: a worker stops before a lease that it could not renew ends
    expire: bool = True  #: the sweeper ends leases that ran out
    lost: bool = True  #: an attempt that has begun and is given up is lost, and not to be had again
    spare: bool = True  #: who lets go of what it may own spares what it knows to be its own

    # Turns.
    lock: bool = True  #: a run's turns are taken one after another
    consume: bool = True  #: a turn takes what it folds out of the inbox
    whole: bool = True  #: a turn that is rolled back leaves its inbox as it was
    again: bool = True  #: who has taken a turn looks again after its commit
    clear: bool = True  #: steps of threads that a turn cancels go, whether it has read them or not
    gathered: bool = True  #: what was reported before a run began to undo is folded before it looks
    onward: bool = True  #: a run that began to undo is looked at again

    # Messages, which are hints.
    nudge: bool = True  #: who reports sees to it that a turn follows
    hint: bool = True  #: a message follows for each step that a turn made ready
    told: bool = True  #: runs that a turn has told something are looked at after it
    resend: bool = True  #: the sweeper sends overdue messages again
    collect: bool = True  #: the sweeper takes up events that nobody took

    # Time.
    due: bool = True  #: the sweeper brings back what is retried or deferred
    over: bool = True  #: the sweeper ends waits whose time is over
    tick: bool = True  #: the sweeper wakes runs whose threads have waited long enough

    # Waits.
    once: bool = True  #: a wait that was ended cannot be ended again
    tell: bool = True  #: a child's end counts only for a step that still waits for it
    claim: bool = True  #: an event that was claimed cannot be claimed again
    seek: bool = True  #: an event looks for who waits for it
    meet: bool = True  #: who begins to wait looks for events that came before
    wake: bool = True  #: who waits for a lock is woken when it is given up
    let_go: bool = True  #: a child ends with the step that waits for it

    # Pauses.
    hold: bool = True  #: the ready steps of a paused run are kept, to be sent when it goes on
    halt: bool = True  #: what became ready beside a pause is not leased either
    release: bool = True  #: what was kept is ready again when its run goes on
