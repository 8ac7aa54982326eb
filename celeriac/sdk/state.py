"""The shared state that flows through a run's functions.

It is the class that functions meet on the platform, inside the sandbox: what works with it
here works there.
"""

from __future__ import annotations

from workers.sandbox.inside.state import Context, WorkflowState

__all__ = ["Context", "WorkflowState"]
