"""What is a version number in pyproject.toml and on a Hub: PEP 440, in the one spelling that everybody reads alike."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version


def read_version(text: str) -> Version:
    """The number. Raises InvalidVersion, also where PEP 440 would take what is written otherwise: it is matched without
    regard to case, in which a long s or a Kelvin sign is a letter, and with spaces around.
    """
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidVersion(text)
    return Version(text)
