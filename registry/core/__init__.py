"""The decisions of the registry: facts in, orders out, time as an argument. Standard library only."""
