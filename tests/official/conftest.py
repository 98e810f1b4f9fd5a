"""The official clients, unmodified, each in a Python environment of its own that is made once and kept in the cache.

A lane of its own, `script/test tests/official`: these tests run only where this folder, or a file of it, is named.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
from pathlib import Path

import pytest

from prime_core.uv import run_uv, uv_environment
from tests.official.rows import Rows, told
from tests.support.lanes import ignored_unless_named

HERE = Path(__file__).resolve().parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return ignored_unless_named(HERE, config)


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not Path(item.path).is_relative_to(HERE):
            continue
        item.add_marker(pytest.mark.index)
        item.add_marker(pytest.mark.slow)
        item.add_marker(pytest.mark.timeout(600))
        callspec = getattr(item, "callspec", None)
        # One worker for a version, so that its client is run once.
        group = callspec.params.get("version") if callspec is not None else None
        item.add_marker(pytest.mark.xdist_group(str(group or item.path.stem)))


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> Rows:
    """Notes which rows of the conformance plan a test goes through."""
    return Rows(request.node)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the rows of the conformance plan, whoever of the workers went through them."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if isinstance(report, pytest.TestReport) and report.when == "call"
    ]
    if lines := told(reports):
        terminalreporter.section("conformance: the official prime, unmodified (hub.md, section 7)")
        for line in lines:
            terminalreporter.write_line(line)


def python_with(*requirements: str) -> Path:
    """The Python of an environment with these distributions and what they need; made when there is none yet."""
    named = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    first = requirements[0].replace("==", "-")
    folder = Path(os.environ["PRIME_CACHE_DIR"]) / "official" / f"{first}-{named}"
    python, ready = folder / "bin" / "python", folder / ".ready"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            environment = uv_environment()
            made = run_uv(["venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], env=environment)
            assert made.returncode == 0, made.stderr
            install = ["pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *requirements]
            installed = run_uv(install, env=environment, timeout=500)
            assert installed.returncode == 0, installed.stderr
            ready.touch()
    return python
