"""The base of the wire models: what is read strictly, what is ignored."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Command(BaseModel):
    """A request that changes something or asks something: an unknown field is a typo and is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Telemetry(BaseModel):
    """A report: unknown fields are ignored, so an old registry still hears newer agents."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)


class Reply(BaseModel):
    """An answer or an event: unknown fields are kept, so an old client still reads a newer registry."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)
