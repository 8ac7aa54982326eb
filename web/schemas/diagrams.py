"""Drawings of graphs."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from engine.runs.diagrams import NOTATIONS


class DiagramArguments(Schema):
    """How to draw."""

    format = fields.String(load_default="svg", validate=validate.OneOf([*NOTATIONS]))
