"""Version specifiers, the way pip reads them."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from registry.core.errors import invalid
from registry.core.query import VersionRange

MAX_KNOWN = 1024
"""Versions of which it is remembered whether a range has them; a fleet runs few."""


def version_range(text: str, field: str = "version") -> VersionRange:
    """Return the range that a specifier names.

    Raises:
        RefusedError: If it is not one.
    """
    try:
        specifier = SpecifierSet(text)
    except InvalidSpecifier:
        raise invalid(field, f"must be a version specifier such as '>=2,<3' or '==2.1.0'; got {text!r}") from None

    @lru_cache(MAX_KNOWN)
    def accepts(version: str) -> bool:
        try:
            return specifier.contains(version, prereleases=True)
        except InvalidVersion:
            return False

    return VersionRange(text, accepts)


def check_apart(ranges: tuple[VersionRange, ...], field: str) -> None:
    """Refuse ranges that have a version in common, as far as the versions that they name show.

    Raises:
        RefusedError: Naming two of them, and the version.
    """
    probes = _probes(ranges)
    for (n, one), (m, other) in combinations(enumerate(ranges), 2):
        shared = next((probe for probe in probes if one.accepts(probe) and other.accepts(probe)), None)
        if shared is not None:
            both = f"{one.text!r} and {other.text!r} both have {shared}"
            raise invalid(f"{field}[{m}]", f"must have no version in common with {field}[{n}]; {both}")


def _probes(ranges: tuple[VersionRange, ...]) -> list[str]:
    """Return versions at, beside and between all ends of ranges: if two overlap, they do at one of these."""
    named = {spec.version.removesuffix(".*") for each in ranges for spec in SpecifierSet(each.text)}
    ends = [Version(text) for text in named if _is_version(text)]
    probes = {"0.0.dev0", "0", *map(str, ends)}
    for end in ends:
        epoch, release = f"{end.epoch}!" if end.epoch else "", end.release
        probes.add(f"{epoch}{'.'.join(map(str, release))}.0.0.1")  # right above it
        for place in range(len(release)):  # where what begins like it ends
            probes.add(f"{epoch}{'.'.join(map(str, (*release[:place], release[place] + 1)))}")
    return sorted(probes, key=Version)


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:  # of `===`, which compares as text
        return False
    return True
