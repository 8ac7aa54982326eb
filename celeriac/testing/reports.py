"""What tests came to, as files: JUnit's XML for programs, one page of HTML for people.

Whatever stands in a document is text in both. The page is whole by itself: it loads nothing, and
there is no script in it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib import resources
from xml.etree import ElementTree as ET

import jinja2

from celeriac.testing.cases import Checked

OUTCOMES = ("passed", "failed", "broken")

#: What XML cannot hold, however it is written.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def counts(checked: Iterable[Checked]) -> dict[str, int]:
    """How many tests came to each outcome."""
    found = Counter(each.outcome for each in checked)
    return {outcome: found[outcome] for outcome in OUTCOMES}


def junit(checked: Sequence[Checked]) -> str:
    """The tests as JUnit's XML: a suite for each workflow; what is broken is an error."""
    root = ET.Element("testsuites", {"name": "celeriac", **_totals(checked)})
    for workflow in dict.fromkeys(each.workflow for each in checked):
        own = [each for each in checked if each.workflow == workflow]
        about = {"name": _writable(workflow), **_totals(own), "skipped": "0"}
        suite = ET.SubElement(root, "testsuite", about)
        for each in own:
            case = ET.SubElement(
                suite,
                "testcase",
                classname=_writable(workflow),
                name=_writable(each.name),
                time=f"{each.seconds:.3f}",
            )
            if each.outcome != "passed":
                lines = _writable("\n".join(told(each)))
                tag = "failure" if each.outcome == "failed" else "error"
                said = lines.partition("\n")[0]
                ET.SubElement(case, tag, message=said, type=each.outcome).text = lines
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def html(checked: Sequence[Checked], *, at: datetime) -> str:
    """The tests as a page."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    workflows = {
        name: [each for each in checked if each.workflow == name]
        for name in dict.fromkeys(each.workflow for each in checked)
    }
    return environment.from_string(page).render(
        workflows=workflows,
        counts=counts(checked),
        total=len(checked),
        seconds=sum(each.seconds for each in checked),
        at=f"{at:%Y-%m-%d %H:%M:%S %Z}".strip(),
    )


def told(checked: Checked) -> list[str]:
    """What differed, or why a test could not be run: a line each."""
    return [
        *checked.problems,
        *(
            f"{each.field}: expected {each.expected}, but it is {each.actual}"
            for each in checked.differences
        ),
    ]


def _totals(checked: Sequence[Checked]) -> dict[str, str]:
    found = counts(checked)
    return {
        "tests": str(len(checked)),
        "failures": str(found["failed"]),
        "errors": str(found["broken"]),
        "time": f"{sum(each.seconds for each in checked):.3f}",
    }


def _writable(text: str) -> str:
    return _UNWRITABLE.sub(lambda found: f"\\x{ord(found.group()):02x}", text)
