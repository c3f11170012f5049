"""What is wrong with a value, in the words of JSON: who reads it wrote JSON, and need not know what checked it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from agents_sdk.protocol.fields import PATTERN_IN_WORDS

MAX_SHOWN = 80
"""Characters of a given value, or of a field's name, that an error shows."""

_WORDS = {
    "missing": "is required",
    "string_type": "must be a string",
    "string_too_short": "must have {min_length} or more characters",
    "string_too_long": "must have {max_length} or fewer characters",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "tuple_type": "must be an array",
    "list_type": "must be an array",
    "set_type": "must be an array",
    "frozen_set_type": "must be an array",
    "too_short": "must have {min_length} or more entries; has {actual_length}",
    "too_long": "must have {max_length} or fewer entries; has {actual_length}",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "value_error": "{error}",
}
"""What pydantic calls a fault, to what it is called here."""

_COUNTED = ("too_short", "too_long")

_COMPLETE = ("missing", "value_error", *_COUNTED)
"""Faults whose words say what was given, as far as that helps."""


def fault_in_words(fault: Mapping[str, Any]) -> str:
    """Return what is wrong with a value, and the value.

    Args:
        fault: One of the findings of a pydantic `ValidationError`.
    """
    kind, given = fault["type"], {name: _number(value) for name, value in fault.get("ctx", {}).items()}
    if kind in _COUNTED and given["actual_length"] is None:  # pydantic stopped counting
        given["actual_length"] = len(fault["input"])
    if kind == "string_pattern_mismatch":
        words = f"must be {PATTERN_IN_WORDS[given['pattern']]}"
    elif kind in _WORDS:
        words = _WORDS[kind].format_map(given)
    else:
        words = str(fault["msg"]).replace("Input should be", "must be")
    return words if kind in _COMPLETE else f"{words}; got {shown(fault['input'])}"


def kind_of(value: Any) -> str:
    """Return what JSON calls a value of this kind."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def shown(value: Any) -> str:
    """Return a given value as an error shows it: text in quotes, anything else as JSON."""
    if isinstance(value, str):
        return repr(short(str(value)))
    try:
        return short(orjson.dumps(value).decode())
    except TypeError:  # not JSON: from a caller in process
        return short(repr(value))


def short(text: str) -> str:
    """Return a text, or its beginning."""
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def _number(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, float) else value
