"""Reading what the Hub sends: each field checked once, refused with its name."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.requests import Request

from prime_hub.runner.records import NAME

MAX_WAIT_SECONDS = 60.0
NO_VARIABLE = "'{}' cannot be the name of a variable; it must not be empty nor hold '='."


class BadRequest(Exception):
    """The request is not understood; the message names the field."""


def is_variable(name: str) -> bool:
    """Whether an environment can hold a variable of that name."""
    return bool(name) and "=" not in name and "\0" not in name


class Fields:
    """The fields of one JSON body."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    @classmethod
    async def read(cls, request: Request) -> Fields:
        """The request's JSON object ({} for an empty body). Raises BadRequest."""
        body = await request.body()
        try:
            content = json.loads(body) if body.strip() else {}
        except ValueError:
            raise BadRequest("The body is not JSON.") from None
        if not isinstance(content, dict):
            raise BadRequest("The body is not a JSON object.")
        return cls(content)

    def get(self, name: str) -> Any:
        """The field as it came, None when it is missing."""
        return self._content.get(name)

    def string(self, name: str, default: str | None = None) -> str:
        """A string; `default` when missing or null, where there is one."""
        value = self.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or "\0" in value:
            raise BadRequest(f"{name} must be a string.")
        return value

    def name(self, name: str) -> str:
        """A string that is safe as a folder's name."""
        value = self.string(name)
        if not NAME.fullmatch(value):
            raise BadRequest(f"{name} must be letters, digits, '_', '.' and '-' only, 100 at most.")
        return value

    def strings(self, name: str) -> dict[str, str]:
        """An object of strings; numbers and truth values are written out, null means empty."""
        value = self.get(name) or {}
        if not isinstance(value, dict):
            raise BadRequest(f"{name} must be an object of strings.")
        for key in value:
            if not is_variable(key):
                raise BadRequest(f"{name}: {NO_VARIABLE.format(key[:100])}")
        return {key: "" if item is None else str(item).replace("\0", "") for key, item in value.items()}

    def integer(self, name: str, *, required: bool = True) -> int | None:
        """A whole number above zero."""
        value = self.get(name)
        if value is None and not required:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise BadRequest(f"{name} must be a whole number above zero.")
        return value

    def positive(self, name: str) -> float | None:
        """A number above zero, or None."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise BadRequest(f"{name} must be a number above zero.")
        return float(value)

    def object(self, name: str) -> Fields:
        """An object, empty when missing or null."""
        value = self.get(name)
        if value is not None and not isinstance(value, dict):
            raise BadRequest(f"{name} must be an object.")
        return Fields(value or {})

    def words(self, name: str) -> list[str] | None:
        """A list of strings, or None."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(word, str) and "\0" not in word for word in value):
            raise BadRequest(f"{name} must be a list of strings.")
        return list(value)

    def command(self, name: str) -> str | list[str] | None:
        """A shell line, a list of words, or None (also for an empty one)."""
        value = self.get(name)
        if value is None or isinstance(value, str):
            return value or None
        if isinstance(value, list) and all(isinstance(word, str) and "\0" not in word for word in value):
            return value or None
        raise BadRequest(f"{name} must be a string or a list of strings.")


def seconds_to_wait(request: Request) -> float:
    """`?wait=S`, 0 when missing, bounded."""
    try:
        wanted = float(request.query_params.get("wait", 0))
    except ValueError:
        raise BadRequest("wait must be a number of seconds.") from None
    return min(MAX_WAIT_SECONDS, wanted) if wanted > 0 else 0.0


def query_integer(request: Request, name: str, default: int, *, negative: bool = False) -> int:
    """`?NAME=N`. Raises BadRequest."""
    try:
        value = int(request.query_params.get(name, default))
    except ValueError:
        raise BadRequest(f"{name} must be a whole number.") from None
    if value < 0 and not negative:
        raise BadRequest(f"{name} must not be negative.")
    return value
