"""Tests of the configuration that is there to be copied."""
