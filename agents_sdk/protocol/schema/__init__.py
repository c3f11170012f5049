"""The wire contract for programs: JSON Schemas and an AsyncAPI document, made from the models."""
