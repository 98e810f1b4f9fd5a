"""What is put into the images of hosted programs: the checker, or a published version as `prime env install` installs it.

The rules are those of `prime_core.choosing` and `prime_core.planning`: environments and our own distributions are wheels of
this Hub, by their files; only third-party dependencies come from an index.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from prime_core.choosing import choose
from prime_core.errors import InstallError, PackagingError
from prime_core.interpreters import Interpreter
from prime_core.planning import Plan, make_plan, paths_of
from prime_core.references import Reference
from prime_core.wheel import WheelFile, describe_wheel
from prime_core.wheelhouse import LocalWheels, Published, Served
from prime_hub.db.models import Account, Environment, Version
from prime_hub.errors import HubError, Invalid, NotFound
from prime_hub.services.blobs import BlobStore
from prime_hub.services.catalogue import Catalogue
from prime_hub.services.hosted import Recipe

PYTHONS = (f"{sys.version_info.major}.{sys.version_info.minor}", "3.12", "3.13", "3.11", "3.14")
CHECKER = ("verifiers", "prime-core", "prime-evals")
DOCKERFILE = """FROM python:{python}-slim
WORKDIR /app
COPY . /app/
RUN pip install --no-cache-dir -r requirements.txt -c constraints.txt --find-links wheels
CMD ["sleep", "infinity"]
"""

T = TypeVar("T")


class Recipes:
    """Makes recipes from this Hub's wheels. `folder` is where our own lie."""

    def __init__(self, catalogue: Catalogue, blobs: BlobStore, folder: Path) -> None:
        self._catalogue = catalogue
        self._blobs = blobs
        self._folder = folder

    def checker(self) -> Recipe:
        """An interpreter with our own wheels and what they need, and nothing of anybody's (blocking). Raises Invalid."""
        served = LocalWheels(self._folder).offers()
        missing = [name for name in CHECKER if name not in served]
        if missing:
            raise Invalid(
                f"This Hub serves no wheel of {', '.join(missing)}, so it cannot check anything; its operator runs "
                "'script/setup', or names the folder of its wheels in PRIME_HUB_WHEELS."
            )
        files: dict[str, bytes | Path] = {}
        lines = []
        for name in CHECKER:
            path = Path(served[name].location)
            files[f"wheels/{path.name}"] = path
            lines.append(f"./wheels/{path.name}")
        return _recipe(files, lines, [], PYTHONS[0])

    async def version(self, account: Account, environment: Environment, version: Version, scratch: Path) -> Recipe:
        """An interpreter with this version, the environments it needs, and the library to play it; `account` is who may see
        them. `scratch` holds the wheels as long as the recipe is used. Raises Invalid with why it cannot be installed.
        """
        python = _python(version.details.get("python_requires"))
        source = _Wheels(self._catalogue, self._blobs, self._folder, account, scratch, asyncio.get_running_loop())
        wanted = Reference(environment.owner.slug, environment.name, version.version)
        try:
            return await asyncio.to_thread(_planned, source, wanted, python)
        except (InstallError, PackagingError) as error:
            raise Invalid(f"It cannot be installed: {error.sentence}") from error


def _planned(source: _Wheels, wanted: Reference, python: str) -> Recipe:
    markers = {"python_version": python, "python_full_version": f"{python}.0"}
    target = Interpreter(Path("python"), Path("its image"), markers, {}, {})
    chosen = choose(source, [wanted], target)  # ty: ignore[invalid-argument-type] - the same methods, other wheels
    plan = make_plan(chosen.wheels, source, target, upgrade=False)
    offers = source.offers()
    for name in CHECKER:  # what plays it is there also where it does not say that it needs it
        if name not in plan.wheels:
            plan.wheels[name] = source.fetch(offers[name])
            plan.guards.pop(name, None)
    _refuse_overwriting(plan)
    files: dict[str, bytes | Path] = {}
    lines = list(plan.plain)
    for name, wheel in {**plan.guards, **plan.wheels}.items():
        files[f"wheels/{wheel.path.name}"] = wheel.path
        if name in plan.wheels:
            extras = ",".join(sorted(plan.extras.get(name) or ()))
            lines.append(f"./wheels/{wheel.path.name}" + (f"[{extras}]" if extras else ""))
    guards = [f"{name}=={wheel.metadata['version']}" for name, wheel in sorted(plan.guards.items())]
    return _recipe(files, lines, guards, python)


def _refuse_overwriting(plan: Plan) -> None:
    owners: dict[str, str] = {}
    for name in plan.wheels:
        for path in paths_of(plan, name):
            if path in owners:
                raise InstallError(f"{name} would overwrite {path} of {owners[path]}.")
            owners[path] = name


def _recipe(files: dict[str, bytes | Path], lines: list[str], guards: list[str], python: str) -> Recipe:
    files["Dockerfile"] = DOCKERFILE.format(python=python).encode()
    files["requirements.txt"] = "".join(f"{line}\n" for line in sorted(lines)).encode()
    files["constraints.txt"] = "".join(f"{line}\n" for line in guards).encode()
    return Recipe(files)


def _python(requires: object) -> str:
    """The first Python that a version takes. Raises Invalid where it takes none."""
    try:
        allowed = SpecifierSet(requires if isinstance(requires, str) else "")
    except InvalidSpecifier:
        allowed = SpecifierSet()
    for python in PYTHONS:
        if allowed.contains(f"{python}.99") or allowed.contains(f"{python}.0"):
            return python
    raise Invalid(f"It cannot be installed: it needs Python {requires}, and this Hub has {', '.join(PYTHONS)}.")


class _Wheels:
    """This Hub's wheels for `choose` and `make_plan`, which run in a thread: what `HubWheels` is for a client."""

    def __init__(
        self,
        catalogue: Catalogue,
        blobs: BlobStore,
        folder: Path,
        account: Account,
        scratch: Path,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._catalogue, self._blobs, self._account = catalogue, blobs, account
        self._scratch, self._loop = scratch, loop
        self._ours = LocalWheels(folder)
        self.shown = "This Hub"

    def _wait(self, work: Awaitable[T]) -> T:
        async def waited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(waited(), self._loop).result()

    def offers(self) -> dict[str, Served]:
        return self._ours.offers()

    def fetch(self, served: Served) -> WheelFile:
        return describe_wheel(Path(served.location))

    async def _version(self, owner: str, name: str, version: str) -> Version:
        return await self._catalogue.version(
            await self._catalogue.environment(self._account, owner, name), version or "latest"
        )

    def number(self, owner: str, name: str, version: str) -> str:
        return self._wait(self._found(owner, name, version)).version

    def sha256(self, owner: str, name: str, version: str) -> str | None:
        wheel = self._wait(self._found(owner, name, version)).wheel
        return None if wheel is None else wheel.sha256

    async def _found(self, owner: str, name: str, version: str) -> Version:
        try:
            return await self._version(owner, name, version)
        except HubError as error:
            raise InstallError(error.detail) from None

    def versions(self, owner: str, name: str) -> list[Published] | None:
        async def found() -> list[Published] | None:
            try:
                environment = await self._catalogue.environment(self._account, owner, name)
            except NotFound:
                return None
            rows = await self._catalogue.versions(environment)
            return [Published(row.version, row.yanked_at is not None, row.yanked_reason or "") for row in rows]

        return self._wait(found())

    def environment(self, owner: str, name: str, version: str = "latest") -> WheelFile:
        async def copied() -> Path:
            wheel = (await self._found(owner, name, version)).wheel
            if wheel is None or wheel.blob is None:
                raise InstallError(f"{owner}/{name} has no wheel.")
            target = self._scratch / wheel.sha256 / Path(wheel.filename).name
            target.parent.mkdir(exist_ok=True)
            async with self._blobs.local(wheel.blob) as path:
                await asyncio.to_thread(shutil.copyfile, path, target)
            return target

        return describe_wheel(self._wait(copied()))

    def missing(self, owner: str, name: str, version: str, said: Any = None) -> InstallError:
        return InstallError(f"There is no environment {canonicalize_name(name)} of {owner}.")
