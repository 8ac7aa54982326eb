"""Agents, as seed 002 writes them."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from engine.formats.agent.definition import TYPES
from web.schemas.runs import REASON_CHARACTERS


class NewAgentsSchema(Schema):
    """A file of agents, as it is handed in."""

    agents = fields.Dict(
        keys=fields.String(),
        required=True,
        metadata={
            "description": "Definitions by name; of what they say, all is kept",
            "example": {
                "echo": {
                    "type": "template",
                    "prompt": "{input}",
                    "inputs": ["input"],
                    "outputs": ["output"],
                }
            },
        },
    )
    workflow_settings = fields.Raw(
        metadata={"description": "Of the file's own engine; here runs lie 20 deep at the most"}
    )


class WrittenBySchema(Schema):
    """The step of a run that has written a version."""

    run_id = fields.String(metadata={"format": "uuid"})
    step = fields.String(metadata={"example": "publish#1"})
    root = fields.String(
        metadata={"format": "uuid", "description": "The run that this one was started for"}
    )
    workflow = fields.String(metadata={"description": "The workflow of the run"})
    parent = fields.String(
        allow_none=True, metadata={"description": "The version before it; null: it is the first"}
    )


class AgentSchema(Schema):
    """A version of an agent."""

    name = fields.String()
    version = fields.String(metadata={"example": "1.0", "description": "MAJOR.MINOR"})
    type = fields.String(metadata={"enum": [*TYPES]})
    help = fields.String()
    inputs = fields.List(fields.String())
    optional_inputs = fields.List(
        fields.String(), metadata={"description": "With `dryrun`, where it knows dry runs"}
    )
    outputs = fields.List(fields.String())
    workflow = fields.String(metadata={"description": "The workflow that it runs as"})
    version_id = fields.String(
        metadata={"format": "uuid", "description": "The version of that workflow"}
    )
    function = fields.String(
        allow_none=True,
        metadata={"description": "What steps call, and what is granted something: NAME@VERSION"},
    )
    checksum = fields.String()
    created_by = fields.String()
    created_at = fields.DateTime()
    written_by = fields.Nested(
        WrittenBySchema, allow_none=True, metadata={"description": "Null: a person has entered it"}
    )


class WholeAgentSchema(AgentSchema):
    """A version of an agent, with its definition."""

    definition = fields.Dict(metadata={"description": "As somebody wrote it"})
    uses = fields.Dict(
        metadata={"description": "What its steps call, by the text that names it, as it was pinned"}
    )


class EnteredSchema(AgentSchema):
    """What became of an agent that was handed in."""

    changed = fields.Boolean(metadata={"description": "False: it was that version before"})


class EnteredAgentsSchema(Schema):
    """What became of each, by name."""

    items = fields.List(fields.Nested(EnteredSchema))


class AgentVersionsSchema(Schema):
    """Versions, newest first."""

    items = fields.List(fields.Nested(AgentSchema))


class RenameSchema(Schema):
    """What an agent is called from now on."""

    name = fields.String(required=True)
    reason = fields.String(
        load_default="",
        validate=validate.Length(max=REASON_CHARACTERS),
        metadata={"description": "For the audit"},
    )


class RemovalSchema(Schema):
    """Why an agent is removed."""

    reason = fields.String(
        load_default="",
        validate=validate.Length(max=REASON_CHARACTERS),
        metadata={"description": "For the audit"},
    )


class AgentRunSchema(Schema):
    """What an agent is given."""

    inputs = fields.Dict(
        keys=fields.String(),
        load_default=dict,
        metadata={"description": 'By name; bytes as {"$bytes": BASE64}'},
    )
    version = fields.String(
        metadata={"description": "1.2, or the newest of 1; the newest, unless one is named"}
    )
