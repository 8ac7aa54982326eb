"""Sample tools of a clinic, and a policy for what is told of patients (PHI).

Nothing here is a medical system: the records are made up, and no tool reaches outside. As a library
(`CELERIAC_LIBRARIES=examples.healthcare`) the tools are registered with their terms; with the step API
they are registered by hand (`python -m examples.healthcare`). The policy (`phi`) hides what no
prompt needs, and lets no record leave without somebody who says why.
"""

from __future__ import annotations

from examples.healthcare.tools import (
    check_interactions,
    find_guidelines,
    patient_record,
    send_summary,
)

TOOLS = {
    "find_guidelines": find_guidelines,
    "patient_record": patient_record,
    "check_interactions": check_interactions,
    "send_summary": send_summary,
}
EFFECTS = {
    "find_guidelines": "pure",
    "patient_record": "pure",
    "check_interactions": "pure",
    "send_summary": "at_most_once",
}
TERMS = {
    "find_guidelines": {
        "parameters": {
            "query": {"type": "string", "minLength": 2},
            "limit": {"type": "integer", "minimum": 1, "maximum": 10, "default": 3},
        },
        "required_permissions": ["read:documents"],
        "cost_estimate_usd": 0.01,
        "category": "search",
    },
    "patient_record": {
        "parameters": {"patient_id": {"type": "string", "pattern": "^P[0-9]{3}$"}},
        "required_permissions": ["read:phi"],
        "cost_estimate_usd": 0.02,
        "rate_per_minute": 60,
        "category": "phi_access",
    },
    "check_interactions": {
        "parameters": {"drugs": {"type": "array", "items": {"type": "string"}, "minItems": 2}},
        "required_permissions": ["read:documents"],
        "category": "compute",
    },
    "send_summary": {
        "parameters": {
            "to": {"type": "string"},
            "text": {"type": "string", "maxLength": 2000},
        },
        "required_permissions": ["write:phi"],
        "requires_approval": True,
        "category": "external_api",
    },
}
