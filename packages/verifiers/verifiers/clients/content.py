"""Parts of a message's content, as chat completions write them, read for the APIs that write them otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from verifiers.errors import ModelError


def parts(content: Any) -> list[Any]:
    """The content as a list of parts; text becomes one, nothing becomes none."""
    if content is None or content == "":
        return []
    return said(content) if isinstance(content, list) else [{"type": "text", "text": str(content)}]


def said(value: Any) -> Any:
    """The value without what is null in it: a `datasets.Dataset` gives every part the fields of all, and APIs refuse those."""
    if isinstance(value, Mapping):
        return {key: said(item) for key, item in value.items() if item is not None}
    return [said(item) for item in value] if isinstance(value, list) else value


def encodable(value: Any) -> Any:
    """The value with U+FFFD for every half of a character (a surrogate without its other one), which UTF-8 does not know."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {encodable(key): encodable(item) for key, item in value.items()}
    return [encodable(item) for item in value] if isinstance(value, list | tuple) else value


def image(part: Mapping[str, Any]) -> tuple[str, str | None]:
    """Address (https: or data:) and detail of an `image_url` part, whose value is a mapping or the address alone."""
    value = part.get("image_url")
    if isinstance(value, Mapping):
        return str(value.get("url") or ""), value.get("detail")
    return str(value or ""), None


def data_url(url: str) -> tuple[str, str] | None:
    """Media type and base64 text of a data: URL; None for any other. Raises ModelError for one that is not base64."""
    if not url.startswith("data:"):
        return None
    head, comma, data = url[5:].partition(",")
    kind, *options = head.split(";")
    if not comma or "base64" not in options:
        raise ModelError("An image in the prompt is a data: URL without base64, which this API does not take.")
    return kind or "application/octet-stream", data


def arguments_object(arguments: Any) -> dict[str, Any]:
    """The arguments of a tool call as an object; text that is none stands whole under `arguments`."""
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        value = arguments
    return value if isinstance(value, dict) else {"arguments": value}
