"""What holds for the JSON of every request."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, model_validator

from prime_hub.errors import Invalid

DEEPEST = 100


class Asked(BaseModel):
    """The JSON of a request, `require_plain`."""

    @model_validator(mode="before")
    @classmethod
    def _is_plain(cls, given: Any) -> Any:
        require_plain(given)
        return given


def require_plain(given: Any) -> None:
    """Raises Invalid for JSON that a database does not keep, or that no answer can tell again, wherever it stands."""
    if not isinstance(given, dict):
        _require_plain(given, "The request")
        return
    for name, value in given.items():
        where = f"The field '{name[:80]}' of the request"
        _require_plain(name, where)
        _require_plain(value, where)


def _require_plain(given: Any, where: str) -> None:
    rest = [(given, 0)]
    while rest:
        value, depth = rest.pop()
        if depth > DEEPEST:
            raise Invalid(f"{where} is nested more than {DEEPEST} levels deep; make it flatter.")
        if isinstance(value, dict):
            rest += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, list):
            rest += [(item, depth + 1) for item in value]
        elif isinstance(value, str):
            _require_text(value, where)


def _require_text(value: str, where: str) -> None:
    if "\0" in value:
        raise Invalid(f"A NUL character cannot be in a text. {where} holds one; leave it out.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{where} holds half a character (a lone surrogate); send whole ones.") from None
