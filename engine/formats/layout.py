"""Where things stand in a picture of a graph: rows from the top down, few crossings, few bends.

The known way in layers: edges that close a circle are turned round for as long as it takes,
each box stands in the row after the last that leads to it, edges that pass a row get a place
there, rows are put in order by the middle of their neighbours, and every row is then shifted
to where its lines are straightest. The same graph gives the same picture.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

#: Between two boxes of a row, a box and a line that passes, and two lines.
_GAP = 36.0
_BESIDE = 24.0
_LANE = 18.0
_ROW = 24.0
_WIDE_ROW = 56.0
#: Between the ends of lines at one box.
_PORT = 20.0
#: Places of lines in rows, in all. The longest lines of a vast graph are drawn across.
_MOST_LANES = 8_000
_LOOP = 24.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Something with a size that lines lead to."""

    width: float
    height: float
    #: How much of its top and bottom is level.
    level: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line between two boxes, by their numbers, with the size of what is written on it."""

    source: int
    target: int
    width: float = 0.0
    height: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a line runs: from point to point."""

    points: tuple[tuple[float, float], ...]
    #: Whether it begins, and ends, at the side of a box.
    aside: tuple[bool, bool] = (False, False)
    #: The middle of what is written on it.
    label: tuple[float, float] | None = None
    #: It leads up, against the reading.
    back: bool = False
    #: It leads from a box to itself.
    loop: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The middles of the boxes, the ways of the lines, and the size of it all."""

    boxes: tuple[tuple[float, float], ...]
    routes: tuple[Route, ...]
    width: float
    height: float


def layout(boxes: Sequence[Box], lines: Sequence[Line]) -> Layout:
    """Place boxes and lines; the first box is where reading begins."""
    picture = _Picture(boxes=boxes, lines=lines)
    _put_in_rows(picture)
    _put_in_order(picture)
    _find_sides(picture)
    _find_ports(picture)
    _shift(picture)
    return _drawn(picture)


@dataclass(slots=True, kw_only=True)
class _Item:
    """What takes a place in a row: a box, or a line that passes."""

    row: int
    left: float = 0.0
    right: float = 0.0
    height: float = 0.0
    lane: bool = False
    x: float = 0.0
    #: What it is tied to, with the line that ties it: below (False) and above (True).
    tied: tuple[list[tuple[int, int]], list[tuple[int, int]]] = field(
        default_factory=lambda: ([], [])
    )


@dataclass(slots=True, kw_only=True)
class _Picture:
    boxes: Sequence[Box]
    lines: Sequence[Line]
    #: Boxes first, by their numbers; then the places of lines.
    items: list[_Item] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)
    back: set[int] = field(default_factory=set)
    #: Lines that are drawn straight across, for want of places.
    across: set[int] = field(default_factory=set)
    #: The items that a line leads through, from the upper box to the lower.
    chains: dict[int, list[int]] = field(default_factory=dict)
    #: Where each line's label is.
    labels: dict[int, int] = field(default_factory=dict)
    #: The lines from each box to itself.
    loops: dict[int, list[int]] = field(default_factory=dict)
    #: How far from the middle of a box a line ends.
    ports: dict[tuple[int, int], float] = field(default_factory=dict)
    #: Where it ends at the side of a box instead: 1 right, -1 left.
    sides: dict[tuple[int, int], int] = field(default_factory=dict)


# --- rows --------------------------------------------------------------------------------------


def _put_in_rows(picture: _Picture) -> None:
    leaving: list[list[int]] = [[] for _ in picture.boxes]
    for number, line in enumerate(picture.lines):
        if line.source == line.target:
            picture.loops.setdefault(line.source, []).append(number)
        else:
            leaving[line.source].append(number)
    order = _first_seen(picture, leaving)
    rank = [0] * len(picture.boxes)
    for source in order:
        for number in leaving[source]:
            if number not in picture.back:
                target = picture.lines[number].target
                rank[target] = max(rank[target], rank[source] + 1)
    # What is written on lines stands in rows of its own.
    step = 2 if any(line.width for line in picture.lines) else 1
    for number, box in enumerate(picture.boxes):
        aside, height = _beside(picture, number)
        picture.items.append(
            _Item(
                row=rank[number] * step,
                left=box.width / 2,
                right=box.width / 2 + aside,
                height=max(box.height, height),
            )
        )
    _lay_lanes(picture)
    _fill_rows(picture, order)


def _first_seen(picture: _Picture, leaving: Sequence[Sequence[int]]) -> list[int]:
    """The boxes so that all lines but those that close a circle lead from earlier to later."""
    state = [0] * len(picture.boxes)  # 1: being followed, 2: done
    done: list[int] = []
    for root in range(len(picture.boxes)):
        if state[root]:
            continue
        state[root] = 1
        walk = [(root, iter(leaving[root]))]
        while walk:
            box, rest = walk[-1]
            number = next(rest, None)
            if number is None:
                state[box] = 2
                done.append(box)
                walk.pop()
                continue
            target = picture.lines[number].target
            if state[target] == 1:
                picture.back.add(number)
            elif state[target] == 0:
                state[target] = 1
                walk.append((target, iter(leaving[target])))
    return done[::-1]


def _lay_lanes(picture: _Picture) -> None:
    """Give each line a place in every row that it passes."""
    spans = []
    for number, line in enumerate(picture.lines):
        if line.source != line.target:
            ends = (line.source, line.target)
            upper, lower = ends[::-1] if number in picture.back else ends
            spans.append(
                (picture.items[lower].row - picture.items[upper].row, number, upper, lower)
            )
    lanes = 0
    for span, number, upper, lower in sorted(spans):
        lanes += span - 1
        if lanes > _MOST_LANES:
            picture.chains[number] = [upper, lower]
            picture.across.add(number)
            continue
        first = picture.items[upper].row + 1
        chain = [upper]
        for row in range(first, picture.items[lower].row):
            chain.append(len(picture.items))
            picture.items.append(_Item(row=row, lane=True))
        chain.append(lower)
        picture.chains[number] = chain
        if picture.lines[number].width and len(chain) > 2:  # noqa: PLR2004  # it has a place between
            _label(picture, number, chain[-2] if number in picture.back else chain[1])
        for one, other in itertools.pairwise(chain):
            picture.items[one].tied[False].append((other, number))
            picture.items[other].tied[True].append((one, number))


def _label(picture: _Picture, number: int, item: int) -> None:
    line = picture.lines[number]
    picture.labels[number] = item
    picture.items[item].left = picture.items[item].right = line.width / 2
    picture.items[item].height = line.height


def _beside(picture: _Picture, box: int) -> tuple[float, float]:
    """The room that a box's lines to itself take beside it, with what is written on them."""
    lines = [picture.lines[number] for number in picture.loops.get(box, ())]
    if not lines:
        return 0.0, 0.0
    widest, highest = (
        max(sizes) for sizes in zip(*((each.width, each.height) for each in lines), strict=True)
    )
    return _LOOP + widest + (6 if widest else 0), (highest + 2) * len(lines)


def _fill_rows(picture: _Picture, order: Sequence[int]) -> None:
    """Every row from left to right, as one first comes by."""
    picture.rows = [[] for _ in range(max((item.row for item in picture.items), default=0) + 1)]
    seen: set[int] = set()
    for root in order:
        waiting = [root]
        while waiting:
            number = waiting.pop()
            if number not in seen:
                seen.add(number)
                picture.rows[picture.items[number].row].append(number)
                waiting += (other for other, _ in reversed(picture.items[number].tied[False]))


# --- order -------------------------------------------------------------------------------------


def _put_in_order(picture: _Picture) -> None:
    """Sort rows by the middle of their neighbours, up and down, and keep what crosses least."""
    best, fewest = [list(row) for row in picture.rows], _crossings(picture)
    sweeps = 24 if len(picture.items) < 2000 else 6  # noqa: PLR2004  # a second or so
    for sweep in range(sweeps):
        if fewest == 0:
            break
        down = sweep % 2 == 0
        rows = picture.rows[1:] if down else picture.rows[-2::-1]
        for row in rows:
            _sort(picture, row, down=down, rightmost=sweep % 4 > 1)
        _swap(picture)
        found = _crossings(picture)
        if found < fewest:
            best, fewest = [list(row) for row in picture.rows], found
    picture.rows = best


def _sort(picture: _Picture, row: list[int], *, down: bool, rightmost: bool) -> None:
    neighbours = _neighbours(picture, row, down=down)
    place = {number: index for index, number in enumerate(row)}

    def middle(number: int) -> tuple[float, int]:
        beside = neighbours[number]
        # Alone it stays about where it is; equals change sides from time to time.
        mean = sum(beside) / len(beside) if beside else float(place[number])
        return mean, -place[number] if rightmost else place[number]

    row.sort(key=middle)


def _neighbours(picture: _Picture, row: Sequence[int], *, down: bool) -> dict[int, list[int]]:
    """The places, in the row before, of what each item of a row is tied to."""
    index = picture.items[row[0]].row + (-1 if down else 1) if row else -1
    beside = picture.rows[index] if 0 <= index < len(picture.rows) else []
    places = {number: place for place, number in enumerate(beside)}
    return {
        number: [places[other] for other, _ in picture.items[number].tied[down]] for number in row
    }


def _swap(picture: _Picture) -> None:
    """Swap neighbours in a row where that leaves fewer crossings."""
    if len(picture.items) > 1000:  # noqa: PLR2004  # it looks at every pair
        return
    for row in picture.rows:
        up = _neighbours(picture, row, down=True)
        low = _neighbours(picture, row, down=False)
        for index in range(len(row) - 1):
            one, other = row[index], row[index + 1]
            now = _pairs(up[one], up[other]) + _pairs(low[one], low[other])
            then = _pairs(up[other], up[one]) + _pairs(low[other], low[one])
            if then < now:
                row[index], row[index + 1] = other, one


def _pairs(left: Sequence[int], right: Sequence[int]) -> int:
    """How often lines of two items cross that stand in this order."""
    return sum(one > other for one in left for other in right)


def _crossings(picture: _Picture) -> int:
    total = 0
    for row in picture.rows:
        below = _neighbours(picture, row, down=False)
        ends: list[int] = []
        for number in row:
            mine = sorted(below[number])
            for place in mine:
                total += len(ends) - bisect_left(ends, place + 1)
            for place in mine:
                insort(ends, place)
    return total


# --- places ------------------------------------------------------------------------------------


def _shift(picture: _Picture) -> None:
    """Shift every row to where its lines are straightest (Brandes and Köpf, with ports).

    Items that a line leads straight through form a column; columns stand as close as they
    may. That is done four times, from every corner, and the middle of the four is taken.
    """
    bars = _bars(picture)
    found: list[list[float]] = []
    for down, mirrored in itertools.product((True, False), (False, True)):
        found.append(_columns(picture, bars, down=down, mirrored=mirrored))
    widths = [max(places) - min(places) for places in found]
    narrow = found[widths.index(min(widths))]
    for number, places in enumerate(found):
        end = max if number % 2 else min
        apart = end(narrow) - end(places)
        found[number] = [place + apart for place in places]
    for item, corners in zip(picture.items, zip(*found, strict=True), strict=True):
        _, low, high, _ = sorted(corners)
        item.x = (low + high) / 2


def _bars(picture: _Picture) -> set[tuple[int, int]]:
    """Ties that cross a long line, which has precedence, by their upper and lower item."""
    found: set[tuple[int, int]] = set()
    for upper, lower in itertools.pairwise(picture.rows):
        place = {number: index for index, number in enumerate(upper)}
        left, scanned = -1, 0
        for index, number in enumerate(lower):
            inner = _inner(picture, number)
            if inner is None and index < len(lower) - 1:
                continue
            right = len(upper) if inner is None else place[inner]
            for other in lower[scanned : index + 1]:
                found.update(
                    (each, other)
                    for each, _ in picture.items[other].tied[True]
                    if not left <= place[each] <= right and _inner(picture, other) != each
                )
            left, scanned = right, index + 1
    return found


def _inner(picture: _Picture, number: int) -> int | None:
    """The place of a long line above a place of it."""
    item = picture.items[number]
    if not item.lane or not item.tied[True]:
        return None
    above, _ = item.tied[True][0]
    return above if picture.items[above].lane else None


def _columns(
    picture: _Picture, bars: set[tuple[int, int]], *, down: bool, mirrored: bool
) -> list[float]:
    """Where items stand if columns are formed from one corner on."""
    turn = -1 if mirrored else 1
    rows = [row[::turn] for row in (picture.rows if down else picture.rows[::-1])]
    place = {number: index for row in rows for index, number in enumerate(row)}
    root = list(range(len(picture.items)))
    inner = [0.0] * len(picture.items)
    for row in rows:
        last = -1
        for number in row:
            ties = sorted(
                (place[other], other, apart) for other, apart in _ties(picture, number, down=down)
            )
            for where, other, apart in ties[(len(ties) - 1) // 2 : len(ties) // 2 + 1]:
                ends = (other, number) if down else (number, other)
                if root[number] == number and where > last and ends not in bars:
                    root[number] = root[other]
                    inner[number] = inner[other] + apart * turn
                    last = where
    x = _packed(picture, rows, root, inner, mirrored=mirrored)
    return [turn * (x[root[number]] + inner[number]) for number in range(len(picture.items))]


def _ties(picture: _Picture, number: int, *, down: bool) -> list[tuple[int, float]]:
    """What an item would stand straight below, or above, and how far from its middle.

    Lines that lead up hold no box: what leads on ought to be straight.
    """
    found = []
    for other, line in picture.items[number].tied[down]:
        lanes = picture.items[number].lane and picture.items[other].lane
        if line not in picture.back or lanes:
            apart = picture.ports.get((other, line), 0.0) - picture.ports.get((number, line), 0.0)
            found.append((other, apart))
    return found


def _packed(
    picture: _Picture,
    rows: Sequence[Sequence[int]],
    root: Sequence[int],
    inner: Sequence[float],
    *,
    mirrored: bool,
) -> dict[int, float]:
    """Where each column stands if all are as far to the left as they can, and no further."""
    after: dict[int, dict[int, float]] = {column: {} for column in root}
    before = dict.fromkeys(after, 0)
    for row in rows:
        for one, other in itertools.pairwise(row):
            ends = (other, one) if mirrored else (one, other)
            apart = _distance(picture.items[ends[0]], picture.items[ends[1]])
            apart += inner[one] - inner[other]
            if root[other] not in after[root[one]]:
                before[root[other]] += 1
            known = after[root[one]].get(root[other], apart)
            after[root[one]][root[other]] = max(known, apart)
    x = dict.fromkeys(after, 0.0)
    ready = [column for column, count in before.items() if not count]
    for column in ready:
        for other, apart in after[column].items():
            x[other] = max(x[other], x[column] + apart)
            before[other] -= 1
            if not before[other]:
                ready.append(other)
    for column in reversed(ready):
        if after[column]:
            x[column] = max(
                x[column], min(x[other] - apart for other, apart in after[column].items())
            )
    return x


def _distance(left: _Item, right: _Item) -> float:
    gap = (_GAP, _BESIDE, _LANE)[left.lane + right.lane]
    return left.right + gap + right.left


def _find_ports(picture: _Picture) -> None:
    """How far from the middle of a box each line ends, side by side as they come."""
    place = {number: index for row in picture.rows for index, number in enumerate(row)}
    sides: dict[tuple[int, bool], list[tuple[int, int]]] = {}
    for number, chain in picture.chains.items():
        for box, beside, top in ((chain[0], chain[1], False), (chain[-1], chain[-2], True)):
            if (box, number) not in picture.sides:
                sides.setdefault((box, top), []).append((place[beside], number))
    for (box, _), ends in sides.items():
        apart = min(_PORT, picture.boxes[box].level / max(1, len(ends) - 1))
        for index, (_, number) in enumerate(sorted(ends)):
            picture.ports[box, number] = (index - (len(ends) - 1) / 2) * apart


def _find_sides(picture: _Picture) -> None:
    """Let lines that lead up begin and end at the sides of boxes, one at each, with a way beside.

    The longest come first, so that shorter ones run within them.
    """
    taken = {(box, 1) for box in picture.loops}
    back = picture.back - picture.across
    for number in sorted(back, key=lambda each: (-len(picture.chains[each]), each)):
        chain = picture.chains[number]
        for end, near in ((0, 1), (-1, -2)):
            box = chain[end]
            side = _side(picture, box, chain[near], down=end == 0)
            if (box, side) not in taken:
                taken.add((box, side))
                picture.sides[box, number] = side
                _lay_beside(picture, box, number, side)


def _side(picture: _Picture, box: int, beside: int, *, down: bool) -> int:
    """On which side of a box a line comes by that leads up: 1 right, -1 left."""
    tied = picture.items[box].tied[not down]
    others = [other for other, number in tied if number not in picture.back]
    row = picture.rows[picture.items[beside].row]
    if not others or not picture.items[beside].lane:
        return 1
    return 1 if row.index(beside) > sum(map(row.index, others)) / len(others) else -1


def _lay_beside(picture: _Picture, box: int, number: int, side: int) -> None:
    """Give a line a place beside the box that it leads to or from."""
    chain, row = picture.chains[number], picture.items[box].row
    upper = box == chain[0]
    lane, beside = len(picture.items), chain[1] if upper else chain[-2]
    picture.items.append(_Item(row=row, lane=True))
    picture.rows[row].insert(picture.rows[row].index(box) + (side > 0), lane)
    chain.insert(1 if upper else len(chain) - 1, lane)
    one, other = picture.items[box], picture.items[beside]
    down = not upper
    one.tied[down].remove((beside, number))
    other.tied[upper].remove((box, number))
    other.tied[upper].append((lane, number))
    picture.items[lane].tied[down].append((beside, number))


# --- drawing -----------------------------------------------------------------------------------


def _drawn(picture: _Picture) -> Layout:
    tops, heights = _row_places(picture)
    left = min((item.x - item.left for item in picture.items), default=0.0)
    for item in picture.items:
        item.x -= left
    middles = [tops[item.row] + heights[item.row] / 2 for item in picture.items]
    routes: list[Route] = []
    for number, line in enumerate(picture.lines):
        if line.source == line.target:
            routes.append(_loop(picture, number, middles))
            continue
        upper, *lanes, lower = picture.chains[number]
        first, last = (
            _end(picture, upper, number, middles, 1),
            _end(picture, lower, number, middles, -1),
        )
        points = [first]
        for lane in lanes:
            row, x = picture.items[lane].row, picture.items[lane].x
            if row > picture.items[upper].row:
                points.append((x, tops[row]))
            if row < picture.items[lower].row:
                points.append((x, tops[row] + heights[row]))
        points.append(last)
        back = number in picture.back
        label = picture.labels.get(number)
        place = None if label is None else (picture.items[label].x, middles[label])
        if place is None and line.width:
            place = ((first[0] + last[0]) / 2, (first[1] + last[1]) / 2)
        ordered = tuple(points[::-1] if back else points)
        aside = (lower, number) in picture.sides, (upper, number) in picture.sides
        routes.append(Route(points=ordered, aside=aside, label=place, back=back))
    return Layout(
        boxes=tuple((picture.items[n].x, middles[n]) for n in range(len(picture.boxes))),
        routes=tuple(routes),
        width=max((item.x + item.right for item in picture.items), default=0.0),
        height=max((top + height for top, height in zip(tops, heights, strict=True)), default=0.0),
    )


def _end(
    picture: _Picture, box: int, number: int, middles: Sequence[float], down: int
) -> tuple[float, float]:
    """Where a line ends at a box: below it, above it, or at a side."""
    x = picture.items[box].x
    if side := picture.sides.get((box, number)):
        return x + side * picture.boxes[box].width / 2, middles[box]
    return x + picture.ports[box, number], middles[box] + down * picture.boxes[box].height / 2


def _row_places(picture: _Picture) -> tuple[list[float], list[float]]:
    """The top and the height of every row; the further lines lead aside, the more apart."""
    heights = [
        max((picture.items[number].height for number in row), default=0.0) for row in picture.rows
    ]
    gaps = [_ROW] * len(heights)
    for number, chain in picture.chains.items():
        for one, other in itertools.pairwise(chain):
            if not picture.sides.keys() & {(one, number), (other, number)}:
                ends = [
                    picture.items[n].x + picture.ports.get((n, number), 0.0) for n in (one, other)
                ]
                row = picture.items[one].row
                gaps[row] = max(gaps[row], min(abs(ends[0] - ends[1]) * 0.22, _WIDE_ROW))
    steps = (height + gap for height, gap in zip(heights, gaps, strict=True))
    tops = list(itertools.accumulate(steps, initial=0.0))[:-1]
    return tops, heights


def _loop(picture: _Picture, number: int, middles: Sequence[float]) -> Route:
    """A line that leaves a box on its right and comes back there."""
    box = picture.lines[number].source
    beside, line = picture.loops[box], picture.lines[number]
    share = (beside.index(number) + 0.5) / len(beside) - 0.5
    height = picture.boxes[box].height
    right = picture.items[box].x + picture.boxes[box].width / 2
    middle = middles[box] + share * height
    written = middles[box] + share * picture.items[box].height
    half = min(height / len(beside), 28.0) * 0.36
    return Route(
        points=((right, middle - half), (right + _LOOP, middle), (right, middle + half)),
        label=(right + _LOOP + line.width / 2, written) if line.width else None,
        back=True,
        loop=True,
    )
