"""`python -m benchmarks.publish FILE`: the README's table and the picture, from the JSON of a run.

Between its markers the README holds what this writes and nothing else. A run that is void, that was
stopped or that was quick is not published.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks import picture, report
from benchmarks.report import rounded

_ROOT = Path(__file__).parents[1]
README = _ROOT / "README.md"
BEGIN = "<!-- benchmarks: written by `python -m benchmarks.publish` -->"
END = "<!-- benchmarks: end -->"
_PICTURE = "benchmarks/results.svg"
_RESULTS = "benchmarks/results.json"
_NONE = "-"


def unfit(found: Mapping[str, Any]) -> str:
    """Why a run is not to be published; empty if it is."""
    if found["quick"]:
        return "it was quick"
    if not found["whole"]:
        return "it was stopped"
    if found["reference"]["void"]:
        return f"it is void: raw Celery is {found['reference']['why']}"
    return ""


def text(found: Mapping[str, Any]) -> str:
    """What stands between the markers, markers included."""
    parts = (
        BEGIN,
        "\n".join(_about(found)),
        "\n".join(_systems(found["systems"])),
        "\n".join(_remarks(found)),
        f"![Systems side by side, and the cost of a step as runs and history grow]({_PICTURE})",
        *("\n".join(_burden(kind, levels)) for kind, levels in found["burden"].items() if levels),
        END,
    )
    return "\n\n".join(part for part in parts if part)


def placed(readme: str, block: str) -> str:
    """The README with the block between its markers."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README lacks {BEGIN} or {END}")
    return before + block + after


def _about(found: Mapping[str, Any]) -> Iterator[str]:
    machine, servers = found["machine"], found["servers"]
    rounds = max(len(one["rounds"]) for one in found["systems"].values())
    yield (
        f"Measured {found['at'][:10]} on {machine['cpus']} x {machine['processor']},"
        f" {machine['system']}; fdatasync of 8 KiB {machine['fdatasync_us_p50']} µs. Postgres"
        f" {servers['postgres server_version']} with `fsync` {servers['postgres fsync']} and"
        f" `synchronous_commit` {servers['postgres synchronous_commit']}, as read back;"
        f" Valkey {servers['valkey version']}. Medians of up to {rounds} measurements; in"
        " parentheses over raw Celery of the same round."
    )


def _systems(systems: Mapping[str, Any]) -> Iterator[str]:
    """Measures down, systems across."""
    yield f"| | {' | '.join(systems)} |"
    yield "|---" * (len(systems) + 1) + "|"
    for name, (_, meaning) in report.SHOWN.items():
        cells = [_cell(name, systems[system]) for system in systems]
        if any(cell != _NONE for cell in cells):
            yield f"| {meaning} | {' | '.join(cells)} |"


def _cell(name: str, told: Mapping[str, Any]) -> str:
    if name not in told["median"]:
        return _NONE
    value = rounded(told["median"][name])
    return f"{value} ({told['ratio'][name]:.2f}x)" if name in told["ratio"] else value


def _remarks(found: Mapping[str, Any]) -> Iterator[str]:
    """What one must know of the others."""
    for settings in found["configuration"]["peers"].values():
        told = found["systems"].get(settings["title"])
        if told is None:
            continue
        versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
        smaller = ", ".join(f"{name} {count}" for name, count in settings.get("size", {}).items())
        size = f"; measured with {smaller}" if smaller else ""
        yield f"- {settings['title']}: {told['reason'] or versions + size}."
    ours = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    yield f"- raw Celery and Celeriac: {ours}."
    less = found["less_durable"]
    named = "; ".join(f"{table}: {why}" for table, why in less.items()) or "nothing"
    yield f"- Written with less than a synchronous commit of a logged table: {named}."
    if found["sandboxed"]:
        told = ", ".join(
            f"{report.SHOWN[name][1]} {found['sandboxed'][name]:.2f}x"
            for name in ("steps_per_second", "chain_ms_per_step")
        )
        yield f"- In the sandbox over without: {told}."
    if unended := found.get("unended"):
        times = "once" if unended == 1 else f"{unended} times"
        yield f"- Raw Celery had no result for something that it was given, {times}, and was measured again."
    ratios = found["reference"].get("ratios")
    checked = (
        ", ".join(f"{report.SHOWN[name][1]} {ratio:.2f}x" for name, ratio in ratios.items())
        if ratios
        else found["reference"]["why"]
    )
    yield f"- Raw Celery here over the same by somebody else's script: {checked}."


def _burden(kind: str, levels: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """What a step costs at each level, and over the first, which was measured in turn with it."""
    yield f"| {report.KINDS[kind]} | {' | '.join(report.BURDEN.values())} |"
    yield "|---" * (len(report.BURDEN) + 1) + "|"
    for level, cost in levels.items():
        cells = [f"{rounded(cost[name])} ({cost[f'{name}_ratio']:.2f}x)" for name in report.BURDEN]
        yield f"| {int(level):,} | {' | '.join(cells)} |".replace(",", " ")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--anyhow", is_flag=True, help="Even if the run was void, stopped or quick.")
def main(*, file: Path, anyhow: bool) -> None:
    """Write README.md's table, benchmarks/results.svg and benchmarks/results.json."""
    found = json.loads(file.read_text().splitlines()[-1])
    if (why := unfit(found)) and not anyhow:
        raise click.ClickException(f"this run is not published: {why}")
    README.write_text(placed(README.read_text(), text(found)))
    (_ROOT / _PICTURE).write_text(picture.drawn(found))
    (_ROOT / _RESULTS).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
