"""An environment of a Hub as it is named on the command line: `OWNER/NAME` or `OWNER/NAME@VERSION`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """An environment of a Hub; `version` is a number, the start of a content hash, or `latest`."""

    owner: str
    name: str
    version: str = "latest"

    @property
    def path(self) -> str:
        """Its place in the Hub's API (protocols/hub.md §3.1)."""
        return f"/environmentshub/{self.owner}/{self.name}/@{self.version}"

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}" + ("" if self.version == "latest" else f"@{self.version}")


def parse_reference(text: str) -> Reference:
    """Raises InstallError for anything else."""
    from prime_core.installing import parse_reference as parse

    return Reference(*parse(text))
