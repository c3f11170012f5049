"""The registry for LLM agents: a server of the Model Context Protocol (MCP) on standard input and output."""
