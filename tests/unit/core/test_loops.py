from __future__ import annotations

import time
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engine.core import loops


def regions(*ways: str) -> dict[str, set[str]]:
    """Loops of a graph whose ways are written `a b c`; a way with `!` is labelled `loop`."""
    edges = [
        (source, target, way.endswith("!"))
        for way in ways
        for source, target in pairwise(way.rstrip(" !").split())
    ]
    nodes = list(dict.fromkeys(node for source, target, _ in edges for node in (source, target)))
    return {node: set(loop) for node, loop in loops.regions(nodes, edges).items()}


def test_a_chain_has_no_loops() -> None:
    assert regions("a b c") == {}


def test_a_node_that_follows_itself_is_a_loop() -> None:
    assert regions("a b b c") == {"b": {"b"}}


def test_a_cycle_is_a_loop() -> None:
    assert regions("s a b c a", "c e") == {key: {"a", "b", "c"} for key in "abc"}


def test_an_inner_loop_is_told_from_the_outer() -> None:
    found = regions("s a b c b", "c d a", "d e")
    assert found == {"a": set("abcd"), "b": {"b", "c"}, "c": {"b", "c"}, "d": set("abcd")}


def test_a_node_with_a_labelled_way_back_to_the_outer_loop_is_bounded_by_it() -> None:
    # c turns with b, but its way back to a is the one that its bound speaks of.
    found = regions("s a b c b", "c a !", "c e")
    assert found["c"] == set("abc")
    assert found["b"] == {"b", "c"}


def test_separate_loops_are_separate() -> None:
    assert regions("a b a", "b c d c") == {
        **{key: {"a", "b"} for key in "ab"},
        "c": {"c", "d"},
        "d": {"c", "d"},
    }


def test_the_loop_at_the_start_is_headed_by_the_start() -> None:
    # Nothing enters it from outside; were b its head, c would not be a loop of its own.
    assert regions("a b c b", "b a") == {"a": set("abc"), "b": {"b", "c"}, "c": {"b", "c"}}


def test_a_loop_with_two_entries_is_one_loop() -> None:
    assert regions("s a b a", "s b") == {key: {"a", "b"} for key in "ab"}


def test_a_long_chain_with_a_way_back_is_no_matter_for_the_stack() -> None:
    nodes = [f"n{number}" for number in range(20_000)]
    edges = [(one, other, False) for one, other in pairwise(nodes)]
    found = loops.regions(nodes, [*edges, (nodes[-1], nodes[0], True)])
    assert len(found) == len(found[nodes[0]]) == 20_000


def test_a_graph_made_to_be_hard_is_done_in_time() -> None:
    # A thousand loops in one another, then a thousand nodes with five ways each.
    nodes = [f"n{number}" for number in range(1000)]
    chain = [(one, other, False) for one, other in pairwise(nodes)]
    nested = chain + [(other, one, True) for one, other in pairwise(nodes)]
    dense = [
        (nodes[i], nodes[(i * 7 + j * 131) % 1000], j == 0) for i in range(1000) for j in range(5)
    ]
    began = time.process_time()
    assert len(loops.regions(nodes, nested)) == 1000
    assert loops.regions(nodes, dense)
    assert time.process_time() - began < 5


def test_ways_are_followed_from_every_start() -> None:
    edges = [("a", "b"), ("b", "c"), ("d", "e"), ("e", "d")]
    assert loops.reachable(["a"], edges) == set("abc")
    assert loops.reachable(["b", "d"], edges) == set("bcde")
    assert loops.reachable([], edges) == set()


EDGES = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef"), st.booleans()))


@given(EDGES)
def test_components_are_what_reaches_itself_both_ways(edges: list[tuple[str, str, bool]]) -> None:
    ways = [(source, target) for source, target, _ in edges]
    reach = {node: loops.reachable([node], ways) for node in "abcdef"}
    expected = {
        frozenset(other for other in "abcdef" if other in reach[node] and node in reach[other])
        for node in "abcdef"
    }
    assert set(loops.components("abcdef", ways)) == expected


@given(EDGES, st.permutations("bcdef"))
def test_a_node_has_a_loop_exactly_if_it_lies_on_a_cycle(
    edges: list[tuple[str, str, bool]], order: list[str]
) -> None:
    ways = [(source, target) for source, target, _ in edges]
    found = loops.regions(["a", *order], edges)
    for node in "abcdef":
        behind = [target for source, target in ways if source == node]
        assert (node in loops.reachable(behind, ways)) == (node in found)
    assert all(node in loop for node, loop in found.items())
