"""Image references in all the spellings that manifests and clients use."""

from __future__ import annotations

import re
from dataclasses import dataclass

from prime_hub.errors import Invalid
from prime_hub.services.names import check_image_name

CANONICAL_HOST = "prime"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """An image by owner (None: the caller), name and tag; `digest`, where given, wins over the tag."""

    owner: str | None
    name: str
    tag: str
    digest: str | None = None

    def canonical(self, owner: str) -> str:
        """`prime/OWNER/NAME:TAG`."""
        return f"{CANONICAL_HOST}/{self.owner or owner}/{self.name}:{self.tag}"


def parse_reference(text: str) -> Reference:
    """`prime/OWNER/NAME:TAG`, `OWNER/NAME:TAG`, `NAME:TAG`, or any registry before these; each may end in `@sha256:…`.

    The tag defaults to `latest`. Raises Invalid.
    """
    rest, at, digest = text.strip().partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise Invalid(f"'{text[:300]}' has a digest that is not sha256: and 64 hexadecimal digits.")
    *path, last = rest.split("/")
    name, colon, tag = last.partition(":")
    if colon and not tag:
        raise Invalid(f"'{text[:300]}' is not an image reference; use OWNER/NAME:TAG or NAME:TAG.")
    check_image_name(name, tag or "latest")
    if path and (path[0] in (CANONICAL_HOST, "localhost") or "." in path[0] or ":" in path[0]):
        path = path[1:]
    return Reference(path[-1] if path else None, name, tag or "latest", digest or None)
