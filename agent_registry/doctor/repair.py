"""What can be pasted to change a stream, with the `nats` CLI."""

from __future__ import annotations

from collections.abc import Callable

from agent_registry.doctor.facts import Stream

Repair = Callable[[Stream], str]

MOVE_TO_FILE = r's/"storage": *"memory"/"storage": "file"/; s/"persist_mode": *"async"/"persist_mode": "default"/'


def edit(option: str) -> Repair:
    """Return what gives the command that changes a setting of a stream while it is used."""
    return lambda stream: f"nats stream edit {stream.name} {option}"


def restore(expression: str) -> Repair:
    """Return what gives the commands that change a setting that cannot be edited.

    A backup has the stream's settings in a file, and is restored with those that stand there: nothing is lost, and
    revisions stay.

    Args:
        expression: What `sed` does to the file.
    """

    def commands(stream: Stream) -> str:
        name, folder = stream.name, f"{stream.name}.backup"
        return (
            f"nats stream backup {name} {folder} && sed -i '{expression}' {folder}/backup.json && "
            f"nats stream rm -f {name} && nats stream restore {folder}  # with every registry stopped"
        )

    return commands


def remake(stream: Stream) -> str:
    """Return the commands that have a stream made anew, without what was in it."""
    return f"nats stream rm -f {stream.name}  # with every registry stopped; the first one that starts makes it"
