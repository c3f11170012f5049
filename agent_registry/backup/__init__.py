"""Backup and restore: the whole state of a registry as lines of JSON."""
