"""Our own wheels, which the Hub hands out so that an install gets this code and no other of the same name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from prime_hub.errors import NotFound


@dataclass(frozen=True)
class Distribution:
    """One wheel on disk."""

    name: str
    version: str
    filename: str
    sha256: str
    path: Path


class Distributions:
    """The wheels in `prime_core.paths.served_wheels_dir()`, hashed once each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hashes: dict[tuple[str, int, int], str] = {}

    def all(self) -> list[Distribution]:
        """Every wheel there is now; none when the folder is missing. Reads each new file once (blocking)."""
        found = []
        for path in sorted(self._folder.glob("*.whl")):
            try:
                name, version, _, _ = parse_wheel_filename(path.name)
                state = path.stat()
                key = (path.name, state.st_mtime_ns, state.st_size)
                if key not in self._hashes:
                    with path.open("rb") as stream:
                        self._hashes[key] = hashlib.file_digest(stream, "sha256").hexdigest()
            except (InvalidWheelFilename, OSError):
                continue
            found.append(Distribution(str(name), str(version), path.name, self._hashes[key], path))
        return found

    def unmet(self, requires_dist: object) -> list[str]:
        """What a version requires (the lines of its Requires-Dist) of our own distributions and no wheel here fits, each as a
        sentence: nobody installs it from this Hub, whose installs take these distributions from nowhere else.
        """
        served: dict[str, Version] = {}
        for one in self.all():
            name = canonicalize_name(one.name)
            served[name] = max(Version(one.version), served.get(name, Version(one.version)))
        found = []
        for line in requires_dist if isinstance(requires_dist, list) else ():
            try:
                wanted = Requirement(str(line))
            except InvalidRequirement:
                continue
            here = served.get(canonicalize_name(wanted.name))
            if here is None or (wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})):
                continue
            if not wanted.specifier.contains(here, prereleases=True):
                needs = f"{wanted.name}{wanted.specifier}"
                found.append(
                    f"It needs {needs}, and this Hub serves {wanted.name} {here}: it cannot be installed here."
                )
        return found

    def file(self, filename: str) -> Distribution:
        """The wheel of this name. Raises NotFound."""
        for distribution in self.all():
            if distribution.filename == filename:
                return distribution
        raise NotFound(f"This Hub does not serve a distribution '{filename}'.")
