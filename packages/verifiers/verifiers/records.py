"""Dicts with declared fields: what messages, their parts and tools are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self


class Record(dict[str, Any]):
    """A dict whose declared fields are attributes too; a declared field that was not given reads as None."""

    FIELDS: ClassVar[tuple[str, ...]] = ()

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name in self.FIELDS:
            return None
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __missing__(self, key: str) -> Any:
        if key in self.FIELDS:
            return None
        raise KeyError(key)

    @classmethod
    def model_validate(cls, value: Mapping[str, Any]) -> Self:
        """A record of this class from any mapping."""
        return cls(**value)

    def model_dump(self, *, exclude_none: bool = False, **_: Any) -> dict[str, Any]:
        """Plain dicts and lists all the way down, ready for `json.dumps`."""
        return {key: _plain(value) for key, value in self.items() if not (exclude_none and value is None)}

    def model_dump_json(self, **options: Any) -> str:
        """What `model_dump` gives, as JSON."""
        import json

        indent = options.pop("indent", None)
        return json.dumps(self.model_dump(**options), indent=indent, ensure_ascii=False)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, **_: Any) -> Self:
        """A shallow copy, with some fields replaced."""
        copy = type(self).__new__(type(self))
        dict.update(copy, self)
        dict.update(copy, update or {})
        return copy

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.items())})"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
