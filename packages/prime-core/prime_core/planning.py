"""What exactly is installed: direct references for environments and for our own distributions, and what stays.

An index could offer a `verifiers` 9.9, or a package named like an environment. So everything that is ours is named by
file and hash, also as a constraint for whatever else may ask for it; what the target already has of ours by direct
reference stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from prime_core.errors import InstallConflict, InstallError
from prime_core.interpreters import Installed, Interpreter, inspect
from prime_core.undeclared import undeclared
from prime_core.wheel import WheelFile, installed_paths
from prime_core.wheelhouse import OURS, Served, Wheelhouse

# Published by many environments at the top of site-packages; nothing imports them.
HARMLESS = frozenset({"README.md", "pyproject.toml", "LICENSE", "LICENSE.txt", "LICENSE.md"})


@dataclass
class Plan:
    """Names are normalised. `wheels` are installed by direct reference with their extras, `guards` only when
    something asks; `kept` are ours that stay at their version; `plain` are further requirements, from the index."""

    wheels: dict[str, WheelFile] = field(default_factory=dict)
    extras: dict[str, set[str]] = field(default_factory=dict)
    guards: dict[str, WheelFile] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    plain: list[str] = field(default_factory=list)

    def requirements(self) -> list[str]:
        """The requirement lines, environments and our own distributions first."""
        return [*(reference(name, wheel, self.extras.get(name)) for name, wheel in self.wheels.items()), *self.plain]

    def constraints(self) -> list[str]:
        """Constraint lines for everything that is ours, without extras, which constraints may not have."""
        return [reference(name, wheel) for name, wheel in sorted({**self.guards, **self.wheels}.items())]


def reference(name: str, wheel: WheelFile, extras: Iterable[str] | None = None) -> str:
    """`name[extra] @ file:///….whl#sha256=…` (PEP 508, PEP 440 direct reference)."""
    shown = f"[{','.join(sorted(extras))}]" if extras else ""
    return f"{name}{shown} @ {wheel.path.as_uri()}#sha256={wheel.sha256}"


def make_plan(
    environments: Iterable[tuple[WheelFile, Iterable[str]]],
    source: Wheelhouse,
    target: Interpreter,
    upgrade: bool,
    code: Path | None = None,
) -> Plan:
    """The plan for environment wheels, each with its extras. Raises InstallError when versions do not fit or something
    needed is missing. `code` is the wheel that has the code of an environment whose own wheel only points at it."""
    offers, plan = source.offers(), Plan()
    left: list[tuple[str, Requirement]] = []
    for wheel, extras in environments:
        name = canonicalize_name(wheel.metadata["name"])
        if name in OURS:
            raise InstallError(
                f"The environment's wheel calls itself '{name}', a name of this project; it is not installed."
            )
        _check_not_needed(name, target)
        plan.wheels[name], plan.extras[name] = wheel, set(extras)
        left += _active(wheel.metadata["requires_dist"], plan.extras[name], target, name)
        for line in undeclared(code or wheel.path, wheel.metadata["requires_dist"]):
            requirement = Requirement(line)
            if requirement.name in OURS:
                left.append((name, requirement))
            elif canonicalize_name(requirement.name) not in target.distributions:
                plan.plain.append(line)
    seen: set[tuple[str, frozenset[str]]] = set()
    while left:
        asker, requirement = left.pop()
        name = canonicalize_name(requirement.name)
        if name not in OURS:
            if asker in plan.kept:
                plan.plain.append(_without_marker(requirement))
            continue
        _check_fits(asker, requirement, name, offers, source, target, upgrade)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        installed = target.distributions.get(name)
        if installed and _stays(installed, offers.get(name), requirement.specifier, upgrade):
            plan.kept[name] = installed.version
            left += _active(installed.requires, requirement.extras, target, name)
        else:
            plan.wheels[name] = source.fetch(offers[name])
            plan.extras.setdefault(name, set()).update(requirement.extras)
            left += _active(plan.wheels[name].metadata["requires_dist"], requirement.extras, target, name)
    for name, served in offers.items():
        installed = target.distributions.get(name)
        if name in plan.wheels or name in plan.kept:
            continue
        if installed and _stays(installed, served, SpecifierSet(), upgrade):
            plan.kept[name] = installed.version
        else:
            plan.guards[name] = source.fetch(served)
    plan.plain = sorted(set(plan.plain))
    return plan


def active_requirements(lines: Iterable[str], extras: Iterable[str], target: Interpreter) -> list[Requirement]:
    """The requirements of a wheel that count in the target with these extras. Raises InstallError for a line that is none."""
    values = [{**default_environment(), **target.markers, "extra": extra} for extra in ("", *extras)]
    found = []
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            raise InstallError(f"A wheel requires '{line[:200]}', which is not a requirement (PEP 508).") from None
        if requirement.marker is None or any(requirement.marker.evaluate(value) for value in values):
            found.append(requirement)
    return found


def _active(
    lines: Iterable[str], extras: Iterable[str], target: Interpreter, asker: str
) -> list[tuple[str, Requirement]]:
    return [(asker, requirement) for requirement in active_requirements(lines, extras, target)]


def _without_marker(requirement: Requirement) -> str:
    plain = Requirement(str(requirement))
    plain.marker = None
    return str(plain)


def _stays(installed: Installed, served: Served | None, specifier: SpecifierSet, upgrade: bool) -> bool:
    """Whether an installed one of ours is left alone.

    Put there by direct reference it is ours; without one it may be an index's, and is replaced when ours is at hand.
    """
    if not specifier.contains(installed.version, prereleases=True):
        return False
    if served is None or installed.is_folder:
        return True
    return installed.direct_url is not None and not (upgrade and _newer(served.version, installed.version))


def _newer(one: str, other: str) -> bool:
    try:
        return Version(one) > Version(other)
    except InvalidVersion:
        return True


def _check_fits(
    asker: str,
    requirement: Requirement,
    name: str,
    offers: dict[str, Served],
    source: Wheelhouse,
    target: Interpreter,
    upgrade: bool,
) -> None:
    served, installed = offers.get(name), target.distributions.get(name)
    if installed and _stays(installed, served, requirement.specifier, upgrade):
        return
    wanted = f"{name}{requirement.specifier}"
    if requirement.url:
        raise InstallError(
            f"{asker} names {name} by address ({requirement.url}), which is not followed for a name of this project.",
            f"Its author should require '{name}' by version.",
        )
    if installed and installed.is_folder:
        raise InstallConflict(
            f"{asker} needs {wanted}, but {target.prefix} has {name} {installed.version} from a source folder.",
            "Install into another virtual environment (--python), or update that folder.",
        )
    if served is None:
        raise InstallError(
            f"{asker} needs {wanted}, and {source.shown[0].lower()}{source.shown[1:]} has no wheel of {name}.",
            "Run 'script/setup' where this was installed from, or name the folder of its wheels in PRIME_HUB_WHEELS.",
        )
    if not requirement.specifier.contains(served.version, prereleases=True):
        raise InstallError(
            f"{asker} needs {wanted}, but {source.shown[0].lower()}{source.shown[1:]} has {name} {served.version}.",
            "Ask for another version of the environment with NAME@VERSION.",
        )


def _check_not_needed(name: str, target: Interpreter) -> None:
    """An environment named like a package that other packages need would take that package's place."""
    installed = target.distributions.get(name)
    if installed is None or installed.direct_url is not None:
        return
    for other in needed_by(name, target):
        raise InstallConflict(
            f"An environment named '{name}' would replace the package {name} {installed.version}, which "
            f"{other} needs in {target.prefix}; nothing was installed.",
            "Install it into another virtual environment with --python.",
        )


def needed_by(name: str, target: Interpreter) -> list[str]:
    """The distributions that require that one, by their normalised names."""
    return [key for key, other in target.distributions.items() if key != name and name in _needs(other)]


def _needs(installed: Installed) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in _requirements(installed)}


def paths_of(plan: Plan, name: str | None = None) -> set[str]:
    """The files of the planned wheels, or of one, that must be nobody else's."""
    wheels = plan.wheels.values() if name is None else [plan.wheels[name]]
    return {path for wheel in wheels for path in installed_paths(wheel.path)} - HARMLESS


def check_no_overwriting(plan: Plan, target: Interpreter) -> None:
    """Raises InstallError when a planned wheel has a file that belongs to another distribution, installed or
    planned.
    """
    owners: dict[str, str] = {}
    for name, found in inspect(target.python, paths_of(plan)).distributions.items():
        if name not in plan.wheels:
            owners.update(dict.fromkeys(found.owns, name))
    for name in plan.wheels:
        for path in sorted(paths_of(plan, name)):
            if path in owners:
                raise would_overwrite(name, path, owners[path], target)
            owners[path] = name


def would_overwrite(name: str, path: str, owner: str, target: Interpreter) -> InstallConflict:
    """The refusal of a wheel with a file that is another distribution's."""
    return InstallConflict(
        f"{name} would overwrite {path} of {owner} in {target.prefix}; nothing was installed.",
        "Install it into another virtual environment with --python; its author can publish it anew with "
        "'prime env push', which keeps its files in a folder of their own.",
    )


def check_nothing_breaks(plan: Plan, after: Mapping[str, str | None], target: Interpreter) -> None:
    """Raises InstallConflict when an installed distribution that stays would not get what it requires any more. `after`:
    normalised name → version (None: gone) of everything that the installer would change.
    """
    for other, installed in target.distributions.items():
        if other in after:
            continue
        for requirement in _requirements(installed):
            name = canonicalize_name(requirement.name)
            before, version = target.distributions.get(name), after.get(name, "")
            if version == "" or before is None or not requirement.specifier.contains(before.version, prereleases=True):
                continue
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                asking = " and ".join(one for one in plan.wheels if one not in OURS) or "that"
                becomes = "removed" if version is None else f"replaced by {version}"
                raise InstallConflict(
                    f"For {asking}, {name} {before.version} in {target.prefix} would be {becomes}, and {installed.name} "
                    f"needs {name}{requirement.specifier}; nothing was installed.",
                    "Install it into another virtual environment with --python.",
                )


def _requirements(installed: Installed) -> list[Requirement]:
    """What a distribution requires without extras."""
    found = []
    for line in installed.requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            # Metadata from before PEP 508 was checked; it names nothing that could be compared.
            continue
        if "extra" not in str(requirement.marker):
            found.append(requirement)
    return found
