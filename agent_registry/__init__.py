"""The command line of the agent registry: the one package that knows both the service and the SDK."""
