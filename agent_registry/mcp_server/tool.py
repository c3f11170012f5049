"""A tool as an LLM sees it: a name, what it is good for, what it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mcp_types as types

from agent_registry.mcp_server.reach import Reach
from agents_sdk.protocol.codec import adapter, check
from agents_sdk.protocol.model import Command

Answer = Callable[[Reach, Any], Awaitable[dict[str, Any]]]
"""Takes checked arguments, and returns a JSON object."""


@dataclass(frozen=True)
class Tool:
    """A tool.

    Attributes:
        name: What it is called by.
        title: The same for people.
        description: What it does and when to use it, for an LLM.
        arguments: What it takes; the docstrings of its fields tell an LLM what each is.
        answer: Does it.
        acts: Whether it has somebody do something; else it only reads.
    """

    name: str
    title: str
    description: str
    arguments: type[Command]
    answer: Answer
    acts: bool = False

    async def call(self, reach: Reach, given: Mapping[str, Any]) -> dict[str, Any]:
        """Check arguments, and answer. `null` is the same as leaving an argument out.

        Raises:
            RegistryError: What the registry says, or what is wrong with the arguments.
            AgentCallError: What an agent says.
        """
        fields = {name: value for name, value in given.items() if value is not None}
        arguments = check(adapter(self.arguments), fields)
        await reach.open()
        return await self.answer(reach, arguments)

    def listed(self) -> types.Tool:
        """Return it as the protocol lists it."""
        return types.Tool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=_schema(self.arguments),
            annotations=types.ToolAnnotations(
                title=self.title,
                read_only_hint=not self.acts,
                destructive_hint=self.acts,
                idempotent_hint=not self.acts,
                open_world_hint=self.acts,
            ),
        )


def _schema(arguments: type[Command]) -> dict[str, Any]:
    schema = _plain(arguments.model_json_schema(), {})
    schema.pop("description")  # the tool's own says more
    return schema


def _plain(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON schema without references, titles and null, which cost an LLM more than they tell it."""
    definitions = schema.get("$defs", definitions)
    if "$ref" in schema:
        target = definitions[schema["$ref"].rpartition("/")[2]]
        schema = {**target, **{name: value for name, value in schema.items() if name != "$ref"}}
    variants = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(variants) == 1:
        schema = {**variants[0], **{name: value for name, value in schema.items() if name != "anyOf"}}
        return _plain(schema, definitions)
    plain: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "properties":
            plain[name] = {field: _plain(inner, definitions) for field, inner in value.items()}
        elif name == "items":
            plain[name] = _plain(value, definitions)
        elif name == "description":
            plain[name] = " ".join(value.split())
        elif name not in ("title", "$defs") and not (name == "default" and value is None):
            plain[name] = value
    return plain
