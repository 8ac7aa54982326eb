"""The words of policy documents, and their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

Moment: TypeAlias = Literal["start", "report", "call", "call_report"]
Scope: TypeAlias = Literal["execution", "run", "workflow", "user", "tenant"]
Window: TypeAlias = Literal["none", "minute", "hour", "day"]
Aggregate: TypeAlias = Literal["sum", "max", "min", "avg", "count", "last", "now"]
Comparison: TypeAlias = Literal[">", ">=", "<", "<=", "==", "!="]
Operator: TypeAlias = Literal[
    "eq", "ne", "in", "not_in", "contains", "regex", "gt", "lt", "gte", "lte"
]
Place: TypeAlias = Literal["inputs", "result", "arguments"]
Shortfall: TypeAlias = Literal["deny", "pause", "ask"]
Action: TypeAlias = Literal[
    "abort_lifetime",
    "pause_lifetime",
    "reject_execution",
    "require_approval",
    "modify",
    "warn",
    "allow_with_audit",
    "allow",
]

MOMENTS: tuple[Moment, ...] = get_args(Moment)
SCOPES: tuple[Scope, ...] = get_args(Scope)
WINDOWS: tuple[Window, ...] = get_args(Window)
#: Those that are written; `now` is what a live metric without one means.
AGGREGATES: tuple[Aggregate, ...] = ("sum", "max", "min", "avg", "count", "last")
COMPARISONS: tuple[Comparison, ...] = get_args(Comparison)
OPERATORS: tuple[Operator, ...] = get_args(Operator)
PLACES: tuple[Place, ...] = get_args(Place)
SHORTFALLS: tuple[Shortfall, ...] = get_args(Shortfall)
#: The strongest first.
ACTIONS: tuple[Action, ...] = get_args(Action)

#: Other words for the same thing; any case, and `-` or a space for `_`.
ACTION_WORDS: Mapping[str, Action] = {
    **{action: action for action in ACTIONS},
    "abort": "abort_lifetime",
    "abort_run": "abort_lifetime",
    "pause": "pause_lifetime",
    "pause_run": "pause_lifetime",
    "reject": "reject_execution",
    "deny": "reject_execution",
    "ask": "require_approval",
}
SCOPE_WORDS: Mapping[str, Scope] = {
    **{scope: scope for scope in SCOPES},
    "request": "execution",
    "lifetime": "run",
}
COMPARISON_WORDS: Mapping[str, Comparison] = {
    **{sign: sign for sign in COMPARISONS},
    "=": "==",
    "≥": ">=",
    "≤": "<=",
    "≠": "!=",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "eq": "==",
    "ne": "!=",
}

#: What the run itself knows at any moment: no usage of executions that would be added up.
LIVE = ("steps", "iterations", "seconds", "parallelism")
#: Usage that the platform measures or knows; other names are what executions report.
METRICS = ("tokens_used", "cost_usd", "seconds", "latency_ms", "steps", "calls")
METRIC = r"^[a-z][a-z0-9_]{0,62}$"

#: What `when` may read.
NAMES = (
    "moment", "tenant", "user", "workflow", "run", "node", "kind", "step", "attempt", "iteration",
    "tool", "arguments", "inputs", "result", "usage", "live", "repeats",
)  # fmt: skip

TOP = ("policy", "title", "enforce", "priority", "applies_to", "rules", "budgets", "plugins")
APPLIES = ("workflows", "users")
#: What a rule may ask; all that it asks must hold.
CONDITIONS = ("metric", "tool", "arguments", "content", "when", "no_progress")
MEASURE = ("metric", "agg", "op", "value", "scope", "window")
ANSWER = ("action", "set", "from", "quorum", "four_eyes", "expires")
RULE = ("name", "message", "at", *CONDITIONS, *MEASURE[1:], *ANSWER)
BUDGET = ("name", "scope", "window", "metric", "limit", "on_shortfall", "ask_above")
PLUGIN = ("use", "with", "at")
CONTENT = ("matches", "in")
PROGRESS = ("repeated_state", "same_call", "flat_score", "cost_slope")

POLICY_NAME = r"^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?$"
RULE_NAME = r"^[^\x00-\x1f\x7f]{1,200}$"
PLUGIN_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$"
MESSAGE = r"^[^\x00-\x1f\x7f]{1,500}$"
#: `to`, `items.0.name`, `recipients.*`: keys, indexes, and `*` for any entry of a list.
DOTTED = r"^[^.\x00-\x1f\x7f]{1,100}(\.[^.\x00-\x1f\x7f]{1,100}){0,15}$"
#: A name in which `*` stands for any characters.
GLOB = r"^[^\x00-\x1f\x7f]{1,200}$"

MAX_BYTES = 65_536
#: Keys, values, lists and objects of a document, together.
MAX_VALUES = 8_000
MAX_RULES = 100
MAX_BUDGETS = 50
MAX_PLUGINS = 10
MAX_PATTERNS = 20
MAX_PROGRESS = 10
#: Characters of the expressions of a document.
MAX_EXPRESSED = 16_384
MAX_NAMES = 100
MAX_CONDITIONS = 20
MAX_OPTIONS = 200
MAX_LINE = 500
MAX_DIGITS = 18
MAX_DECIMALS = 9
MAX_PRIORITY = 1_000_000
DEFAULT_PRIORITY = 100
#: Entries of a run's memory that a rule may look back on.
MAX_LAPS = 64
MAX_EXPIRES = 90 * 86_400.0
