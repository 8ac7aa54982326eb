"""The picture of a run: bars for each system, and the cost of a step as everything grows.

Plain SVG, with nothing that has to be installed. Scales are logarithmic: systems are orders of
magnitude apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks import report
from benchmarks.report import rounded

#: Figures with a panel of their own, in order.
_PANELS = (
    "steps_per_second",
    "steps_per_second_sleep",
    "chain_ms_per_step",
    "first_step_ms_p50",
    "branches_per_second",
    "cpu_us_per_step",
)
_MORE = ("steps_per_second", "steps_per_second_sleep", "branches_per_second")
_WIDTH, _GAP, _LABEL, _ROW, _HEAD = 500, 40, 210, 22, 34
_LINES = 190
_OURS, _THEIRS, _INK, _FAINT = "#2e7d32", "#90a4ae", "#263238", "#cfd8dc"


def drawn(found: Mapping[str, Any]) -> str:
    """The SVG of what was measured."""
    systems = {name: told["median"] for name, told in found["systems"].items() if told["median"]}
    panels = [_bars(name, systems) for name in _PANELS]
    panels += [_line(kind, levels) for kind, levels in found["burden"].items() if len(levels) > 1]
    parts: list[str] = []
    top: float = _GAP
    for left, right in zip(panels[::2], [*panels[1::2], ("", 0)], strict=False):
        for place, (body, _) in enumerate((left, right)):
            across = _GAP + place * (_WIDTH + _GAP)
            parts.append(f'<g transform="translate({across} {top})">{body}</g>')
        top += max(left[1], right[1]) + _GAP
    across = 2 * _WIDTH + 3 * _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {top}" width="{across}"'
        f' height="{top}" font-family="sans-serif" font-size="12" fill="{_INK}">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _bars(name: str, systems: Mapping[str, Mapping[str, float]]) -> tuple[str, float]:
    """A panel of one figure, and its height."""
    values = {system: figures[name] for system, figures in systems.items() if figures.get(name)}
    better = "more" if name in _MORE else "less"
    parts = [_heading(f"{report.SHOWN[name][1]} ({better} is better, log scale)")]
    # The shortest bar is a tenth of a decade below the least.
    least = math.log10(min(values.values(), default=1)) - 0.1
    span = math.log10(max(values.values(), default=1)) - least + 0.01
    for row, (system, value) in enumerate(values.items()):
        top = _HEAD + row * _ROW
        length = (math.log10(value) - least) / span * (_WIDTH - _LABEL - 60)
        color = _OURS if system.startswith("Celeriac") else _THEIRS
        parts.append(
            _text(_LABEL - 8, top + 13, system, anchor="end")
            + f'<rect x="{_LABEL}" y="{top}" width="{length:.1f}" height="16" fill="{color}"/>'
            + _text(_LABEL + length + 6, top + 13, rounded(value))
        )
    return "".join(parts), _HEAD + len(values) * _ROW


def _line(kind: str, levels: Mapping[str, Mapping[str, float]]) -> tuple[str, float]:
    """A panel of the CPU of a step at each level, over that at the first, and its height."""
    points = [(int(level), cost["cpu_us_per_step_ratio"]) for level, cost in levels.items()]
    least, most = math.log10(points[0][0]), math.log10(points[-1][0])
    high = 1.2 * max(value for _, value in points)
    placed = [
        (
            _LABEL / 2 + (math.log10(level) - least) / (most - least) * (_WIDTH - _LABEL),
            _LINES - 20 - value / high * (_LINES - 20 - _HEAD),
            level,
            value,
        )
        for level, value in points
    ]
    parts = [
        _heading(f"CPU of a step {report.KINDS[kind]} (over the first; flat is better)"),
        f'<line x1="{_LABEL / 2 - 20}" y1="{_LINES - 20}" x2="{_WIDTH}" y2="{_LINES - 20}" stroke="{_FAINT}"/>',
        f'<polyline points="{_path(placed)}" fill="none" stroke="{_OURS}" stroke-width="2"/>',
    ]
    for across, down, level, value in placed:
        parts.append(
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{_OURS}"/>'
            + _text(across, down - 8, rounded(value), anchor="middle")
            + _text(across, _LINES - 4, f"{level:,}".replace(",", " "), anchor="middle")
        )
    return "".join(parts), _LINES


def _path(points: Sequence[tuple[float, float, int, float]]) -> str:
    return " ".join(f"{across:.1f},{down:.1f}" for across, down, _, _ in points)


def _heading(text: str) -> str:
    return f'<text y="14" font-weight="bold">{escape(text)}</text>'


def _text(across: float, down: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{across:.1f}" y="{down:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
