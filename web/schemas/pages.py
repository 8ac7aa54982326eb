"""Pages of lists."""

from __future__ import annotations

from functools import cache

from marshmallow import Schema, fields, validate

MOST = 500


class PageArguments(Schema):
    """Which page."""

    cursor = fields.String(metadata={"description": "`next` of the page before"})
    limit = fields.Integer(load_default=50, validate=validate.Range(min=1, max=MOST))


@cache
def page_of(item: type[Schema]) -> type[Schema]:
    """The schema of a page of items."""
    name = item.__name__.removesuffix("Schema")
    return Schema.from_dict(
        {
            "items": fields.List(fields.Nested(item)),
            "next": fields.String(
                allow_none=True, metadata={"description": "the `cursor` of the next page, or null"}
            ),
        },
        name=f"{name}PageSchema",
    )
