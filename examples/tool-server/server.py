"""A server of tools: `python examples/tool-server/server.py` serves it on port 8601 until Ctrl-C."""

from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("sums")


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


if __name__ == "__main__":
    server.run("streamable-http", port=8601, stateless_http=True)
