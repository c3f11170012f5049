"""`python -m agent_registry` is `agent-registry`."""

from agent_registry.main import main

if __name__ == "__main__":
    main()
