"""JSON bytes to checked messages, and back."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from agents_sdk.protocol.errors import Detail, InvalidRequestError, PayloadTooLargeError, RegistryError, error_from_body
from agents_sdk.protocol.faults import fault_in_words, kind_of, short, shown
from agents_sdk.protocol.fields import MAX_NESTING, nesting

MAX_PAYLOAD_BYTES = 256 * 1024
"""Larger payloads are refused; nats-server's own default limit is 1 MiB."""

MAX_DETAILS = 20
"""At most this many faults are named in one answer."""

T = TypeVar("T")


def parse(payload: bytes) -> dict[str, Any]:
    """Return the JSON object in a payload; an empty payload is an empty object.

    Raises:
        PayloadTooLargeError: Above `MAX_PAYLOAD_BYTES`.
        InvalidRequestError: If it is not JSON or not an object. NaN and Infinity are not JSON.
    """
    if not payload:
        return {}
    if len(payload) > MAX_PAYLOAD_BYTES:
        much = f"{len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} are read"
        raise PayloadTooLargeError(f"payload: {much}", [Detail("payload", much)])
    try:
        parsed = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise _refusal("payload", f"is not JSON: {_why_not(error)}") from None
    if not isinstance(parsed, dict):
        raise _refusal("payload", f"must be a JSON object; is {kind_of(parsed)}")
    if payload.count(b"[") + payload.count(b"{") > MAX_NESTING:
        for name, value in parsed.items():
            check_nesting(name, value)
    return parsed


def check_nesting(name: str, value: Any) -> None:
    """Refuse a field that nests deeper than others can be expected to read.

    Raises:
        InvalidRequestError: Above `MAX_NESTING` levels.
    """
    depth = nesting(value)
    if depth > MAX_NESTING:
        raise _refusal(short(name), f"must nest at most {MAX_NESTING} levels; nests {depth}")


def check(adapter: TypeAdapter[T], fields: Mapping[str, Any]) -> T:
    """Return the message that `fields` make.

    Raises:
        InvalidRequestError: With one detail a fault: the field, what was given, what would be accepted.
    """
    try:
        return adapter.validate_python(fields)
    except ValidationError as error:
        raise refusal(error, fields) from None


def refusal(error: ValidationError, given: Mapping[str, Any]) -> InvalidRequestError:
    """Translate pydantic's findings into the contract's error."""
    faults = error.errors(include_url=False, include_context=True)
    details = [_detail(fault, error, given) for fault in faults[:MAX_DETAILS]]
    message = "; ".join(f"{d.field}: {d.message}" for d in details[:3])
    if len(faults) > 3:
        message += f"; and {len(faults) - 3} more"
    return InvalidRequestError(message, details)


def check_finite(fields: Mapping[str, Any]) -> None:
    """Refuse a number that JSON has no form for: NaN, and what is infinite.

    Raises:
        InvalidRequestError: Naming where it is.
    """
    path = _not_finite("", fields)
    if path is not None:
        raise _refusal(short(path), "must be a finite number")


def _not_finite(path: str, value: Any) -> str | None:
    """Return the path of a number in `value` that is not finite, None if there is none."""
    if isinstance(value, float):
        return None if math.isfinite(value) else path
    inner: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        inner = ((f"{path}.{name}" if path else str(name), item) for name, item in value.items())
    elif isinstance(value, list | tuple):
        inner = ((f"{path}[{n}]", item) for n, item in enumerate(value))
    found = (_not_finite(*item) for item in inner)
    return next((each for each in found if each is not None), None)


def encode(value: Any) -> bytes:
    """Return `value` as JSON bytes."""
    return orjson.dumps(value)


def decode_reply(payload: bytes) -> dict[str, Any]:
    """Return the JSON object of a reply.

    Raises:
        RegistryError: The class that belongs to the code, if the reply is an error.
        InvalidRequestError: If the reply is not a JSON object.
    """
    reply = orjson.loads(payload)
    if not isinstance(reply, dict):
        raise _refusal("reply", f"must be a JSON object; is {kind_of(reply)}")
    error = reply.get("error")
    if isinstance(error, dict):
        found: RegistryError = error_from_body(reply)
        raise found
    return reply


def _refusal(field: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(f"{field}: {message}", [Detail(field, message)])


def _why_not(error: orjson.JSONDecodeError) -> str:
    """Return why a text is not JSON, and the text: often a shell has made it of another one."""
    if error.doc.startswith(("NaN", "Infinity"), error.pos):
        return f"NaN and Infinity are not JSON numbers: line {error.lineno} column {error.colno}"
    # Of bytes that are no text there is no document.
    return f"{error}; got {shown(error.doc)}" if error.doc else "it is not UTF-8"


def _detail(fault: Mapping[str, Any], error: ValidationError, given: Mapping[str, Any]) -> Detail:
    location = fault["loc"]
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        parent, name = _path(location[:-1]), str(location[-1])
        if parent:
            return Detail(short(f"{parent}.{name}"), f"is not a field of {parent}")
        return Detail(short(name), _unknown(name, error, given))
    if location[-1:] == ("[key]",):  # of an object whose names are free
        return Detail(short(_path(location[:-2])), f"a name in it {fault_in_words(fault)}")
    return Detail(short(_path(location) or "payload"), fault_in_words(fault))


def _path(location: Sequence[str | int]) -> str:
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif "[" not in step and "(" not in step:  # leaves out pydantic's names of union members
            path += f".{step}" if path else step
    return path


def _unknown(name: str, error: ValidationError, given: Mapping[str, Any]) -> str:
    known = _FIELDS.get(error.title, ())
    near = difflib.get_close_matches(name, [field for field in known if field not in given], n=1)
    if near:
        return f"is not a field of this request; did you mean {near[0]!r}?"
    if not known:
        return "is not a field of this request, which has none"
    return f"is not a field of this request; its fields are {', '.join(known)}"


_FIELDS: dict[str, tuple[str, ...]] = {}


def adapter(message: type[T]) -> TypeAdapter[T]:
    """Return the validator of a message class, and remember its fields for error texts."""
    made = TypeAdapter(message)
    names = getattr(message, "model_fields", None) or getattr(message, "__dataclass_fields__", {})
    _FIELDS[message.__name__] = tuple(names)
    return made
