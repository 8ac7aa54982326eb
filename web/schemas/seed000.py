"""The bodies of seed 000, field by field."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from web.schemas.pages import PageArguments

MOST_LISTED = 1000

_STATUS = validate.OneOf(
    ["running", "completed", "error", "cancelled", "interrupted", "resuming", "resume_failed"]
)


class NewSourceSchema(Schema):
    """A function or tool as it is handed in."""

    name = fields.String(required=True, metadata={"example": "increment"})
    code = fields.String(required=True)
    description = fields.String(load_default=None, allow_none=True)


class RegisteredSchema(Schema):
    """That it is registered."""

    status = fields.String()
    name = fields.String()


class ParameterSchema(Schema):
    """A parameter of a tool."""

    annotation = fields.String()
    default = fields.Raw(allow_none=True, dump_default=None)
    required = fields.Boolean()


class ToolSchema(Schema):
    """A tool."""

    name = fields.String()
    description = fields.String()
    parameters = fields.Dict(keys=fields.String(), values=fields.Nested(ParameterSchema))


class ToolsSchema(Schema):
    """Tools by name."""

    tools = fields.List(fields.Nested(ToolSchema))


class ListArguments(PageArguments):
    """Which part of a list that is very long."""

    limit = fields.Integer(
        load_default=MOST_LISTED, validate=validate.Range(min=1, max=MOST_LISTED)
    )


class ToolsArguments(ListArguments):
    """Which tools."""


class NewNodeSchema(Schema):
    """A node of a graph."""

    name = fields.String(required=True)
    type = fields.String(metadata={"enum": ["standard", "conditional", "loop", "start", "end"]})
    function = fields.String(allow_none=True)
    condition = fields.String(
        allow_none=True, metadata={"description": "The name of a registered function"}
    )
    max_iterations = fields.Integer(strict=True)


class NewEdgeSchema(Schema):
    """An edge of a graph."""

    source = fields.String(required=True)
    target = fields.String(required=True)
    condition = fields.String(
        allow_none=True, metadata={"description": "The name of a registered function"}
    )
    label = fields.String(
        allow_none=True, metadata={"description": "`loop` marks the edge that leads back"}
    )


class NewGraphSchema(Schema):
    """A graph as it is handed in."""

    name = fields.String()
    start_node = fields.String(allow_none=True)
    nodes = fields.List(fields.Nested(NewNodeSchema), required=True)
    edges = fields.List(fields.Nested(NewEdgeSchema), required=True)


class CreatedGraphSchema(Schema):
    """That it is created."""

    graph_id = fields.String()
    name = fields.String()
    node_count = fields.Integer()
    edge_count = fields.Integer()


class NodeSchema(Schema):
    """A node."""

    name = fields.String()
    type = fields.String()
    max_iterations = fields.Integer()


class EdgeSchema(Schema):
    """An edge."""

    source = fields.String()
    target = fields.String()
    label = fields.String(allow_none=True)


class GraphSchema(Schema):
    """A graph."""

    graph_id = fields.String()
    name = fields.String()
    nodes = fields.List(fields.Nested(NodeSchema))
    edges = fields.List(fields.Nested(EdgeSchema))
    start_node = fields.String(allow_none=True)
    end_nodes = fields.List(fields.String())


class GraphsSchema(Schema):
    """Graphs, newest first."""

    graphs = fields.List(fields.Nested(GraphSchema))


class RunGraphSchema(Schema):
    """Which graph is to be run, and on what."""

    graph_id = fields.String(required=True)
    initial_state = fields.Dict(keys=fields.String(), load_default=dict)


class StartedSchema(Schema):
    """That a run is under way."""

    run_id = fields.String()
    status = fields.String(validate=_STATUS)


class SeedStatusSchema(StartedSchema):
    """The status of a run."""


class CancelledSchema(StartedSchema):
    """That a run is cancelled."""


class SnapshotSchema(Schema):
    """What one node was given, and what it left."""

    node = fields.String()
    iteration = fields.Integer()
    timestamp = fields.String()
    input = fields.Dict()
    output = fields.Dict()


class SeedStateSchema(Schema):
    """The state of a run."""

    run_id = fields.String()
    graph_id = fields.String()
    final_node = fields.String(allow_none=True)
    iterations = fields.Integer()
    data = fields.Dict()
    started_at = fields.String()
    completed_at = fields.String(allow_none=True)
    error = fields.String(allow_none=True)
    execution_log = fields.List(fields.Nested(SnapshotSchema))
    execution_log_omitted = fields.String(
        metadata={"description": "There where snapshots are left out, and says how many"}
    )


class SeedStepSchema(Schema):
    """An entry of a run's log."""

    seq = fields.Integer()
    timestamp = fields.String()
    node = fields.String()
    iteration = fields.Integer()
    status = fields.String(
        validate=validate.OneOf(
            [
                *("started", "executing", "completed", "transition"),
                *("end_reached", "max_iterations", "timeout", "error"),
            ]
        )
    )
    message = fields.String(allow_none=True)
    data = fields.Dict(allow_none=True)


class LogSchema(Schema):
    """The log of a run."""

    run_id = fields.String()
    graph_id = fields.String()
    started_at = fields.String()
    completed_at = fields.String(allow_none=True)
    steps = fields.List(fields.Nested(SeedStepSchema))
    steps_omitted = fields.String(
        metadata={"description": "There where steps are left out, and says how many"}
    )


class SeedResultSchema(Schema):
    """What a run came to."""

    run_id = fields.String()
    graph_id = fields.String()
    status = fields.String(validate=_STATUS)
    final_state = fields.Nested(SeedStateSchema)
    execution_log = fields.Nested(LogSchema)


class StateAnswerSchema(Schema):
    """Where a run stands."""

    run_id = fields.String()
    status = fields.String(validate=_STATUS)
    current_state = fields.Nested(SeedStateSchema)
    execution_log = fields.Nested(LogSchema)


class SeedRunSchema(Schema):
    """A run in a list."""

    run_id = fields.String()
    graph_id = fields.String()
    status = fields.String(validate=_STATUS)


class RunsSchema(Schema):
    """Runs, newest first."""

    runs = fields.List(fields.Nested(SeedRunSchema))
