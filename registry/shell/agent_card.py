"""Agent cards of the A2A protocol, checked with the protocol's own SDK, which need not be installed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from agents_sdk.protocol.codec import MAX_DETAILS, check
from agents_sdk.protocol.errors import Detail, InvalidRequestError
from agents_sdk.protocol.faults import short, shown
from registry.core.skills import AGENT_CARD

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor

FIELD = f"metadata.{AGENT_CARD}"

_OF_1 = frozenset({"supportedInterfaces", "supported_interfaces"})
"""What a card of A2A 1.x must have. The SDK's own servers publish cards that are of both versions at once."""

_OF_0_3 = frozenset({"url", "protocolVersion"})
"""What a card of A2A 0.3 must have instead."""

MAX_WHY = 200
"""Characters of what the SDK says of a card."""

_SHOWN = 3
"""Faults that the message names; `details` has the others, too."""

Faults = Callable[[Any], list[Detail]]
"""Takes what should be a card; returns what is wrong with it."""


class AgentCards:
    """Checks the cards of agents that register.

    The SDK is loaded with the first card, in a thread of its own: it takes a tenth of a second and 8 MiB, and most
    deployments have no cards.
    """

    def __init__(self) -> None:
        self._faults: Faults | None = None

    async def check(self, metadata: Mapping[str, Any]) -> bool:
        """Check the card in an agent's metadata; return whether there was one.

        Raises:
            InvalidRequestError: If it is no card of A2A 1.x or 0.3, or the SDK is not installed here.
        """
        if AGENT_CARD not in metadata:
            return False
        if self._faults is None:
            try:
                self._faults = await asyncio.to_thread(_load)
            except ImportError as error:
                why = f"cannot be checked, for this registry runs without a2a-sdk ({error.name} is not there)"
                raise _refusal([Detail(FIELD, f"{why}; install agent-registry[a2a] there, or leave it out")]) from None
        if found := self._faults(metadata[AGENT_CARD]):
            raise _refusal(found)
        return True


def _load() -> Faults:
    """Import the SDK; return a check that uses it.

    Raises:
        ImportError: If it is not installed.
    """
    from a2a.compat.v0_3.types import AgentCard as LegacyCard
    from a2a.types.a2a_pb2 import AgentCard
    from a2a.utils.errors import InvalidParamsError
    from a2a.utils.proto_utils import parse_lenient, validate_proto_required_fields
    from google.protobuf.json_format import ParseError

    legacy = TypeAdapter(LegacyCard)

    def faults(card: Any) -> list[Detail]:
        if isinstance(card, dict) and not card.keys() & _OF_1 and card.keys() & _OF_0_3:
            return _legacy_faults(legacy, card)
        if misfits := list(_misfits(AgentCard.DESCRIPTOR, card, FIELD)):
            return misfits
        try:
            validate_proto_required_fields(parse_lenient(card, AgentCard()))
        except ParseError as error:
            return [Detail(FIELD, f"must be an agent card of A2A: {str(error)[:MAX_WHY]}")]
        except InvalidParamsError as error:
            lacking = (error.data or {})["errors"]
            return [
                Detail(f"{FIELD}.{_in_json(fault['field'])}", "is required, and must not be empty") for fault in lacking
            ]
        return []

    return faults


def _legacy_faults(legacy: TypeAdapter[Any], card: Mapping[str, Any]) -> list[Detail]:
    try:
        check(legacy, card)
    except InvalidRequestError as error:
        return [Detail(short(f"{FIELD}.{detail.field}"), detail.message) for detail in error.details]
    return []


def _misfits(form: Descriptor, given: Any, path: str) -> Iterator[Detail]:
    """Yield where JSON has not the form of a message; the SDK's parser would not say in which of several."""
    if not isinstance(given, dict):
        yield Detail(short(path), f"must be an object; got {shown(given)}")
        return
    for field in form.fields:
        value = given.get(field.json_name, given.get(field.name))
        if value is not None:
            yield from _misfits_in(field, value, f"{path}.{field.json_name}")


def _misfits_in(field: FieldDescriptor, value: Any, path: str) -> Iterator[Detail]:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        if isinstance(value, dict):
            named = message.fields_by_name["value"]
            for name, item in value.items():
                yield from _misfits_of(named, item, f"{path}.{name}")
        else:
            yield Detail(short(path), f"must be an object; got {shown(value)}")
    elif not field.is_repeated:
        yield from _misfits_of(field, value, path)
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from _misfits_of(field, item, f"{path}[{n}]")
    else:
        yield Detail(short(path), f"must be an array; got {shown(value)}")


def _misfits_of(field: FieldDescriptor, value: Any, path: str) -> Iterator[Detail]:
    message = field.message_type
    if message is not None:
        if message.file.package != "google.protobuf":  # else it is free-form
            yield from _misfits(message, value, path)
    elif field.type == field.TYPE_STRING and not isinstance(value, str):
        yield Detail(short(path), f"must be a string; got {shown(value)}")
    elif field.type == field.TYPE_BOOL and not isinstance(value, bool):
        yield Detail(short(path), f"must be true or false; got {shown(value)}")


def _in_json(path: str) -> str:
    """Return a path as JSON has it: `skills[0].inputModes` for `skills[0].input_modes`, a dot before a name."""

    def in_json(found: re.Match[str]) -> str:
        name, letter = found["name"], found["letter"]
        if name is None:
            return letter.upper()
        return f"[{name}]" if name.isdecimal() else f".{name}"

    return short(re.sub(r"\[(?P<name>[^\]]*)\]|_(?P<letter>[a-z0-9])", in_json, path))


def _refusal(faults: Sequence[Detail]) -> InvalidRequestError:
    message = "; ".join(f"{fault.field}: {fault.message}" for fault in faults[:_SHOWN])
    if len(faults) > _SHOWN:
        message += f"; and {len(faults) - _SHOWN} more"
    return InvalidRequestError(message, faults[:MAX_DETAILS])
