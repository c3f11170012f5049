"""The JSON Schemas of the messages, made from their models.

They are of draft 2020-12, and say the same to a reader of draft 07, whose superset AsyncAPI 3.0 takes: no keyword
stands beside a `$ref`, which draft 07 would ignore.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from agents_sdk.protocol.operations import OPERATIONS
from agents_sdk.protocol.schema.messages import MESSAGES

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

SOMETIMES: Mapping[str, frozenset[str]] = {
    "AgentInfo": frozenset({"evidence"}),
    "Listing": frozenset({"near_misses"}),
    "Deregistered": frozenset({"revision"}),
}
"""Message to those of its fields that the registry leaves out at times; all else that it makes is always there."""

BOUND = "Bound"
"""Begins the name of a request in its agent-bound form, in which the subject names the agent."""


@cache
def definitions() -> Mapping[str, Schema]:
    """Return the schema of every message, and of every part of one that has a name; each by its name."""
    messages = [(name, side, TypeAdapter(message)) for name, (message, side) in MESSAGES.items()]
    _, made = TypeAdapter.json_schemas(messages, schema_generator=_Generator)
    schemas: dict[str, Schema] = {name: _plain(schema) for name, schema in made["$defs"].items()}
    for name, fields in SOMETIMES.items():
        schemas[name]["required"] = [field for field in schemas[name]["required"] if field not in fields]
    for operation in OPERATIONS.values():
        request = operation.request.__name__
        if operation.agent_bound and "agent_id" in schemas[request].get("required", ()):
            schemas[BOUND + request] = _bound(schemas[request])
    return schemas


def definitions_at(place: str) -> dict[str, Schema]:
    """Return the same for a document that has them elsewhere.

    Args:
        place: Where, as a JSON pointer such as `#/components/schemas`.
    """
    moved: dict[str, Schema] = _moved(dict(definitions()), place)
    return moved


def schema_of(name: str) -> Schema:
    """Return one message's JSON Schema, with the parts that it needs.

    Raises:
        KeyError: If there is none of that name.
    """
    schemas = definitions()
    needed: dict[str, Schema] = {}
    left = [name]
    while left:
        for part in _references(schemas[left.pop()]):
            if part not in needed:
                needed[part] = schemas[part]
                left.append(part)
    parts = {"$defs": dict(sorted(needed.items()))} if needed else {}
    return {"$schema": DIALECT, **schemas[name], **parts}


def all_schemas() -> Schema:
    """Return one JSON Schema with all of them under `$defs`; itself it is of any message."""
    return {
        "$schema": DIALECT,
        "title": "AgentRegistryMessage",
        "description": "Any message of the agent registry.",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in definitions() if name.removeprefix(BOUND) in MESSAGES],
        "$defs": dict(definitions()),
    }


class _Generator(GenerateJsonSchema):
    """Leaves out what says nothing here, and says which fields are always there."""

    def field_title_should_be_set(self, _schema: Any) -> bool:
        """No: it would be the field's name again, and generators of code make a type of each title."""
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        """Yes of what the registry makes: defaults are for who reads an older one."""
        return self.mode == "serialization" or super().field_is_required(field, total)

    def default_schema(self, schema: Any) -> Schema:
        """No default of what is always there."""
        return self.generate_inner(schema["schema"]) if self.mode == "serialization" else super().default_schema(schema)

    def set_schema(self, schema: Any) -> Schema:
        """A repetition is no mistake in what is read."""
        return self._repeatable(super().set_schema(schema))

    def frozenset_schema(self, schema: Any) -> Schema:
        """Likewise."""
        return self._repeatable(super().frozenset_schema(schema))

    def _repeatable(self, made: Schema) -> Schema:
        if self.mode == "validation":
            del made["uniqueItems"]
        return made


_OF_ARRAYS = {"minLength": "minItems", "maxLength": "maxItems"}
"""What pydantic calls the bounds of an array that has a validator before them, to what they are."""


def _plain(node: Any) -> Any:
    """Return a schema without what drafts read differently, and with what pydantic says amiss put right."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {name: _plain(value) for name, value in node.items()}
    if "$ref" in plain and len(plain) > 1:
        plain["allOf"] = [{"$ref": plain.pop("$ref")}]
    if plain.get("type") == "array":
        plain = {_OF_ARRAYS.get(name, name): value for name, value in plain.items()}
    if isinstance(plain.get("patternProperties"), dict):  # pydantic lets names through that the pattern refuses
        ((pattern, values),) = plain.pop("patternProperties").items()
        plain |= {"propertyNames": {"pattern": pattern}, "additionalProperties": values}
    return plain


def _bound(request: Schema) -> Schema:
    bound = {**request, "required": [name for name in request["required"] if name != "agent_id"]}
    bound["title"] = BOUND + bound["title"]
    bound["description"] += " The subject names the agent; an `agent_id` here must be the same."
    return bound


def _moved(node: Any, place: str) -> Any:
    """Return a schema with its references leading to another place."""
    if isinstance(node, list):
        return [_moved(item, place) for item in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    if isinstance(reference, str):
        return {"$ref": f"{place}/{reference.rpartition('/')[2]}"}
    return {name: _moved(value, place) for name, value in node.items()}


def _references(node: Any) -> Iterator[str]:
    """Yield the names of the parts that a schema refers to."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rpartition("/")[2]
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _references(item)
