"""Where the wheels of an installation come from: a Hub or this machine, kept in the cache by their hash."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from prime_core.api import APIClient
from prime_core.errors import InstallError, NotFound
from prime_core.files import atomic_file
from prime_core.paths import cache_dir, served_wheels_dir
from prime_core.wheel import WheelFile, describe_wheel, sha256_of

# The distributions of this project. No index's word is taken for them.
OURS = frozenset({"prime", "prime-core", "prime-evals", "prime-hub", "prime-sandboxes", "verifiers"})


@dataclass(frozen=True)
class Served:
    """One of our own distributions as a source offers it."""

    name: str
    version: str
    filename: str
    sha256: str
    location: str


@dataclass(frozen=True)
class Published:
    """One version of an environment as a Hub lists it; `reason` is why it was yanked."""

    version: str
    yanked: bool = False
    reason: str = ""


class Wheelhouse(Protocol):
    """A place that has our own distributions."""

    def offers(self) -> dict[str, Served]:
        """Our distributions by normalised name, the newest version of each. Raises APIError."""
        ...

    def fetch(self, served: Served) -> WheelFile:
        """The wheel in the cache, its hash checked. Raises InstallError, APIError."""
        ...

    @property
    def shown(self) -> str:
        """What a sentence calls this place."""
        ...


def cached(sha256: str, filename: str) -> Path:
    """Where a wheel of this hash lies in the cache. Raises InstallError for a name that is not a plain wheel's."""
    if Path(filename).name != filename or not filename.endswith(".whl") or len(sha256) != 64 or not sha256.isalnum():
        raise InstallError(f"'{filename}' is not the name of a wheel with a sha256; it was not fetched.")
    return cache_dir() / "wheels" / sha256.lower() / filename


def keep(wheel: WheelFile) -> WheelFile:
    """Put a wheel into the cache, where its path stays the same as long as its bytes do."""
    target = cached(wheel.sha256, wheel.path.name)
    if not _is_whole(target, wheel.sha256):
        with atomic_file(target) as copy, wheel.path.open("rb") as content:
            shutil.copyfileobj(content, copy)
    return describe_wheel(target, wheel.import_root)


def _is_whole(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256.lower()


def _newest(found: list[Served]) -> dict[str, Served]:
    from packaging.version import Version

    offers: dict[str, Served] = {}
    for item in sorted(found, key=lambda item: Version(item.version)):
        if item.name in OURS:
            offers[item.name] = item
    return offers


class HubWheels:
    """A Hub's wheels: our own distributions, and those of environments."""

    def __init__(self, client: APIClient) -> None:
        self._client = client
        self._details: dict[tuple[str, str, str], Mapping[str, Any]] = {}
        self.shown = f"The Hub at {client.base_url}"

    def offers(self) -> dict[str, Served]:
        """See Wheelhouse."""
        from packaging.utils import canonicalize_name
        from packaging.version import InvalidVersion, Version

        found = []
        for row in self._client.get("/distributions").get("distributions") or []:
            try:
                name, version = canonicalize_name(row["name"]), str(Version(row["version"]))
                found.append(Served(name, version, row["filename"], row["sha256"], row["url"]))
            except (KeyError, TypeError, InvalidVersion):
                raise InstallError(f"{self.shown} lists its distributions in a form that is not known here.") from None
        return _newest(found)

    def fetch(self, served: Served) -> WheelFile:
        """See Wheelhouse."""
        return self._download(served.location, served.filename, served.sha256)

    def environment(self, owner: str, name: str, version: str = "latest") -> WheelFile:
        """An environment's wheel, in the cache, its hash checked. Raises InstallError, APIError."""
        detail = self._detail(owner, name, version)
        url, sha256, filename = (detail.get(key) for key in ("wheel_url", "wheel_sha256", "wheel_filename"))
        if not (isinstance(url, str) and isinstance(sha256, str) and isinstance(filename, str)):
            raise InstallError(
                f"{owner}/{name} has no wheel on {self._shown}.", f"'prime env pull {owner}/{name}' gets its source."
            )
        return self._download(url, filename, sha256)

    def number(self, owner: str, name: str, version: str) -> str:
        """The number of a version that may be named by the start of its content hash. Raises InstallError, APIError."""
        return str(self._detail(owner, name, version).get("semantic_version") or version)

    def sha256(self, owner: str, name: str, version: str) -> str | None:
        """The hash of a version's wheel. Raises InstallError, APIError."""
        return self._detail(owner, name, version).get("wheel_sha256")

    def versions(self, owner: str, name: str) -> list[Published] | None:
        """The versions of an environment, or None when there is no such environment. Raises APIError."""
        try:
            answer = self._client.get(f"/environmentshub/{owner}/{name}/versions")
        except NotFound:
            return None
        data = answer.get("data", answer)
        rows = data.get("versions", []) if isinstance(data, dict) else data
        return [
            Published(str(row["version"]), bool(row.get("yanked")), str(row.get("yanked_reason") or ""))
            for row in rows
            if isinstance(row, dict) and row.get("version")
        ]

    def named(self, name: str) -> list[str]:
        """The environments of that (normalised) name, as OWNER/NAME. Raises APIError."""
        from packaging.utils import canonicalize_name

        rows = self._client.get("/environmentshub/", {"search": name, "limit": 50}).get("data") or []
        return [f"{row['owner']['name']}/{row['name']}" for row in rows if canonicalize_name(row["name"]) == name]

    def missing(self, owner: str, name: str, version: str, said: NotFound | None = None) -> InstallError:
        """The refusal for what is not there, or may not be seen."""
        if said is not None and said.code == "version_not_found":
            return InstallError(said.sentence, f"Run 'prime env versions {owner}/{name}' to see those there are.")
        wanted = f"{owner}/{name}" + ("" if version == "latest" else f"@{version}")
        why = said.sentence if said else f"There is no environment '{owner}/{name}' on this Hub."
        return InstallError(
            f"{self.shown} has no environment {wanted}, or it is private: {why}",
            f"Look with 'prime env list --search {name}'; for a private one run 'prime login' first.",
        )

    @property
    def _shown(self) -> str:
        return self.shown[0].lower() + self.shown[1:]

    def _detail(self, owner: str, name: str, version: str) -> Mapping[str, Any]:
        if (owner, name, version) not in self._details:
            try:
                answer = self._client.get(f"/environmentshub/{owner}/{name}/@{version}")
            except NotFound as error:
                raise self.missing(owner, name, version, error) from None
            self._details[owner, name, version] = answer.get("data", answer)
        return self._details[owner, name, version]

    def _download(self, url: str, filename: str, sha256: str) -> WheelFile:
        target = cached(sha256, filename)
        if not _is_whole(target, sha256):
            self._client.download(url, target, sha256=sha256, timeout=300)
        return describe_wheel(target)


class LocalWheels:
    """The wheels of our own distributions that came with this installation."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or served_wheels_dir()
        self.shown = f"The folder {self._folder}"

    def offers(self) -> dict[str, Served]:
        """See Wheelhouse."""
        from packaging.utils import InvalidWheelFilename, parse_wheel_filename

        found = []
        for path in sorted(self._folder.glob("*.whl")):
            try:
                name, version, _, _ = parse_wheel_filename(path.name)
            except InvalidWheelFilename:
                continue
            found.append(Served(name, str(version), path.name, sha256_of(path), str(path)))
        return _newest(found)

    def fetch(self, served: Served) -> WheelFile:
        """See Wheelhouse."""
        return keep(describe_wheel(Path(served.location)))
