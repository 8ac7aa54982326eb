"""From words to closures: a Pratt parser.

Runs of `and`, `or`, `+ -` and `* /` become one flat closure each, so that depth, of parsing
and of evaluation alike, is what the brackets and operators nest and never how long a line is.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.core.expressions import functions, operators, paths, tokens
from engine.core.expressions.frame import ExpressionError, Frame, Run
from engine.core.expressions.operators import Operand
from engine.core.expressions.tokens import Token
from engine.core.values import Json

#: Levels of brackets and operators in one another.
MAX_DEPTH = 60


class Parsed(NamedTuple):
    """A compiled expression, the variables it may read, the nodes whose results, and the secrets."""

    run: Run
    names: frozenset[str]
    steps: frozenset[str | None]
    secrets: frozenset[str | None]
    #: Whether secrets stand in it as they are: alone, or put together with other things by `+`.
    keeps: bool


def parse(source: str) -> Parsed:
    """Compile an expression, or raise `ExpressionError`."""
    parser = _Parser(source)
    if parser.token.kind == "end":
        raise ExpressionError("an empty expression", 0, "write one, such as $score > 5")
    whole = parser.expression(_OR)
    if parser.token.kind != "end":
        raise _stray(parser.token)
    return Parsed(
        run=whole.run,
        names=frozenset(parser.names),
        steps=frozenset(parser.firsts["steps"]),
        secrets=frozenset(parser.firsts["env"]),
        keeps=not parser.firsts["env"] or _keeps(tokens.read(source)),
    )


def _keeps(found: Sequence[Token]) -> bool:
    """Whether an expression does nothing but put paths and texts together.

    What is cut, turned round or compared is no longer recognised where it must not be told.
    """
    words = [Token("symbol", "", 0), *found]
    for before, token, after in zip(words, found, words[2:], strict=False):
        is_key = token.text == "[" and after.kind in {"text", "number"}
        joins = token.kind == "symbol" and token.text in {".", "+", "(", ")", "]"}
        names = token.kind == "word" and before.text == "."
        if not (joins or is_key or names or token.kind in {"root", "text", "number"}):
            return False
    return True


_OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT, _UNARY = range(1, 8)
_SYNONYMS = {"||": "or", "&&": "and"}
_BINDING = {
    "or": _OR,
    "and": _AND,
    **dict.fromkeys(["==", "!=", "<", "<=", ">", ">=", "in", "not"], _COMPARISON),
    **dict.fromkeys("+-", _SUM),
    **dict.fromkeys("*/%", _PRODUCT),
}
_LITERALS: dict[str, Json] = {"true": True, "false": False, "null": None}


class _Parser:
    """One pass over the words of one expression."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.names: set[str] = set()
        #: What is looked up in names that are no variables; None: it is worked out.
        self.firsts: dict[str, set[str | None]] = {"steps": set(), "env": set()}
        self._tokens = tokens.read(source)
        self._index = 0
        self._depth = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._index]

    def expression(self, level: int) -> Operand:
        """Read on as long as the operators bind at least as tightly as `level`."""
        start = self.token.position
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(
                f"nested deeper than {MAX_DEPTH} levels",
                start,
                "compute a part of it in a function or a variable",
            )
        run = self._operand(level)
        while level <= (binding := self._binding()):
            left = Operand(run=run, text=self._text(start))
            run = self._comparison(left) if binding == _COMPARISON else self._chain(left, binding)
        self._depth -= 1
        return Operand(run=run, text=self._text(start))

    def _binding(self) -> int:
        token = self.token
        if token.kind not in {"word", "symbol"}:
            return 0
        return _BINDING.get(_SYNONYMS.get(token.text, token.text), 0)

    def _chain(self, first: Operand, binding: int) -> Run:
        rest = []
        while self._binding() == binding:
            token = self._take()
            rest.append((token.text, self.expression(binding + 1), token.position))
        if binding == _OR:
            return operators.disjunction([first, *(operand for _, operand, _ in rest)])
        if binding == _AND:
            return operators.conjunction([first, *(operand for _, operand, _ in rest)])
        return operators.arithmetic(first, rest)

    def _comparison(self, left: Operand) -> Run:
        token = self._take()
        symbol = token.text
        if symbol == "not":
            self._expect("in", "write `not in`")
            symbol = "not in"
        right = self.expression(_SUM)
        if self._binding() == _COMPARISON:
            raise ExpressionError(
                "comparisons do not chain", self.token.position, "write a < b and b < c"
            )
        return operators.comparison(symbol, left, right, token.position)

    def _operand(self, level: int) -> Run:
        token = self._take()
        match token.kind, token.text:
            case (("number" | "text"), _):
                return _constant(token.value)
            case "root", name:
                return self._path(name, lenient=False)
            case "word", ("true" | "false" | "null") as literal:
                return _constant(_LITERALS[literal])
            case "word", "not":
                if level > _NOT:
                    raise ExpressionError(
                        "`not` denies a whole comparison", token.position, "put it in brackets"
                    )
                return operators.negated(self.expression(_NOT))
            case "word", name if name in _BINDING:
                raise _stray(token)
            case "word", name:
                return self._call(name, token.position)
            case "symbol", "(":
                inner = self.expression(_OR)
                self._expect(")", "close the bracket")
                return inner.run
            case "symbol", "[":
                return _list([entry.run for entry in self._several("]")], token.position)
            case "symbol", "-":
                return operators.minus(self.expression(_UNARY), token.position)
            case "symbol", "!":
                return operators.negated(self.expression(_UNARY))
            case _:
                raise _stray(token)

    def _path(self, root: str, *, lenient: bool) -> Run:
        self.names.add(root)
        keys: list[paths.Key] = []
        while self.token.kind == "symbol" and self.token.text in {".", "["}:
            opened = self._take()
            key: str | int | Run
            if opened.text == ".":
                key = self._name()
            else:
                key = self._index_key()
                self._expect("]", "close the bracket")
            keys.append((key, opened.position))
        if root in self.firsts:
            first = keys[0][0] if keys else None
            self.firsts[root].add(first if isinstance(first, str) else None)
        return paths.reader(root, keys, lenient=lenient)

    def _name(self) -> str:
        token = self._take()
        if token.kind != "word":
            raise ExpressionError(
                "no key follows the dot",
                token.position,
                'write $name.key, $name[0] or $name["a b"]',
            )
        if token.text.startswith("__") and token.text.endswith("__"):
            raise ExpressionError(
                f"{token.text} is not a key: expressions read data, not Python objects",
                token.position,
                f'write ["{token.text}"] if the data has it',
            )
        return token.text

    def _index_key(self) -> str | int | Run:
        sign, at = 1, self._index
        if self.token.text == "-":
            self._take()
            sign = -1
        token = self._take()
        alone = self.token.kind == "symbol" and self.token.text == "]"
        if alone and type(token.value) is int:
            return sign * token.value
        if alone and isinstance(token.value, str) and sign == 1:
            return token.value
        self._index = at
        return self.expression(_OR).run

    def _call(self, name: str, position: int) -> Run:
        if not (self.token.kind == "symbol" and self.token.text == "("):
            remedy = f'write ${name} for the variable, "{name}" for the text'
            if name in _FUNCTIONS:
                remedy = f"write {_usage(name)}"
            raise ExpressionError(f"`{name}` alone means nothing", position, remedy)
        if name not in _FUNCTIONS:
            near = difflib.get_close_matches(name, _FUNCTIONS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ExpressionError(
                f"there is no function {name!r}",
                position,
                f"{hint}the functions are {', '.join(_FUNCTIONS)}",
            )
        self._take()
        if name in {"has", "default"}:
            return self._forgiving(name, position)
        arguments = self._several(")")
        function = functions.TABLE[name]
        if not function.least <= len(arguments) <= function.most:
            raise _miscalled(name, position)
        return functions.call(name, arguments, position)

    def _forgiving(self, name: str, position: int) -> Run:
        """`has($path)` and `default(value, other)`: a path in them may lead nowhere."""
        first: Run
        at = self._index
        token = self._take()
        if token.kind == "root":
            first = self._path(token.text, lenient=True)
        if token.kind != "root" or self.token.text not in {",", ")"}:
            if name == "has":
                raise _miscalled(name, position)
            self._index = at
            first = self.expression(_OR).run
        if name == "has":
            self._expect(")", f"write {_usage(name)}")
            return lambda frame: first(frame) is not None
        self._expect(",", f"write {_usage(name)}")
        other = self.expression(_OR).run
        self._expect(")", f"write {_usage(name)}")

        def run(frame: Frame) -> Json:
            value = first(frame)
            return other(frame) if value is None else value

        return run

    def _several(self, closing: str) -> list[Operand]:
        found: list[Operand] = []
        while not (self.token.kind == "symbol" and self.token.text == closing):
            if found:
                self._expect(",", f"write a comma, or {closing} to close")
            found.append(self.expression(_OR))
        self._take()
        return found

    def _take(self) -> Token:
        token = self.token
        if token.kind != "end":
            self._index += 1
        return token

    def _expect(self, text: str, remedy: str) -> None:
        token = self._take()
        if token.kind not in {"word", "symbol"} or token.text != text:
            raise ExpressionError(f"`{text}` is missing", token.position, remedy)

    def _text(self, start: int) -> str:
        last = self._tokens[self._index - 1]
        end = last.position + len(last.text) + (last.kind == "root")
        return self.source[start:end]


_FUNCTIONS = (*functions.TABLE, "has", "default")
_OWN_USAGE = {"has": "has($name.key)", "default": "default(value, other)"}


def _usage(name: str) -> str:
    return _OWN_USAGE[name] if name in _OWN_USAGE else functions.TABLE[name].usage


def _constant(value: Json) -> Run:
    return lambda frame: value  # noqa: ARG005  # a closure over nothing but its value


def _list(entries: list[Callable[[Frame], Json]], position: int) -> Run:
    def run(frame: Frame) -> Json:
        frame.spend(len(entries), position)
        return [entry(frame) for entry in entries]

    return run


def _miscalled(name: str, position: int) -> ExpressionError:
    return ExpressionError(f"{name} is not called like this", position, f"write {_usage(name)}")


def _stray(token: Token) -> ExpressionError:
    if token.kind == "end":
        return ExpressionError("the expression breaks off", token.position, "complete it")
    text = f"${token.text}" if token.kind == "root" else token.text
    if token.text in {"(", ".", "["}:
        remedy = "only a $name is looked into, and only a function called"
    elif token.kind == "symbol" or token.text in _BINDING:
        remedy = "a value is missing, or this is too much"
    else:
        remedy = "an operator is missing before it"
    return ExpressionError(f"unexpected {text}", token.position, remedy)
