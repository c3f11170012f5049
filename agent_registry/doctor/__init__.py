"""The doctor: what a deployment promises, and whether it keeps it."""
