"""The whole loop with real processes: a load, agents, the registry that orders, the orchestrator that carries out."""
