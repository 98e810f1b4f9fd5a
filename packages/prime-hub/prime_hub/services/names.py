"""Which names there may be: of owners, environments, images, versions."""

from __future__ import annotations

import re

from packaging.utils import canonicalize_name, canonicalize_version
from packaging.version import InvalidVersion

from prime_core.entries import shown
from prime_core.versions import read_version
from prime_hub.errors import Invalid

SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,37}[a-z0-9])?")
PROJECT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
IMAGE = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
HASH = re.compile(r"[0-9a-f]{64}")
LONGEST_VERSION = 64

# First segments of this Hub's own addresses, and of image references.
RESERVED_WORDS = """
    admin api assets dashboard docs gateway health images index latest library login logout metrics new openapi personal
    prime registry settings simple static teams tokens user users www
"""
# Where an account may be named by its id or by its name, none is mistaken for the other.
ID = re.compile(r"(?:team-)?(?:[0-9a-f]{24}|c[0-9a-z]{24})")
TEAM_ID = re.compile(r"c[0-9a-z]{24}")
RESERVED = frozenset(RESERVED_WORDS.split())


def slug_from(text: str) -> str:
    """A valid slug out of any user name."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:39].strip("-") or "owner"
    return f"{slug}-user" if slug in RESERVED or ID.fullmatch(slug) else slug


def check_slug(slug: str) -> str:
    """The slug itself. Raises Invalid with the rule it breaks."""
    if not SLUG.fullmatch(slug):
        raise Invalid(
            f"'{slug}' cannot be an account name: use 1 to 39 lower-case letters, digits and inner hyphens, like 'ada'."
        )
    if ID.fullmatch(slug):
        raise Invalid(f"'{slug}' looks like an account's id; choose another account name.")
    if slug in RESERVED:
        raise Invalid(f"'{slug}' is a word that the Hub's own addresses use; choose another account name.")
    return slug


def check_project(name: str) -> str:
    """The environment's normalised name (PEP 503). Raises Invalid with the rule it breaks."""
    if not PROJECT.fullmatch(name):
        raise Invalid(
            f"'{shown(name[:120])}' cannot be an environment name: use letters, digits, '-', '_' and '.', starting and ending "
            "with a letter or digit, at most 100 characters."
        )
    return str(canonicalize_name(name))


def check_version(version: str | None) -> str:
    """The version as written. Raises Invalid when it is not one (PEP 440)."""
    try:
        if not version or len(version) > LONGEST_VERSION:
            raise InvalidVersion(version)
        if len(canonicalize_version(read_version(version))) > LONGEST_VERSION:  # 1-1 is 1.post1
            raise InvalidVersion(version)
    except InvalidVersion:
        raise Invalid(
            f"'{shown(str(version)[:80])}' is not a version; use one such as 0.1.0 in pyproject.toml (PEP 440)."
        ) from None
    return version


def canonical(version: str) -> str | None:
    """A number without its spelling: 0.1 and 0.1.0 are one version (PEP 440). None for what nobody can have published."""
    # Also because Python reads no number of thousands of digits.
    return str(canonicalize_version(version)) if len(version) <= LONGEST_VERSION else None


def check_hash(value: str, what: str) -> str:
    """The hash in lower case. Raises Invalid when it is not a SHA-256 in hex."""
    value = value.lower()
    if not HASH.fullmatch(value):
        raise Invalid(f"The {what} must be a SHA-256 in hexadecimal, 64 characters.")
    return value


def check_image_name(name: str, tag: str) -> None:
    """Raises Invalid when the name or the tag of an image breaks the rules that container registries share."""
    if len(name) > 128 or not IMAGE.fullmatch(name):
        raise Invalid(
            f"'{name[:130]}' cannot be an image name: use lower-case letters and digits, separated by '-', '_' or '.'."
        )
    if not TAG.fullmatch(tag):
        raise Invalid(f"'{tag[:130]}' cannot be an image tag: use letters, digits, '_', '.' and '-', at most 128.")
