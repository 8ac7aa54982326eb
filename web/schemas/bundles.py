"""Bundles, and graphs that are being composed, with seed 001's names."""

from __future__ import annotations

from marshmallow import EXCLUDE, Schema, fields, validate

from engine.runs.bundles import Step
from web.schemas.pages import PageArguments

_MOST = 5000
_NAME = validate.Length(max=1000)


class UploadSchema(Schema):
    """An upload that was dealt with."""

    processId = fields.String()  # noqa: N815  # the seed's names, here and below
    status = fields.String(metadata={"example": "UPLOADED"})
    message = fields.String()


class UploadStepSchema(Schema):
    """How one step of the processing went."""

    step = fields.String(validate=validate.OneOf([step.value for step in Step]))
    status = fields.String(
        validate=validate.OneOf(["NOT_STARTED", "IN_PROGRESS", "COMPLETED", "FAILED"])
    )
    startedAt = fields.String(allow_none=True)  # noqa: N815
    endedAt = fields.String(allow_none=True)  # noqa: N815


class UploadErrorSchema(Schema):
    """One thing that is wrong with a bundle."""

    type = fields.String(metadata={"example": "MISSING_PYTHON_FILE"})
    path = fields.String()
    message = fields.String()
    remedy = fields.String()


class ProcessSchema(Schema):
    """What came of an upload."""

    processId = fields.String()  # noqa: N815
    correlationId = fields.String()  # noqa: N815
    tenantId = fields.String()  # noqa: N815
    fileName = fields.String()  # noqa: N815
    sizeBytes = fields.Integer()  # noqa: N815
    sha256 = fields.String()
    status = fields.String(validate=validate.OneOf(["COMPLETED", "FAILED"]))
    message = fields.String()
    steps = fields.List(fields.Nested(UploadStepSchema))
    errors = fields.List(fields.Nested(UploadErrorSchema))
    warnings = fields.List(fields.String())
    graphId = fields.String(  # noqa: N815
        allow_none=True, metadata={"description": "The id of the workflow version"}
    )
    graphName = fields.String(allow_none=True)  # noqa: N815
    version = fields.String(allow_none=True)
    createdBy = fields.String()  # noqa: N815
    createdAt = fields.DateTime()  # noqa: N815


class TenantArguments(PageArguments):
    """Whose."""

    tenantId = fields.String(  # noqa: N815
        metadata={"description": "Only that of the credential; another is forbidden"}
    )


class ComposedFileSchema(Schema):
    """A file of a node. Its contents are not looked at."""

    class Meta:
        """A composer sends more than is looked at."""

        unknown = EXCLUDE

    name = fields.String(required=True, validate=_NAME)


class ComposedNodeSchema(Schema):
    """A plan or a task."""

    class Meta:
        """A composer sends more than is looked at."""

        unknown = EXCLUDE

    name = fields.String(required=True, validate=_NAME)
    files = fields.List(fields.Nested(ComposedFileSchema), allow_none=True, load_default=None)


ComposedEdgeSchema = Schema.from_dict(
    {
        "from": fields.String(required=True, validate=_NAME),
        "fromType": fields.String(required=True, validate=validate.OneOf(["PLAN", "TASK"])),
        "to": fields.String(required=True, validate=_NAME),
        "toType": fields.String(required=True, validate=validate.OneOf(["PLAN", "TASK"])),
    },
    name="ComposedEdgeSchema",
)


class ComposedSchema(Schema):
    """A graph as it is composed."""

    id = fields.Raw(allow_none=True, metadata={"description": "Not looked at"})
    status = fields.Raw(allow_none=True, metadata={"description": "Not looked at"})
    createdAt = fields.Raw(allow_none=True)  # noqa: N815
    updatedAt = fields.Raw(allow_none=True)  # noqa: N815
    name = fields.String(required=True, validate=_NAME)
    tenantId = fields.String()  # noqa: N815
    plans = fields.List(
        fields.Nested(ComposedNodeSchema), load_default=list, validate=validate.Length(max=_MOST)
    )
    tasks = fields.List(
        fields.Nested(ComposedNodeSchema), load_default=list, validate=validate.Length(max=_MOST)
    )
    edges = fields.List(
        fields.Nested(ComposedEdgeSchema), load_default=list, validate=validate.Length(max=_MOST)
    )


class NodeNameSchema(Schema):
    """A name that somebody wants to give to a node."""

    nodeName = fields.String(required=True, validate=_NAME)  # noqa: N815
    graphId = fields.String(  # noqa: N815
        allow_none=True,
        load_default=None,
        metadata={"description": "A workflow version, whose names are taken"},
    )
    excludeNodeId = fields.String(  # noqa: N815
        allow_none=True, load_default=None, metadata={"description": "The node that is renamed"}
    )
    existingNodeNames = fields.List(  # noqa: N815
        fields.String(validate=_NAME),
        allow_none=True,
        load_default=None,
        validate=validate.Length(max=_MOST),
    )


class ValidationSchema(Schema):
    """Whether it may be, and why not."""

    valid = fields.Boolean()
    errors = fields.List(fields.String())
    warnings = fields.List(fields.String())
