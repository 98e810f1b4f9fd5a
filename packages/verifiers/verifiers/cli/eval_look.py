"""Which environments are there, for whoever can install those that are not: `python -m verifiers.cli.eval_look`, with
`[[name, folder of local environments], …]` as JSON on standard input, and a list of `Look` as JSON on standard output.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from verifiers.loading import environment_name, local_folder, make_importable, plain_name
from verifiers.origin import WrongVersion, check_version, is_installed_path, origin_of


@dataclass(frozen=True, slots=True)
class Look:
    """An environment: whether it can be imported; `sentence` says why not, or that it is another version. `folder` is
    where it lies when it is played from there without having been installed, and `unmet` what it requires then and is
    not installed.
    """

    found: bool
    sentence: str = ""
    folder: str = ""
    unmet: list[str] = field(default_factory=list)


def look(env_id: str, base: str) -> Look:
    """Look for one environment. Nothing of its code is run."""
    name = environment_name(env_id)
    found = next((one for one in (name, plain_name(env_id)) if make_importable(one, base)), None)
    if found is None:
        from verifiers.cli.eval_plan import not_found

        return Look(False, not_found(env_id, name, base))
    try:
        check_version(env_id, origin_of(found, base))
    except WrongVersion as error:
        return Look(False, str(error))
    folder = local_folder(found, base)
    if folder is None or _is_installed(name) or is_installed_path(folder):
        return Look(True)
    return Look(True, folder=str(folder), unmet=unmet(folder))


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def unmet(folder: Path) -> list[str]:
    """The requirements of an environment's pyproject.toml that this interpreter does not meet, as they are written."""
    try:
        lines = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [line for line in lines if isinstance(line, str) and not _is_met(line, set())]


def _is_met(line: str, seen: set[str], extra: str = "") -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        needed = Requirement(line)
        if needed.marker is not None and not needed.marker.evaluate({"extra": extra}):
            return True
        found = importlib.metadata.distribution(needed.name)
    except InvalidRequirement:
        return True  # whoever installs it says so
    except importlib.metadata.PackageNotFoundError:
        return False
    if not needed.specifier.contains(found.version, prereleases=True):
        return False
    # An extra brings requirements of its own: verifiers[datasets].
    within = [
        (one, line) for one in needed.extras if f"{needed.name}[{one}]" not in seen for line in found.requires or ()
    ]
    seen |= {f"{needed.name}[{one}]" for one in needed.extras}
    return all(_is_met(line, seen, one) for one, line in within if "extra" in line)


def main() -> int:
    """Look for all that standard input names."""
    asked: Iterable[tuple[str, str]] = json.load(sys.stdin)
    print(json.dumps([asdict(look(env_id, base)) for env_id, base in asked]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
