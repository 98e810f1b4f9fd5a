"""Which environments of a Hub are installed: those that are asked for, and those that these require.

A name in Requires-Dist is an environment of the Hub when

1. the same command names an environment of that name, of whatever owner; that one is meant then; else when
2. the owner of the environment that requires it has one of that name.

Every other name is a package of the installer's own index. So nobody but the person who installs, and the owners whom
that person names, has a say in what a name means. An owner is trusted with the names of his own environments, as he is
with their code.

Versions are chosen as installers do (PEP 440, PEP 592): the newest that fits all who ask; a candidate only where nothing
else fits, or with `prerelease`; a yanked one only where exactly that one is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from resolvelib import AbstractProvider, BaseReporter, ResolutionImpossible, Resolver

from prime_core.errors import InstallError
from prime_core.interpreters import Interpreter
from prime_core.planning import active_requirements
from prime_core.references import Reference
from prime_core.wheel import WheelFile
from prime_core.wheelhouse import OURS, HubWheels, Published


@dataclass
class Chosen:
    """Wheels of environments, each with its extras, and what people should know of the choice."""

    wheels: list[tuple[WheelFile, set[str]]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Need:
    """Somebody (`asker`) needs an environment; `exact` holds where no other version will do."""

    owner: str
    name: str
    asker: str
    specifier: SpecifierSet = field(default_factory=SpecifierSet)
    exact: str | None = None
    extras: frozenset[str] = frozenset()

    def fits(self, version: str) -> bool:
        if self.exact is not None:
            return Version(self.exact) == Version(version)
        return self.specifier.contains(version, prereleases=True)

    def names(self, version: str) -> bool:
        """Whether it asks for exactly this version, so that it may be a yanked one (PEP 592)."""
        pinned = any(one.operator in ("==", "===") and not one.version.endswith(".*") for one in self.specifier)
        return (self.exact is not None or pinned) and self.fits(version)

    def __str__(self) -> str:
        wanted = f"{self.name}{self.specifier}" if self.exact is None else f"{self.name}=={self.exact}"
        return f"{self.asker} needs {wanted} of {self.owner}"


class _Candidate:
    """One version of an environment, whose wheel is fetched when it is looked into."""

    def __init__(self, source: HubWheels, owner: str, name: str, published: Published, extras: frozenset[str]) -> None:
        self.owner, self.name, self.published, self.extras = owner, name, published, extras
        self._source = source

    @cached_property
    def wheel(self) -> WheelFile:
        return self._source.environment(self.owner, self.name, self.published.version)


def choose(
    source: HubWheels,
    wanted: Sequence[Reference],
    target: Interpreter,
    *,
    upgrade: bool = False,
    no_upgrade: bool = False,
    prerelease: bool = False,
) -> Chosen:
    """The wheels of the wanted environments and, transitively, of those that they require, for `target`.

    `no_upgrade` leaves what is installed from the Hub at its version where no other is asked for; without `upgrade` that
    goes for what is only required. Raises InstallError when something is not there or does not fit together, APIError.
    """
    named: dict[str, Reference] = {}
    for one in wanted:
        other = named.setdefault(one.key, one)
        if (other.owner, other.version) != (one.owner, one.version):
            raise InstallError(
                f"{other} and {one} cannot both be installed: they have one name.",
                "Install them into two virtual environments.",
            )
    provider = _Provider(source, named, target, upgrade, no_upgrade, prerelease)
    needs = [provider.asked(one) for one in named.values()]
    try:
        result = Resolver(provider, _Silent()).resolve(needs, max_rounds=1000)
    except ResolutionImpossible as error:
        raise provider.impossible(list(dict.fromkeys(cause.requirement for cause in error.causes))) from None
    chosen = Chosen()
    for name in sorted(result.mapping, key=lambda name: name not in named):
        candidate = result.mapping[name]
        chosen.wheels.append((candidate.wheel, set(candidate.extras)))
        if candidate.published.yanked:
            reason = f": {candidate.published.reason}" if candidate.published.reason else "."
            chosen.warnings.append(
                f"{candidate.owner}/{candidate.name} {candidate.published.version} was yanked{reason}"
            )
    return chosen


class _Silent(BaseReporter[Any, Any, Any]):
    pass


class _Provider(AbstractProvider[_Need, _Candidate, str]):
    """What the resolver asks."""

    def __init__(
        self,
        source: HubWheels,
        named: Mapping[str, Reference],
        target: Interpreter,
        upgrade: bool,
        no_upgrade: bool,
        prerelease: bool,
    ) -> None:
        self._source, self._named, self._target = source, named, target
        self._upgrade, self._no_upgrade, self._prerelease = upgrade, no_upgrade, prerelease
        self._versions: dict[tuple[str, str], list[Published] | None] = {}

    def asked(self, wanted: Reference) -> _Need:
        """The need that stands for what the command names."""
        exact = None
        if wanted.version != "latest":
            exact = self._source.number(wanted.owner, wanted.key, wanted.version)
        elif self._published(wanted.owner, wanted.key) is None:
            raise self._source.missing(wanted.owner, wanted.name, "latest")
        elif self._no_upgrade:
            exact = self._installed(wanted.owner, wanted.key)
        return _Need(wanted.owner, wanted.key, "the command", exact=exact)

    def identify(self, requirement_or_candidate: _Need | _Candidate) -> str:
        return requirement_or_candidate.name

    def get_preference(
        self,
        identifier: str,
        resolutions: Mapping[str, _Candidate],
        candidates: Mapping[str, Iterator[_Candidate]],
        information: Mapping[str, Iterator[Any]],
        backtrack_causes: Sequence[Any],
    ) -> Any:
        return identifier not in self._named, identifier

    def find_matches(
        self,
        identifier: str,
        requirements: Mapping[str, Iterator[_Need]],
        incompatibilities: Mapping[str, Iterator[_Candidate]],
    ) -> Iterable[_Candidate]:
        needs = list(requirements[identifier])
        owner = needs[0].owner
        if any(need.owner != owner for need in needs):
            return []
        extras = frozenset[str]().union(*(need.extras for need in needs))
        refused = {candidate.published.version for candidate in incompatibilities[identifier]}
        fitting = [one for one in self._fitting(owner, identifier, needs) if one.version not in refused]
        return [_Candidate(self._source, owner, identifier, one, extras) for one in fitting]

    def is_satisfied_by(self, requirement: _Need, candidate: _Candidate) -> bool:
        return (
            requirement.owner == candidate.owner
            and requirement.fits(candidate.published.version)
            and requirement.extras <= candidate.extras
        )

    def get_dependencies(self, candidate: _Candidate) -> Iterable[_Need]:
        asker = f"{candidate.owner}/{candidate.name} {candidate.published.version}"
        lines = candidate.wheel.metadata["requires_dist"]
        needs = []
        for requirement in active_requirements(lines, candidate.extras, self._target):
            need = self._need(asker, candidate.owner, requirement)
            if need is not None and need.name != candidate.name:
                needs.append(need)
        return needs

    def _need(self, asker: str, owner: str, requirement: Requirement) -> _Need | None:
        """The environment that a requirement means; None for a package of the installer's index."""
        name = str(canonicalize_name(requirement.name))
        if name in OURS or requirement.url:
            return None
        if name in self._named:
            owner = self._named[name].owner
        elif self._published(owner, name) is None:
            return None
        extras = frozenset(requirement.extras)
        return _Need(owner, name, asker, requirement.specifier, extras=extras)

    def _fitting(self, owner: str, name: str, needs: list[_Need]) -> list[Published]:
        """The versions that fit all of them, the best first."""
        fitting = [
            one
            for one in self._published(owner, name) or []
            if all(need.fits(one.version) for need in needs)
            and (not one.yanked or any(need.names(one.version) for need in needs))
        ]
        exact = any(need.exact is not None for need in needs)
        both = SpecifierSet(",".join(str(need.specifier) for need in needs if str(need.specifier)))
        allowed = set(
            both.filter([one.version for one in fitting], prereleases=True if self._prerelease or exact else None)
        )
        fitting = sorted((one for one in fitting if one.version in allowed), key=lambda one: Version(one.version))[::-1]
        if not self._upgrade and name not in self._named and len(fitting) > 1:
            installed = self._installed(owner, name)
            fitting.sort(key=lambda one: one.version != installed)
        return fitting

    def _installed(self, owner: str, name: str) -> str | None:
        """The version that is installed, if it is the Hub's own wheel of it."""
        found = self._target.distributions.get(name)
        address = str((found.direct_url or {}).get("url")) if found else ""
        for one in self._published(owner, name) or []:
            if found and Version(one.version) == Version(found.version):
                sha256 = self._source.sha256(owner, name, one.version)
                return one.version if sha256 and sha256 in address else None
        return None

    def _published(self, owner: str, name: str) -> list[Published] | None:
        if (owner, name) not in self._versions:
            self._versions[owner, name] = self._source.versions(owner, name)
        return self._versions[owner, name]

    def impossible(self, needs: list[_Need]) -> InstallError:
        """What does not go together, in a sentence."""
        first = needs[0]
        owners = {need.owner for need in needs}
        versions = self._published(first.owner, first.name) or []
        live = [one.version for one in versions if not one.yanked]
        shown = f"{first.owner}/{first.name}"
        if len(owners) > 1:
            said = " and ".join(sorted(f"{need.asker} needs {need.owner}/{need.name}" for need in needs))
            return InstallError(
                f"{said}, which have one name; nothing was installed.", "Install them into two virtual environments."
            )
        if not live and versions and all(need.exact is None for need in needs):
            newest = max(versions, key=lambda one: Version(one.version))
            reason = f" ({newest.version}: {newest.reason})" if newest.reason else ""
            return InstallError(
                f"Every version of {shown} was yanked{reason}; a yanked one is installed only when it is asked for exactly.",
                f"If you mean it: 'prime env install {shown}@{newest.version}'.",
            )
        asked = "; ".join(str(need) for need in needs if need.exact is not None or str(need.specifier))
        return InstallError(
            f"{asked or first}; {first.owner} has {', '.join(live) or 'none'}; nothing was installed.",
            "Ask for another version with @VERSION.",
        )
