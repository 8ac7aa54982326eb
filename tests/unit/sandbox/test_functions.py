"""What a function sees, what it may give back, and how it calls tools."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sandbox.jobs import condition, deed, node, tool, within
from workers.sandbox import CallAnswer, Choose, Job, Limits, Outcome, Sandbox

INCREMENT = (
    'def increment(state):\n  value = state.get("value", 0)\n'
    '  state.set("value", value+1)\n  return state'
)
ADD_ONE = 'def add_one(state):\n  v = state.get("n",0)\n  state.set("n", v+1)\n  return state'


def source(name: str, text: str, state: dict[str, Any], **more: Any) -> Job:
    return Job(mode="node", name=name, source=text, arguments={"state": state}, **more)


class Registry:
    """Tools run as jobs of their own, as a worker does it."""

    def __init__(self, sandbox: Sandbox, **tools: str) -> None:
        self._sandbox = sandbox
        self._tools = tools
        self.asked: list[tuple[str, list[Any], dict[str, Any]]] = []

    def __call__(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> CallAnswer:
        self.asked.append((name, args, kwargs))
        if name not in self._tools:
            return CallAnswer(ok=False, reason="unknown_tool", message="there is no such tool")
        job = Job(
            mode="tool",
            name=name,
            source=self._tools[name],
            arguments={"args": args, "kwargs": kwargs},
        )
        done = self._sandbox.run(job, on_call=self)
        return CallAnswer(
            ok=done.ok, value=done.value, reason=done.reason or "", message=done.message
        )


# --- results -----------------------------------------------------------------------------------


def nested(depth: int) -> str:
    return f"x = 1\nfor _ in range({depth}): x = [x]\nreturn x"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return {1, 2}", "result is a set"),
        ("return {'a': [0, {'b': {1}}]}", 'result["a"][1]["b"] is a set'),
        ("state['a'] = b'x'", 'state["a"] is a bytes'),
        ("state['list'].append({1})", 'state["list"][1] is a set'),
        ("return float('nan')", "result is not a finite number"),
        ("return [1, float('inf')]", "result[1] is not a finite number"),
        ("return 'a\\0b'", "NUL"),
        ("return {'a\\0b': 1}", "NUL"),
        ("return ['\\ud800']", "result[0] holds a lone surrogate"),
        ("return 2**63", "64 bits"),
        ("return -2**63", "64 bits"),
        ("return 10**5000", "64 bits"),
        (nested(65), "deeper than 64"),
        ("x = []\nx.append(x)\nreturn x", "deeper than 64"),
        ("return {1: 'a'}", "text"),
        ("return {'a': {1: 'a'}}", "key 1"),
        ("state[1] = 2", "text"),
        ("return (n for n in [1])", "generator"),
        ("return datetime.datetime.now()", "isoformat"),
        ("return decimal.Decimal(1)", "Decimal"),
        ("return print", "builtin_function"),
    ],
)
def test_what_is_no_storable_json_is_an_error_that_names_the_place(
    sandbox: Sandbox, body: str, words: str
) -> None:
    outcome = sandbox.run(node(body, {"list": [1]}))
    assert outcome.reason == "error"
    assert words in outcome.message
    assert (outcome.value, outcome.patch) == (None, None)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("return (1, (2, [3]))", [1, [2, [3]]]),
        ("return None", None),
        ("return True", True),
        ("return 2**63 - 1", 2**63 - 1),
        ("return 'é 漢 🌱'", "é 漢 🌱"),
        ("return collections.OrderedDict(a=collections.Counter('aab'))", {"a": {"a": 2, "b": 1}}),
        ("return collections.namedtuple('P', 'x y')(1, 2)", [1, 2]),
        ("pass", None),
    ],
)
def test_json_values_come_back(sandbox: Sandbox, body: str, value: object) -> None:
    outcome = sandbox.run(node(body))
    assert outcome.ok, outcome.message
    assert outcome.value == value


def test_depth_64_is_the_last_that_passes(sandbox: Sandbox) -> None:
    assert sandbox.run(node(nested(64))).ok


def test_a_result_of_exactly_the_limit_passes_and_one_byte_more_does_not(sandbox: Sandbox) -> None:
    assert sandbox.run(node(f"return 'x' * {1_048_576 - 2}")).ok
    outcome = sandbox.run(node(f"return 'x' * {1_048_576 - 1}"))
    assert outcome.reason == "output_too_large"
    assert "1048576" in outcome.message


@pytest.mark.parametrize(
    "body",
    [
        "return 'é' * 60",
        "return [['x' * 50] * 1000] * 1000",
        "state['big'] = list(range(1000))",
        "invoke('t', 'x' * 200)",
        "invoke('t', big='x' * 200)",
    ],
)
def test_whatever_is_larger_than_its_limit_is_output_too_large(sandbox: Sandbox, body: str) -> None:
    outcome = sandbox.run(node(body, limits=Limits(result_bytes=100)))
    assert outcome.reason == "output_too_large"


# --- errors ------------------------------------------------------------------------------------


def test_an_error_says_its_type_its_text_and_the_users_line(sandbox: Sandbox) -> None:
    text = "def helper(x):\n  return x['missing']\ndef f(state):\n  return helper({})"
    outcome = sandbox.run(source("f", text, {}))
    assert outcome.message == "KeyError: 'missing' (line 2 of f: return x['missing'])"


def test_an_error_inside_a_module_points_at_the_users_line(sandbox: Sandbox) -> None:
    outcome = sandbox.run(node("return json.loads('{')"))
    assert "JSONDecodeError" in outcome.message
    assert "line 2 of f: return json.loads('{')" in outcome.message


def test_an_error_of_a_library_names_its_file(sandbox: Sandbox) -> None:
    assert "deeds.py, line" in sandbox.run(deed("leave")).message


def test_an_error_that_cannot_be_read_is_told_as_far_as_it_can(sandbox: Sandbox) -> None:
    body = "class E(Exception):\n  def __str__(self): return 1 / 0\nraise E()"
    assert "ZeroDivisionError" in sandbox.run(node(body)).message
    outcome = sandbox.run(node("raise ValueError('\\0 \\ud800' + 'x' * 10**6)"))
    assert outcome.reason == "error"
    assert len(outcome.message) <= 2000


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("open('/etc/passwd')", "open() is not available"),
        ("eval('1')", "eval() is not available"),
        ("getattr(state, '__class__')", "__class__"),
        ("setattr(state, '__class__', 1)", "__class__"),
        ("json.codecs", "codecs"),
        ("random._os", "_os"),
        ("string.Formatter", "Formatter"),
        ("sys.exit()", "'sys' is not defined"),
    ],
)
def test_what_is_not_there_is_said_at_run_time(sandbox: Sandbox, body: str, words: str) -> None:
    outcome = sandbox.run(node(body))
    assert outcome.reason == "error"
    assert words in outcome.message


def test_an_import_that_was_not_checked_fails_at_run_time(sandbox: Sandbox) -> None:
    outcome = sandbox.run(node("import os"))
    assert "Import statements are not allowed in dynamic code" in outcome.message


def test_a_syntax_error_that_was_not_checked_is_an_error(sandbox: Sandbox) -> None:
    assert "line 2" in sandbox.run(node("return (")).message


def test_source_without_a_function_is_an_error(sandbox: Sandbox) -> None:
    outcome = sandbox.run(source("f", "x = 1", {}))
    assert (outcome.reason, outcome.message) == ("error", "f: no function is defined")


# --- what is there -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        "time.time() > 0",
        "time.strptime('2024', '%Y').tm_year == 2024",
        "datetime.datetime.strptime('2024-02-03', '%Y-%m-%d').day == 3",
        "datetime.date(2024, 2, 3).strftime('%d') == '03'",
        "math.floor(2.5) == 2",
        "json.loads('[1]') == [1]",
        "re.sub('a+', 'b', 'caat') == 'cbt'",
        "statistics.mean([1, 2, 3]) == 2",
        "statistics.NormalDist(0, 1).cdf(0) == 0.5",
        "list(itertools.chain([1], [2])) == [1, 2]",
        "functools.reduce(lambda a, b: a + b, [1, 2]) == 3",
        "collections.Counter('aa')['a'] == 2",
        "string.ascii_lowercase[0] == 'a'",
        "string.Template('$a').substitute(a=1) == '1'",
        "len(hashlib.sha256(b'').hexdigest()) == 64",
        "base64.b64encode(b'a').decode() == 'YQ=='",
        "textwrap.shorten('a b c', 3, placeholder='') == 'a b'",
        "len(str(uuid.uuid4())) == 36",
        "decimal.Decimal('0.1') + decimal.Decimal('0.2') == decimal.Decimal('0.3')",
        "fractions.Fraction(1, 3) * 3 == 1",
        "random.random() < 1",
        "len(str(10**4000)) == 4001",
        "isinstance(state, dict) and isinstance(state, WorkflowState)",
        "'\\N{BULLET}' == chr(8226)",
        "'ü'.encode('idna').decode('idna') == 'ü'",
    ],
)
def test_modules_and_builtins_are_there_without_an_import(
    sandbox: Sandbox, expression: str
) -> None:
    outcome = sandbox.run(node(f"return {expression}"))
    assert outcome.value is True, outcome.message


def test_annotations_need_not_exist(sandbox: Sandbox) -> None:
    text = "def f(state: WorkflowState, *, x: List[Nowhere] = 1) -> Elsewhere:\n  return x"
    assert sandbox.run(source("f", text, {})).value == 1


def test_classes_closures_and_generators_work(sandbox: Sandbox) -> None:
    body = (
        "class Point:\n"
        "  def __init__(self, x): self.x = x\n"
        "  @property\n"
        "  def twice(self): return self.x * 2\n"
        "class Deep(Point):\n"
        "  def __init__(self, x): super().__init__(x + 1)\n"
        "return sum(p.twice for p in map(Deep, range(3)))"
    )
    assert sandbox.run(node(body)).value == 12


# --- which function ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"), [("first", "first"), ("other", "last"), ("tools", "last")]
)
def test_the_named_function_is_called_else_the_last(
    sandbox: Sandbox, name: str, expected: str
) -> None:
    text = "def first(s): return 'first'\ndef last(s): return 'last'"
    assert sandbox.run(source(name, text, {})).value == expected


def test_a_function_may_be_called_like_a_module(sandbox: Sandbox) -> None:
    assert sandbox.run(source("statistics", "def statistics(s): return 7", {})).value == 7


@pytest.mark.parametrize(
    ("head", "value"),
    [
        ("", [None, None]),
        ("s", ["s", None]),
        ("s, ctx", ["s", "r1"]),
        ("s, context=None", ["s", "r1"]),
        ("s, limit=3", ["s", None]),
        ("s, *, context", ["s", "r1"]),
        ("s, limit=3, context=None", ["s", "r1"]),
        ("*args", ["s", None]),
        ("s, /, ctx", ["s", "r1"]),
        ("**named", [None, None]),
    ],
)
def test_a_function_gets_what_its_parameters_ask_for(
    sandbox: Sandbox, head: str, value: object
) -> None:
    text = (
        f"def f({head}):\n"
        "  given = [v for v in locals_of() if v is not None]\n"
        "  states = ['s' for v in given if isinstance(v, dict)] + [None]\n"
        "  runs = [v.run_id for v in given if hasattr(v, 'run_id')] + [None]\n"
        "  return [states[0], runs[0]]\n"
    )
    names = [part.split("=")[0].strip(" *") for part in head.split(",")]
    listed = ", ".join(name for name in names if name and name not in ("/", "named"))
    flat = f"sum([list(v) if isinstance(v, tuple) else [v] for v in [{listed}]], [])"
    text = text.replace("locals_of()", flat)
    outcome = sandbox.run(source("f", text, {}, context={"run_id": "r1"}))
    assert outcome.value == value, outcome.message


def test_arguments_by_name_may_go_with_the_state(sandbox: Sandbox) -> None:
    text = "def f(state, threshold, *, unit='s'): return [state['n'], threshold, unit]"
    arguments = {"state": {"n": 1}, "kwargs": {"threshold": 5}}
    job = Job(mode="node", name="f", source=text, arguments=arguments)
    assert sandbox.run(job).value == [1, 5, "s"]


def test_the_context_says_which_step_it_is(sandbox: Sandbox) -> None:
    facts = {"run_id": "r", "node": "n", "iteration": 2, "attempt": 1, "step": "n#2"}
    outcome = sandbox.run(deed("context_of", context=facts))
    assert outcome.value == {**facts, "idempotency_key": None}


# --- the state ---------------------------------------------------------------------------------


def patched(sandbox: Sandbox, body: str, state: dict[str, Any]) -> Outcome:
    outcome = sandbox.run(node(body, state))
    assert outcome.ok, outcome.message
    return outcome


def test_the_published_increment_works(sandbox: Sandbox) -> None:
    outcome = sandbox.run(source("increment", INCREMENT, {"value": 1, "other": [1]}))
    assert (outcome.patch, outcome.value) == ({"value": 2}, {"value": 2})


def test_a_published_tool_works_as_a_node(sandbox: Sandbox) -> None:
    job = Job(mode="tool", name="add_one", source=ADD_ONE, arguments={"state": {"n": 5}})
    assert sandbox.run(job).patch == {"n": 6}


@pytest.mark.parametrize(
    ("body", "patch"),
    [
        ("pass", {}),
        ("state.set('a', 1)", {"a": 1}),
        ("state['a'] = 2", {"a": 2}),
        ("state.update({'a': 1}, b=2)", {"a": 1, "b": 2}),
        ("state.update([('x', 1)])", {"x": 1}),
        ("state |= {'x': 1}", {"x": 1}),
        ("state.setdefault('a', 9), state.setdefault('x', 9)", {"x": 9}),
        ("state['items'].append(3)", {"items": [1, 2, 3]}),
        ("state['deep']['x']['y'] = 1", {"deep": {"x": {"y": 1}}}),
        ("state.snapshot()['items'].append(3)", {}),
        ("return {'x': 1}", {"x": 1}),
        ("return {'a': 1}", {"a": 1}),
        ("return {**state, 'x': 1}", {"x": 1}),
        ("return state.snapshot()", {}),
        ("return {**state, 'a': True}", {"a": True}),
        ("return {**state, 'a': 1.0}", {"a": 1.0}),
        ("class Whole(int): pass\nreturn {**state, 'a': Whole(1)}", {}),
        ("class Name(str): pass\nreturn {**state, 's': Name('s')}", {}),
        ("state.update({**state, 'x': 1})", {"x": 1}),
        ("state.set('x', 1)\nreturn {'y': 2}", {"x": 1, "y": 2}),
        ("state['a'] = True", {"a": True}),
        ("state.set('x', 1)\nreturn 'text'", {"x": 1}),
        ("state['x'] = 1\ndel state['x']", {}),
    ],
)
def test_what_is_set_or_changed_comes_back_as_a_patch(
    sandbox: Sandbox, body: str, patch: dict[str, Any]
) -> None:
    state = {"a": 1, "s": "s", "items": [1, 2], "deep": {"x": {}}}
    assert patched(sandbox, body, state).patch == patch


def test_true_is_another_value_than_one(sandbox: Sandbox) -> None:
    assert patched(sandbox, "state['box'][0] = True", {"box": [1]}).patch == {"box": [True]}


@pytest.mark.parametrize(
    ("body", "removed"),
    [
        ("del state['a']", ("a",)),
        ("state.pop('a'), state.pop('none', None)", ("a",)),
        ("state.popitem()", ("b",)),
        ("state.clear()", ("a", "b")),
        ("del state['a']\nstate['a'] = 3", ()),
        ("state['new'] = 1\ndel state['new']", ()),
    ],
)
def test_what_is_deleted_is_told_apart(
    sandbox: Sandbox, body: str, removed: tuple[str, ...]
) -> None:
    assert patched(sandbox, body, {"a": 1, "b": 2}).removed == removed


def test_popping_what_is_not_there_is_an_error(sandbox: Sandbox) -> None:
    assert "KeyError" in sandbox.run(node("state.pop('x')")).message


def test_a_result_beside_the_state_is_kept_apart(sandbox: Sandbox) -> None:
    outcome = patched(sandbox, "state.set('x', 1)\nreturn [1]", {})
    assert (outcome.value, outcome.patch) == ([1], {"x": 1})
    assert patched(sandbox, "return {'x': 1}", {}).value == {"x": 1}


def test_the_state_reads_like_a_dict(sandbox: Sandbox) -> None:
    body = (
        "return [state.get('a'), state.get('x', 7), 'a' in state, 'x' in state,"
        " list(state.keys()), len(state), json.dumps(state), dict(state)]"
    )
    outcome = sandbox.run(node(body, {"a": 1}))
    assert outcome.value == [1, 7, True, False, ["a"], 1, '{"a": 1}', {"a": 1}]


# --- conditions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "choice"),
    [
        ("return state['n'] < 3", True),
        ("return state['n'] > 3", False),
        ("return 'next' if state['n'] == 2 else 'end'", "next"),
        ("return invoke('t') == 1", True),
    ],
)
def test_a_condition_judges_what_the_node_left(sandbox: Sandbox, body: str, choice: object) -> None:
    job = node("state['n'] += 1", {"n": 1}, choose=condition(body))
    outcome = sandbox.run(job, on_call=lambda *_: CallAnswer(ok=True, value=1))
    assert (outcome.ok, outcome.choice) == (True, choice)


@pytest.mark.parametrize("body", ["return state", "pass", "return 1", "return {'a': 1}"])
def test_a_condition_that_gives_no_choice_is_an_error(sandbox: Sandbox, body: str) -> None:
    outcome = sandbox.run(node("return 1", choose=condition(body)))
    assert outcome.reason == "error"
    assert outcome.message.startswith("judge: a condition returns True, False")


def test_a_condition_that_fails_is_named(sandbox: Sandbox) -> None:
    outcome = sandbox.run(node("return 1", choose=condition("return 1 / 0")))
    assert outcome.message == "ZeroDivisionError: division by zero (line 2 of judge: return 1 / 0)"


def test_a_condition_changes_nothing(sandbox: Sandbox) -> None:
    body = "state['items'].append(1); state['x'] = 1; return True"
    outcome = sandbox.run(node("state['y'] = 1", {"items": []}, choose=condition(body)))
    assert (outcome.choice, outcome.patch) == (True, {"y": 1})


def test_a_condition_may_be_asked_alone(sandbox: Sandbox) -> None:
    job = Job(
        mode="node",
        name="gate",
        arguments={"state": {"n": 1}},
        choose=condition("return state['n'] == 1"),
    )
    outcome = sandbox.run(job)
    assert (outcome.choice, outcome.patch, outcome.value) == (True, {}, None)


def test_a_library_has_conditions_of_its_own(sandbox: Sandbox) -> None:
    judge = Choose(name="small", library="tests.unit.sandbox.deeds:small")
    assert sandbox.run(deed("grow", {"n": 1}, choose=judge)).choice is True
    assert sandbox.run(deed("grow", {"n": 2}, choose=judge)).choice is False


# --- tools -------------------------------------------------------------------------------------


def test_a_tool_gets_its_arguments_as_they_were_given(sandbox: Sandbox) -> None:
    text = "def my_tool(arg1: str, arg2: int) -> dict:\n  return {'result': f'{arg1} - {arg2}'}"
    assert sandbox.run(tool(text, "hello", 42)).value == {"result": "hello - 42"}
    assert sandbox.run(tool(text, "hello", arg2=42)).value == {"result": "hello - 42"}
    outcome = sandbox.run(tool(text, "hello"))
    assert outcome.reason == "error"
    assert "arg2" in outcome.message
    assert outcome.patch is None


@pytest.mark.parametrize(
    "call", ["invoke('add_one', state)", "tools['add_one'](state)", "tools.add_one(state)"]
)
@pytest.mark.parametrize("use", ["return {}", "x = {}\nreturn x", "state.update({})"])
def test_the_published_tool_is_called_naturally(sandbox: Sandbox, call: str, use: str) -> None:
    registry = Registry(sandbox, add_one=ADD_ONE)
    outcome = sandbox.run(node(use.format(call), {"n": 1, "other": 2}), on_call=registry)
    assert outcome.patch == {"n": 2}, outcome.message
    assert registry.asked == [("add_one", [{"n": 1, "other": 2}], {})]


def test_a_state_is_handed_over_as_a_copy(sandbox: Sandbox) -> None:
    registry = Registry(sandbox, add_one=ADD_ONE)
    outcome = sandbox.run(
        node("invoke('add_one', state)\nreturn state", {"n": 1}), on_call=registry
    )
    assert outcome.patch == {}


def test_tools_call_tools(sandbox: Sandbox) -> None:
    registry = Registry(
        sandbox,
        add_one=ADD_ONE,
        add_two="def add_two(state): return invoke('add_one', invoke('add_one', state))",
    )
    outcome = sandbox.run(node("return tools.add_two({'n': 1})['n']"), on_call=registry)
    assert outcome.value == 3
    assert [name for name, _, _ in registry.asked] == ["add_two", "add_one", "add_one"]


def test_a_library_calls_tools_through_its_context(sandbox: Sandbox) -> None:
    registry = Registry(sandbox, add_one=ADD_ONE)
    assert sandbox.run(deed("ask", {"n": 1}), on_call=registry).patch == {"n": 2}


def test_a_failed_tool_is_an_error_of_its_caller(sandbox: Sandbox) -> None:
    registry = Registry(sandbox, broken="def broken(): return 1 / 0")
    outcome = sandbox.run(node("return invoke('broken')"), on_call=registry)
    assert outcome.reason == "error"
    assert "ToolError: broken: ZeroDivisionError" in outcome.message
    assert "line 2 of f" in outcome.message


def test_a_failed_tool_may_be_survived(sandbox: Sandbox) -> None:
    body = "try: invoke('none')\nexcept ToolError as e: return [e.tool, e.reason, str(e)]"
    outcome = sandbox.run(node(body), on_call=Registry(sandbox))
    assert outcome.value == ["none", "unknown_tool", "none: there is no such tool"]
    assert sandbox.run(node(body)).value == ["none", "unknown_tool", "none: there is no tool none"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("invoke('t', {1})", "arguments of t[0] is a set"),
        ("invoke('t', x=[float('nan')])", 'arguments of t["x"][0] is not a finite'),
        ("invoke(print)", "by its name"),
        ("invoke('\\ud800')", "surrogate"),
        ("invoke('x' * 2000)", "the name of a tool"),
        ("invoke()", "argument"),
    ],
)
def test_a_call_that_cannot_be_sent_is_the_callers_error(
    sandbox: Sandbox, call: str, words: str
) -> None:
    asked: list[object] = []

    def on_call(*call: object) -> CallAnswer:
        asked.append(call)
        return CallAnswer(ok=True)

    outcome = sandbox.run(node(call), on_call=on_call)
    assert outcome.reason in ("error", "output_too_large")
    assert words in outcome.message
    assert asked == []


def test_a_suspended_call_ends_the_execution_without_failure(sandbox: Sandbox) -> None:
    answer = CallAnswer(ok=False, suspend=True, message="a person must be asked")
    lines: list[str] = []
    job = node("print('before')\ninvoke('pay')\nprint('after')")
    outcome = sandbox.run(job, on_call=lambda *_: answer, on_log=lambda _, line: lines.append(line))
    assert (outcome.ok, outcome.reason, outcome.suspended) == (False, None, True)
    assert outcome.message == "a person must be asked"
    assert lines == ["before"]


def test_what_answers_a_call_may_raise(sandbox: Sandbox) -> None:
    def on_call(*_: object) -> CallAnswer:
        raise LookupError("the database is away")

    with pytest.raises(LookupError, match="away"):
        sandbox.run(node("invoke('t')"), on_call=on_call)


def test_the_deadline_goes_on_during_a_call(sandbox: Sandbox) -> None:
    def on_call(*_: object) -> CallAnswer:
        sandbox.run(node("time.sleep(600)", limits=within(0.5)))
        return CallAnswer(ok=True)

    outcome = sandbox.run(node("invoke('slow')", limits=within(0.3)), on_call=on_call)
    assert outcome.reason == "timeout"


def test_100_calls_in_one_execution_are_answered_in_order(sandbox: Sandbox) -> None:
    job = node("return [invoke('echo', n) for n in range(100)]")
    outcome = sandbox.run(job, on_call=lambda _, args, __: CallAnswer(ok=True, value=args[0]))
    assert outcome.value == list(range(100))
