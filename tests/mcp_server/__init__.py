"""The MCP server, spoken to by the SDK's own client."""
