"""`prime env check`: what is checked, how it is shown. The checks themselves are in verifiers.checking."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prime_cli.interrupts import saying
from prime_cli.output import Output
from prime_core.errors import PackagingError

if TYPE_CHECKING:
    from prime_core.references import Reference
    from verifiers.checking import Check, Report, Result, Target

BASE = "./environments"
TERMINATED = 128 + signal.SIGTERM
FEW = 2  # skipped checks with one reason, above which they share a line
MARKS = {"pass": "✓", "warn": "!", "fail": "✗", "skip": "-"}
COLOURS = {"pass": "green", "warn": "yellow", "fail": "red", "skip": "dim"}


@dataclass(frozen=True)
class CheckOptions:
    """`env`: a name under `path`, OWNER/NAME[@VERSION], or None for the folder of `path`. `only`: ids."""

    env: str | None = None
    path: Path | None = None
    server: str | None = None
    quick: bool = False
    only: Sequence[str] = ()
    python: str | None = None


def check(options: CheckOptions, out: Output, *, as_json: bool = False) -> int:
    """Check and show it; the exit code. Raises PrimeError, UnknownCheck, and ValueError for a wrong --server."""
    from verifiers.checking import chosen

    chosen(only=options.only)  # an unknown id is told before anything is started
    with saying("what was started for the check is gone"), _target(options, out) as target:
        report = asyncio.run(_checked(target, options, out))
    if report is None:
        return TERMINATED
    if as_json:
        out.json(report.as_dict())
    else:
        show(report, out)
    return report.exit_code


def not_quick(ids: Sequence[str]) -> list[str]:
    """Those of the ids that the quick part does not make. Raises UnknownCheck."""
    from verifiers.checking import find

    return [name for name in ids if not find(name).quick]


def explain(id: str, out: Output) -> None:
    """Print the page of a check. Raises UnknownCheck."""
    from verifiers.checking import find

    out.data(find(id).explanation.rstrip("\n"))


def warn_before_push(folder: Path, out: Output) -> None:
    """The quick part before a push: what it finds is told, and never refuses one. What does refuse a push is told by it."""
    from verifiers.checking import of_folder, run

    report = asyncio.run(run(of_folder(folder, quick=True), quick=True))
    found = report.findings()
    for finding in found:
        out.warning(f"{finding.sentence} ({finding.id}; {finding.where})")
    if found:
        out.note("'prime env check --explain ID' tells more of each; --no-check leaves this out.")


@contextmanager
def _target(options: CheckOptions, out: Output) -> Generator[Target]:
    from prime_core.installing import target_python
    from prime_core.metadata import find_environment
    from prime_core.references import parse_reference
    from verifiers.checking import of_folder, of_server

    env, base = options.env, options.path
    if env is not None and "/" in env:
        if options.server is not None:
            raise PackagingError(
                "A published version is checked on its own image, so --server does not go with OWNER/NAME.",
                "Leave --server out, or name the folder: prime env check NAME --server URL",
            )
        with tempfile.TemporaryDirectory(prefix="prime-check-") as scratch:
            yield _published(parse_reference(env), Path(scratch), options.quick, out)
        return
    if env is None and options.server is not None and base is None and not Path("pyproject.toml").is_file():
        yield of_server(options.server)
        return
    folder = (base or Path()) if env is None else find_environment(env, base or Path(BASE))
    if env is None and not any((folder / name).exists() for name in ("pyproject.toml", "proj", "README.md")):
        raise PackagingError(
            f"There is no environment in {folder.resolve()}.",
            "Name one of ./environments, an OWNER/NAME of the Hub, a folder with --path, or a server with --server.",
        )
    python = None if options.quick else target_python(options.python)
    yield of_folder(folder, server_url=options.server, python=python, quick=options.quick, say=out.note)


def _published(reference: Reference, scratch: Path, quick: bool, out: Output) -> Target:
    """A version of the Hub, fetched and installed into a temporary place."""
    from prime_cli.environments.pull import fetched
    from prime_core.connection import connect
    from prime_core.errors import InstallError
    from prime_core.installing import install_from_hub
    from prime_core.manifest import load_manifest, manifest_path
    from prime_core.uv import run_uv
    from verifiers.checking import of_folder, of_version

    out.note(f"Fetching {reference}")
    folder, detail = fetched(reference, scratch / reference.name.replace("-", "_"), out)
    version = str(detail.get("semantic_version") or reference.version)
    about: dict[str, Any] = {"owner": reference.owner, "content_hash": detail.get("content_hash")}
    if quick:
        target = of_folder(folder, quick=True)
        target.details.update(about)
        del target.details["folder"]
        return target
    out.note(f"Installing {reference.owner}/{reference.name} {version} into a temporary place")
    made = run_uv(["venv", "--quiet", "--python", sys.executable, str(scratch / "venv")])
    if made.returncode != 0:
        raise InstallError(f"No virtual environment can be made: {made.stderr.strip()}")
    python = scratch / "venv" / "bin" / "python"
    pinned = f"{reference.owner}/{reference.name}@{version}"
    install_from_hub(connect(require_auth=False), [pinned], python, announce=lambda text: None)
    manifest = load_manifest(folder / "proj") if manifest_path(folder / "proj").is_file() else None
    made = of_version(folder, manifest, python)
    made.details.update(about)
    return made


async def _checked(target: Target, options: CheckOptions, out: Output) -> Report | None:
    """The report; None when SIGTERM ended it. Everything that was started is gone in any case."""
    from verifiers.checking import run
    from verifiers.evaluation.ending import Ending

    with Ending(signal.SIGTERM) as ending:
        ending.ends(asyncio.current_task())
        try:
            with _progress(out) as progress:
                return await run(target, quick=options.quick, only=options.only, progress=progress)
        except asyncio.CancelledError:
            if ending.number is not None:
                return None
            raise


@contextmanager
def _progress(out: Output) -> Generator[Any]:
    """What is going on, on stderr: one line that changes on a terminal, else a line for each group."""
    if sys.stderr.isatty() and not out.plain:
        from rich.console import Console

        with Console(stderr=True).status("Checking") as status:
            yield lambda check, result: status.update(f"Checking {check.group}: {check.id}")
        return
    groups: set[str] = set()

    def line(check: Check, result: Result | None) -> None:
        if result is None and check.group not in groups:
            groups.add(check.group)
            out.note(f"Checking {check.group}")

    yield line


def show(report: Report, out: Output) -> None:
    """The report for people: a line for each check, then what was found, then how many."""
    if not out.plain and sys.stdout.isatty():
        _draw(report, out)
    else:
        out.table(["", "check", ""], [[MARKS[outcome], name, text] for outcome, name, text in _lines(report)])
    for finding in report.findings():
        out.data()
        out.data(f"{finding.id}: {finding.sentence}")
        out.data(f"  where:  {finding.where}")
        out.data(f"  change: {finding.change}")
    counts = report.counts
    out.data()
    out.data(
        f"{counts['pass']} passed, {counts['warn']} with advice, {counts['fail']} failed, {counts['skip']} skipped "
        f"in {report.seconds:.1f} s"
    )
    found = report.findings()
    if found:
        out.note(f"More about it: prime env check --explain {found[0].id}")


def _lines(report: Report) -> list[tuple[str, str, str]]:
    """(outcome, id, text) for each check; those that were skipped for one reason share a line."""
    reasons = Counter(result.verdict.why for result in report.ordered if result.verdict.outcome == "skip")
    lines: dict[str, tuple[str, str, str]] = {}
    for result in report.ordered:
        verdict, many = result.verdict, reasons.get(result.verdict.why, 0)
        text = verdict.findings[0].sentence if verdict.findings else verdict.why or _title(result.id)
        together = verdict.outcome == "skip" and many > FEW
        name = f"{many} checks" if together else result.id
        lines.setdefault(text if together else name, (verdict.outcome, name, text.splitlines()[0]))
    return list(lines.values())


def _title(id: str) -> str:
    from verifiers.checking import find

    return find(id).title


def _draw(report: Report, out: Output) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(width=1)
    table.add_column(overflow="fold", ratio=2, max_width=26)
    table.add_column(overflow="fold", ratio=5)
    for outcome, name, text in _lines(report):
        colour = COLOURS[outcome]
        table.add_row(
            Text(MARKS[outcome], style=colour), Text(name), Text(text, style="dim" if outcome == "skip" else "")
        )
    Console(no_color=not out.coloured).print(table)
