"""What the nodes of the Coding Agent do that a worker carries out.

The drawing (`coding-agent.mmd`) and its sidecar say who comes when; here is only the work: look
notes up (`notes`), ask a model to plan, to write and to review (`work`), over HTTP (`model`). To
run it by hand, see the head of the sidecar.

Installed library code: it reaches the network, which code registered as source cannot. What it
must know to do so is among the run's inputs: `base_url` and `model`, `embedding_model` if notes are to be
found by what they mean, and `key_file`, the place of a file with the key, so that the key itself is kept
nowhere else.
"""

from __future__ import annotations

from .notes import look_up
from .work import submit_to_llm, validate_code, write_code

FUNCTIONS = {
    "look_up": look_up,
    "submit_to_llm": submit_to_llm,
    "write_code": write_code,
    "validate_code": validate_code,
}
