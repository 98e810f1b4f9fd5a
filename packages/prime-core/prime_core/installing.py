"""Installing environments, from a Hub or from a folder, by direct reference and never by adding an index.

With a Hub as a further index a public package of the same name wins, or a Hub's package hides a public one. So wheels
are fetched here, checked against the Hub's hashes, and handed to the installer as `name @ file://…#sha256=…` (see
`prime_core.planning`); only third-party dependencies come from the index that the installer is configured with.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from prime_core.api import APIClient
from prime_core.connection import Connection
from prime_core.errors import APIError, InstallConflict, InstallError
from prime_core.installers import InstallerName as Installer
from prime_core.installers import installer_for, wrongly_installed
from prime_core.interpreters import Installed, Interpreter, inspect, target_python
from prime_core.planning import (
    Plan,
    check_no_overwriting,
    check_nothing_breaks,
    make_plan,
    needed_by,
    paths_of,
    would_overwrite,
)
from prime_core.references import parse_reference
from prime_core.restoring import Place, place_of
from prime_core.wheel import WheelFile, build_wheel, editable_wheel
from prime_core.wheelhouse import OURS, HubWheels, LocalWheels, Wheelhouse, keep

__all__ = [
    "Change",
    "InstallReport",
    "Installer",
    "install_from_hub",
    "install_local",
    "target_python",
    "uninstall",
]

FROM_HUB = "from the Hub"


def _silent(_: str) -> None:
    return None


@dataclass(frozen=True)
class Change:
    """A distribution that was installed (`old` None), removed (`new` None) or replaced. `was` and `now` say where it came
    from, where that is what changed, or where it was a folder's.
    """

    name: str
    old: str | None
    new: str | None
    was: str = ""
    now: str = ""

    def __str__(self) -> str:
        old = f"{self.old} ({self.was})" if self.was else self.old
        new = f"{self.new} ({self.now})" if self.now else self.new
        if self.old is None:
            return f"{self.name} {new}"
        return f"{self.name} {old} → {new or 'removed'}"


@dataclass(frozen=True)
class InstallReport:
    """What an installation did: the environments (name → version), the interpreter, every distribution that changed, and
    what there is to warn of.
    """

    environments: dict[str, str]
    python: Path
    changes: list[Change] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def install_from_hub(
    connection: Connection,
    refs: Sequence[str],
    python: Path,
    installer: Installer = "uv",
    upgrade: bool = False,
    *,
    no_upgrade: bool = False,
    prerelease: bool = False,
    whole: bool = False,
    announce: Callable[[str], None] = _silent,
) -> InstallReport:
    """Install `owner/name[@version]`s from a Hub for `python`, with the environments that they require
    (`prime_core.choosing` says which these are).

    `upgrade` raises what they need to the newest that fits; `no_upgrade` leaves an environment that is installed at its
    version; `prerelease` takes candidates too; `whole` refuses what would leave something else that is installed without
    what it requires. Raises InstallError (InstallConflict where another virtual environment would help), and everything is
    as it was then, and APIError.
    """
    from prime_core.choosing import choose

    references = [parse_reference(ref) for ref in refs]
    wanted = [replace(reference, owner=reference.owner.lower()) for reference in references]
    before = inspect(python)
    with place_of(before, announce) as place, APIClient(connection.base_url, connection.api_key) as client:
        before = inspect(python) if place.recovered else before
        source = HubWheels(client)
        chosen = choose(source, wanted, before, upgrade=upgrade, no_upgrade=no_upgrade, prerelease=prerelease)
        job = _Job(chosen.wheels, source, before, installer, upgrade, prerelease, FROM_HUB, whole=whole)
        try:
            changes = job.run(place)
        except InstallConflict:
            raise
        except InstallError as error:
            raise _with_other_owners(error, source, chosen.wheels) from None
    return InstallReport(job.environments, python, changes, chosen.warnings)


def install_local(
    env_dir: Path,
    python: Path,
    installer: Installer = "uv",
    upgrade: bool = False,
    editable: bool = True,
    *,
    prerelease: bool = False,
    whole: bool = False,
    announce: Callable[[str], None] = _silent,
) -> InstallReport:
    """Install the environment of a folder for `python`; our own distributions come from `served_wheels_dir()`.

    With `editable` what is changed in the folder afterwards counts at once (a rebuilt `proj/.build.json` too); an
    environment whose layout does not allow it is installed as a copy. `whole` as in `install_from_hub`. Raises
    PackagingError, InstallError.
    """
    with tempfile.TemporaryDirectory(prefix="prime-install-") as scratch:
        wheel = build_wheel(env_dir, Path(scratch) / "full")
        code = wheel.path
        if editable and wheel.import_root is not None:
            wheel = editable_wheel(wheel, Path(scratch) / "editable")
        before = inspect(python)
        with place_of(before, announce) as place:
            before = inspect(python) if place.recovered else before
            now = f"from {env_dir.absolute()}"
            job = _Job([(keep(wheel), ())], LocalWheels(), before, installer, upgrade, prerelease, now, code, whole)
            changes = job.run(place)
    return InstallReport(job.environments, python, changes)


def uninstall(
    names: Sequence[str], python: Path, installer: Installer = "uv", announce: Callable[[str], None] = _silent
) -> InstallReport:
    """Remove environments; what they needed stays. Raises InstallError, and everything is as it was then."""
    from packaging.utils import canonicalize_name

    before = inspect(python)
    with place_of(before, announce) as place, tempfile.TemporaryDirectory(prefix="prime-install-") as scratch:
        before = inspect(python) if place.recovered else before
        keys = list(dict.fromkeys(str(canonicalize_name(name)) for name in names))
        for key in keys:
            _check_removable(key, keys, before)
        program = installer_for(installer, Plan(), before, Path(scratch), False, False, place.lock)
        with place.change(keys):
            program.uninstall(keys)
            after = inspect(python)
            left = [key for key in keys if key in after.distributions]
            if left:
                raise InstallError(f"{installer} did not remove {', '.join(left)} from {before.prefix}.")
    return InstallReport({}, python, _changes(before, after, set(), ""))


def _check_removable(key: str, keys: Sequence[str], before: Interpreter) -> None:
    installed = before.distributions.get(key)
    if installed is None:
        raise InstallError(f"{key} is not installed in {before.prefix}; nothing was removed.")
    if key in OURS:
        raise InstallError(f"{key} is no environment, but a part of this program; nothing was removed.")
    needing = [other for other in needed_by(key, before) if other not in keys]
    if needing:
        raise InstallError(
            f"{', '.join(needing)} in {before.prefix} needs {key}; nothing was removed.",
            "Remove both in one command, if both are environments.",
        )


class _Job:
    """One installation of wheels, planned and run."""

    def __init__(
        self,
        environments: Sequence[tuple[WheelFile, Iterable[str]]],
        source: Wheelhouse,
        before: Interpreter,
        installer: Installer,
        upgrade: bool,
        prerelease: bool,
        now: str,
        code: Path | None = None,
        whole: bool = False,
    ) -> None:
        self.environments = {wheel.metadata["name"]: wheel.metadata["version"] for wheel, _ in environments}
        self._wheels, self._source, self._before = environments, source, before
        self._installer, self._upgrade, self._prerelease, self._now = installer, upgrade, prerelease, now
        self._code, self._whole = code, whole

    def run(self, place: Place) -> list[Change]:
        """What has changed. Raises InstallError, and everything is as it was then."""
        try:
            return self._run(place)
        except InstallConflict as error:
            error.environments = self.environments
            raise

    def _run(self, place: Place) -> list[Change]:
        before = self._before
        plan = make_plan(self._wheels, self._source, before, self._upgrade, self._code)
        check_no_overwriting(plan, before)
        with tempfile.TemporaryDirectory(prefix="prime-install-") as scratch:
            program = installer_for(
                self._installer, plan, before, Path(scratch), self._upgrade, self._prerelease, place.lock
            )
            removed = program.removes()
            if self._whole:
                check_nothing_breaks(plan, {**dict.fromkeys(removed), **program.brings()}, before)
            with place.change({*removed, *plan.wheels}):
                program.install()
                after = inspect(before.python, paths_of(plan))
                self._check(plan, after)
        return _changes(before, after, set(plan.wheels), self._now)

    def _check(self, plan: Plan, after: Interpreter) -> None:
        """What the installer brought along is known only now. Raises InstallError."""
        wrong = wrongly_installed(plan, self._before, after)
        if wrong:
            raise InstallError(
                f"{self._installer} installed {', '.join(wrong)} otherwise than asked into {after.prefix}; that was taken "
                "back.",
                "Look at its configuration, and install into a fresh virtual environment.",
            )
        for name, found in after.distributions.items():
            if name not in plan.wheels and found.owns:
                path = found.owns[0]
                owner = next(key for key in plan.wheels if path in paths_of(plan, key))
                raise would_overwrite(owner, path, name, after)


def _changes(before: Interpreter, after: Interpreter, ours: set[str], now: str) -> list[Change]:
    found = []
    for name in sorted({*before.distributions, *after.distributions}):
        old, new = before.distributions.get(name), after.distributions.get(name)
        if old and new and old.same_as(new):
            continue
        was = _origin(old) if old and (old.folder or (new and old.version == new.version)) else ""
        shown = (now if name in ours else _origin(new)) if was and new else ""
        found.append(Change(name, old.version if old else None, new.version if new else None, was, shown))
    return found


def _origin(installed: Installed | None) -> str:
    if installed is None:
        return ""
    if installed.folder:
        return f"from {installed.folder}"
    return "another copy" if installed.direct_url else "from an index"


def _with_other_owners(
    error: InstallError, source: HubWheels, wheels: Sequence[tuple[WheelFile, Iterable[str]]]
) -> InstallError:
    """The error, with the environments that may have been meant by names that the index does not know."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    mine = {canonicalize_name(wheel.metadata["name"]) for wheel, _ in wheels}
    names = {
        canonicalize_name(Requirement(line).name) for wheel, _ in wheels for line in wheel.metadata["requires_dist"]
    }
    for name in sorted(names - mine - OURS):
        if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", error.message):
            continue
        try:
            found = source.named(name)
        except APIError:
            return error
        if found:
            return InstallError(
                error.message,
                f"This Hub has {', '.join(found[:5])}. If that is meant by {name}, name it in the same command.",
            )
    return error
