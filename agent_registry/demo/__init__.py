"""The demo: a registry, a small fleet of agents, a load that rises and falls, and things that go wrong, to look at."""
