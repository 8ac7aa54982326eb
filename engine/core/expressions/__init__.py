"""The expression language: what `when`, `save`, `with` and every `$…` value are written in.

    $score >= 7 and not ($verdict in ["rejected", "spam"])
    default($result.usage.tokens, 0) + sum($tokens) > 10000

**Text.** Numbers, text in single or double quotes (escapes: backslash and
one of `n t r " '` or itself), `true`,
`false`, `null`, lists. `$name` reads a variable, `$name.key`, `$name["any key"]` and
`$name[0]` (from the end: `$name[-1]`) what lies in it. From loose to tight: `or ||`;
`and &&`; `not`; `== != < <= > >= in`, `not in`; `+ -`; `* / %`; unary `-` and `!`. So `not`
denies a whole comparison and `!` only what stands right behind it, each as in the language
it comes from. Comparisons do not chain. The functions are a fixed table (`functions`).
There is nothing else: no Python object, attribute or call can be reached.

**Missing is null.** An unknown variable, an absent key, an index past the end and anything
looked up in null are null. Looking up a key in a number, a text, … is an error, except
under `has` (whether there is a value that is not null) and as the first argument of
`default` (the second when the first is null).

**No conversions.** `==` compares anything: `1 == 1.0`, but `true != 1` and `"1" != 1`; lists
and objects by content. `<` takes two numbers or two texts (by code point), arithmetic two
numbers, `+` also two texts or two lists. Null among them is an error that names it. `/` always
gives a fraction, `%` the sign of its right side, and by zero both are errors. `x in y` looks
for an entry of a list, a part of a text, a key of an object.

**Truth.** false, null, 0, "", [] and {} do not hold; everything else does. `and`, `or`, `not`
give true or false, and `and`, `or` look no further than they must.

**Bounds.** 4 096 characters, 60 levels, integers of 64 bits, finite numbers, texts of 65 536
characters, and 10 000 units of work per evaluation, a unit being an entry of a list or
object, or 100 characters of text, that is looked at.

An answer says what it `saw`: each path read on the way, with its value. Values are never
copied and never changed.

The package: `tokens` cuts the text, `parser` (Pratt) turns it into closures over a `Frame`,
`operators`, `functions` and `paths` say what they compute, `templates` puts expressions into
JSON.
"""

from __future__ import annotations

from engine.core.expressions.expression import Answer, Expression, compile  # noqa: A004
from engine.core.expressions.frame import EvaluationError, ExpressionError, holds
from engine.core.expressions.templates import Template, TemplateError, template

__all__ = [
    "Answer",
    "EvaluationError",
    "Expression",
    "ExpressionError",
    "Template",
    "TemplateError",
    "compile",
    "holds",
    "template",
]
