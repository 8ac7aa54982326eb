"""A library of one function, which tells what it was given."""

from __future__ import annotations

from tests.support.witness import tell

FUNCTIONS = {"tell": tell}
