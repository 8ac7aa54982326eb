"""docker-compose.yml and Procfile as tests read them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml
from honcho.environ import parse_procfile

from tests.support.services import ROOT

_UNESCAPED = re.compile(r"\$\$")


def document() -> Mapping[str, Any]:
    """docker-compose.yml with its anchors resolved and its variables as written."""
    found: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def services() -> Mapping[str, Mapping[str, Any]]:
    """The services by name."""
    found: Mapping[str, Mapping[str, Any]] = document()["services"]
    return found


def command(service: str) -> list[str]:
    """What a service runs, as its container gets it."""
    return [_UNESCAPED.sub("$", word) for word in services()[service]["command"]]


def health_check(service: str) -> list[str]:
    """How a service is asked whether it is well: a command and its arguments."""
    test = [_UNESCAPED.sub("$", word) for word in services()[service]["healthcheck"]["test"]]
    how, *words = test
    return words if how == "CMD" else ["/bin/sh", "-c", *words]


def procfile() -> Mapping[str, str]:
    """The processes of the Procfile and their commands."""
    found: Mapping[str, str] = parse_procfile((ROOT / "Procfile").read_text()).processes
    return found
