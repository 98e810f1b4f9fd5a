"""What `prime hub doctor` prints: each way to run sandboxes, whether it works here, what is missing, what it would take."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

from prime_cli.output import Output

WIDTH = 110


def show(report: dict[str, Any], out: Output) -> None:
    """Print a report of `python -m prime_hub doctor --json`."""
    chosen = report.get("chosen")
    runtimes = report.get("runtimes") or []
    for runtime in runtimes:
        _runtime(runtime, runtime.get("name") == chosen, out)
    if chosen is None:
        out.data("Nothing here can run sandboxes; the lines marked ✗ above say what it would take.")
        return
    words = {item.get("name"): item.get("isolating") for item in runtimes}
    isolates = "isolates sandboxes" if words.get(chosen) else "does NOT isolate sandboxes: only for code you trust"
    out.data(f"A Hub started now uses {chosen}, which {isolates}.")
    others = [str(item["name"]) for item in runtimes if item.get("works") and item.get("name") != chosen]
    if others:
        out.data(f"Another one: prime hub start --runtime {others[0]}" + _also(others[1:]))


def _also(names: list[str]) -> str:
    return f" (or {', '.join(names)})" if names else ""


def _runtime(runtime: dict[str, Any], chosen: bool, out: Output) -> None:
    works = bool(runtime.get("works"))
    kind = "isolating" if runtime.get("isolating") else "not isolating"
    mark = out.mark(works)
    state = "works" if works else "does not work here"
    out.data(f"{mark} {runtime.get('name')} ({kind}): {state}{', chosen' if chosen else ''}")
    findings = runtime.get("findings") or []
    for finding in findings:
        good, needed = bool(finding.get("good")), bool(finding.get("needed", True))
        sign = out.mark(good) if good or needed else "-"
        _lines(f"    {sign} ", f"{finding.get('what')}: {finding.get('found')}", out)
        if not good and finding.get("fix"):
            _lines("      → ", str(finding["fix"]), out)
    told = any(not finding.get("good") and finding.get("needed", True) for finding in findings)
    if not works and not told and runtime.get("reason"):
        _lines(f"    {mark} ", str(runtime["reason"]), out)
    if works and runtime.get("not_enforced"):
        out.data("    Not enforced on this machine:")
        for line in _once(runtime["not_enforced"]):
            _lines("      - ", line, out)
    out.data()


def _once(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def _lines(first: str, text: str, out: Output) -> None:
    indent = " " * len(out.bare(first))
    wrapped = textwrap.wrap(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)
    for number, line in enumerate(wrapped or [""]):
        out.data(f"{first if number == 0 else indent}{line}")
