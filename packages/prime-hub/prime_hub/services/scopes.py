"""What a token may be used for: areas of the API, each to read or to write.

A token without scopes may do all that its account may. Routes are told apart by their paths, so that no new one is open by
accident: what lies in no area is for tokens without scopes only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from prime_hub.errors import Forbidden, Invalid

AREAS = ("environments", "images", "sandboxes", "evaluations", "account")
LEVELS = ("read", "write")

_PATHS = (
    ("account", re.compile(r"/api/v1/user/whoami")),
    ("evaluations", re.compile(r"/dashboard/evaluations(/.*)?")),
    ("environments", re.compile(r"/api/v1/(environmentshub|files|uploads)(/.*)?|/[^/]+/simple(/.*)?|/(dashboard.*)?")),
    ("images", re.compile(r"/api/v1/images(/.*)?")),
    ("sandboxes", re.compile(r"/api/v1/(sandbox|sandboxes|template)(/.*)?|/gateway/.*")),
    ("evaluations", re.compile(r"/api/v1/(evaluations|hosted-evaluations)(/.*)?")),
    ("account", re.compile(r"/api/v1/(user|teams|tokens|secrets)(/.*)?")),
)
# Who one is, any token may ask; and end itself.
_OPEN = re.compile(r"/api/v1/user/whoami|/api/v1/tokens/current")
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
# Questions whose words are in the body.
_QUESTIONS = re.compile(r"/api/v1/(environmentshub/(lookup|check)|sandbox/(background-jobs/)?status:batchGet)")


def checked(given: Mapping[str, Any] | None) -> dict[str, str] | None:
    """The scopes of a new token. Raises Invalid for an area or a level that there is not."""
    if not given:
        return None
    for area, level in given.items():
        if area not in AREAS or level not in LEVELS:
            raise Invalid(
                f"'{area}:{level}' is no scope; use AREA:LEVEL with an area of {', '.join(AREAS)} and read or write."
            )
    return dict(given)


def parsed(words: list[str]) -> dict[str, str] | None:
    """`["environments:read", …]` as scopes; none: everything. Raises Invalid."""
    return checked({area: level or "read" for area, _, level in (word.partition(":") for word in words)})


def require(scopes: Mapping[str, Any] | None, method: str, path: str) -> None:
    """Raises Forbidden when a token with these scopes may not do that."""
    if scopes is None or _OPEN.fullmatch(path):
        return
    area = next((name for name, pattern in _PATHS if pattern.fullmatch(path)), None)
    level = scopes.get(area) if area else None
    reading = method in _READING or _QUESTIONS.fullmatch(path) is not None
    if level == "write" or (level == "read" and reading):
        return
    needed = f"{area}:{'read' if reading else 'write'}" if area else "no scopes at all"
    raise Forbidden(f"This API key may not do that: it has the scopes {shown(scopes)}, and this takes {needed}.")


def allows(scopes: Mapping[str, Any] | None, area: str, level: str) -> bool:
    """Whether a token with these scopes may do this in an area."""
    return scopes is None or _level(scopes.get(area)) >= _level(level)


def require_within(scopes: Mapping[str, Any] | None, wanted: Mapping[str, Any] | None) -> None:
    """Raises Forbidden when `wanted` is more than `scopes`: no token makes a mightier one."""
    if scopes is None:
        return
    asked = checked(wanted)
    if asked is None or any(LEVELS.index(level) > _level(scopes.get(area)) for area, level in asked.items()):
        raise Forbidden(f"This API key has the scopes {shown(scopes)}, and makes no key that may do more.")


def _level(level: Any) -> int:
    return LEVELS.index(level) if level in LEVELS else -1


def shown(scopes: Mapping[str, Any] | None) -> str:
    """Scopes for people."""
    return "all" if scopes is None else ", ".join(f"{area}:{level}" for area, level in sorted(scopes.items()))


def for_wire(scopes: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """As the official command reads them (hub.md §2.2); None for a token without."""
    if scopes is None:
        return None
    return {area: None if area not in scopes else {"read": True, "write": scopes[area] == "write"} for area in AREAS}
