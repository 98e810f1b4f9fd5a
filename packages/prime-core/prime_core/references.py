"""An environment of a Hub as it is named on the command line: `OWNER/NAME` or `OWNER/NAME@VERSION`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from prime_core.errors import InstallError

_FORM = re.compile(r"([A-Za-z0-9][\w.-]*)/([A-Za-z0-9][\w.-]*)(?:@([\w.+!-]+))?")


@dataclass(frozen=True)
class Reference:
    """An environment of a Hub; `version` is a number, the start of a content hash, or `latest`."""

    owner: str
    name: str
    version: str = "latest"

    @property
    def key(self) -> str:
        """The normalised name."""
        from packaging.utils import canonicalize_name

        return str(canonicalize_name(self.name))

    @property
    def address(self) -> str:
        """The place of the environment itself, whatever the version."""
        return f"/environmentshub/{self.owner}/{self.name}"

    @property
    def path(self) -> str:
        """Its place in the Hub's API (protocols/hub.md §3.1)."""
        return f"{self.address}/@{self.version}"

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}" + ("" if self.version == "latest" else f"@{self.version}")


def parse_reference(text: str) -> Reference:
    """`owner/name[@version]` as a reference. Raises InstallError for anything else."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise InstallError(f"'{text}' is not of the form OWNER/NAME or OWNER/NAME@VERSION.", "See 'prime env list'.")
    return Reference(found[1], found[2], found[3] or "latest")
