"""What this machine can run sandboxes with, what is missing, and what it would take."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prime_hub.runner.children import Children
from prime_hub.runner.runtimes.base import RunnerError, Setup
from prime_hub.runner.runtimes.choice import PREFERRED, names, runtime_class
from prime_hub.runner.runtimes.values import Finding


@dataclass(frozen=True)
class Examined:
    """One runtime on this machine; `reason` is a sentence where it does not work."""

    name: str
    works: bool
    isolating: bool
    reason: str | None
    findings: list[Finding] = field(default_factory=list)
    not_enforced: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "works": self.works,
            "isolating": self.isolating,
            "reason": self.reason,
            "findings": [finding.as_dict() for finding in self.findings],
            "not_enforced": self.not_enforced,
        }


async def examine(options: Mapping[str, str] | None = None) -> dict[str, Any]:
    """`{"chosen": NAME or None, "runtimes": [...]}`, the runtimes in the order of preference. Leaves nothing behind."""
    children = Children()
    children.start()
    try:
        with tempfile.TemporaryDirectory(prefix="prime-doctor-") as folder:
            setup = Setup(Path(folder), children, options or {})
            found = [await _examine(name, setup) for name in names()]
    finally:
        children.stop()
    chosen = next((one.name for one in found if one.works and one.name in PREFERRED), None)
    return {"chosen": chosen, "runtimes": [one.as_dict() for one in found]}


async def _examine(name: str, setup: Setup) -> Examined:
    try:
        kind = runtime_class(name)
    except Exception as error:
        # One that comes from elsewhere may be broken, which says nothing about the others.
        return Examined(name, False, False, f"The runtime {name} cannot be loaded ({type(error).__name__}: {error}).")
    isolating = bool(getattr(kind, "isolating", False))
    try:
        findings = await kind.examine(setup)
    except RunnerError as error:
        return Examined(name, False, isolating, str(error))
    except Exception as error:
        reason = f"The runtime {name} could not look at this machine ({type(error).__name__}: {error})."
        return Examined(name, False, isolating, reason)
    missing = next((finding for finding in findings if finding.needed and not finding.good), None)
    if missing is not None:
        return Examined(name, False, isolating, _sentence(missing), findings)
    # Only one that is open knows what it can hold sandboxes to on this host.
    runtime = kind(setup)
    try:
        await runtime.open()
        return Examined(name, True, isolating, None, findings, runtime.not_enforced())
    except RunnerError as error:
        return Examined(name, False, isolating, str(error), findings)
    except Exception as error:
        reason = f"The runtime {name} does not begin ({type(error).__name__}: {error})."
        return Examined(name, False, isolating, reason, findings)
    finally:
        with contextlib.suppress(Exception):
            await runtime.close()


def _sentence(finding: Finding) -> str:
    found = finding.found.rstrip(".")
    return f"{finding.what}: {found}." + (f" {finding.fix}" if finding.fix else "")


def shown(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = []
    for one in report["runtimes"]:
        mark = "would be used" if one["name"] == report["chosen"] else "works" if one["works"] else "does not work"
        lines.append(f"{one['name']}: {mark}, {'isolates' if one['isolating'] else 'does not isolate'}")
        for finding in one["findings"]:
            state = "ok" if finding["good"] else "missing" if finding["needed"] else "lacking"
            lines.append(f"  {state:8} {finding['what']}: {finding['found']}")
            if finding["fix"] and not finding["good"]:
                lines.append(f"           {finding['fix']}")
        if one["reason"] and all(finding["good"] or not finding["needed"] for finding in one["findings"]):
            lines.append(f"  {one['reason']}")
        lines += [f"  not enforced: {words}" for words in one["not_enforced"] if one["works"]]
    if report["chosen"] is None:
        lines.append("No runtime works on this machine, so it can run no sandboxes.")
    return "\n".join(lines)
