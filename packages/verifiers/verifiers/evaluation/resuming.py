"""Which recorded run `--resume` continues, and why none."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from prime_evals import Found, NotARun, RunIdentity, RunSettings, find_runs


def run_to_continue(
    base: Path,
    identity: RunIdentity,
    settings: RunSettings,
    complete_too: bool = False,
    taken: Collection[Path] = (),
) -> Found:
    """The newest incomplete run under `base` with the same settings; complete_too: or else the newest complete one.
    taken: folders (resolved) that are not meant.

    Raises NotARun, with the nearest run and what is different in it.
    """
    found = [one for one in find_runs(base, identity, settings) if one.directory.resolve() not in taken]
    for one in found:
        if not one.differences and (complete_too or not one.is_complete):
            return one
    wanted = "run" if complete_too else "incomplete run"
    nearest = f" The nearest is {found[0]}." if found else ""
    raise NotARun(f"There is no {wanted} with these settings under {base}; leave --resume out to start one.{nearest}")
