"""Loading the environment and playing it, in a child program of its own interpreter. Its code never runs in here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prime_core.checks.report import Verdict, failed, passed
from prime_core.children import child_environment
from verifiers.checking.case import Blocked, Case

PROGRAM = Path(__file__).with_name("child.py")
TAIL = 800
EVENTS = 1024 * 1024  # characters of what a child tells; what is beyond is not read
# Kinds of error that are no fault of the environment's code: a model, a key or a sandbox is missing.
NOT_ITS_FAULT = frozenset({"InfraError", "ModelError", "MissingKeyError", "NotAuthenticated", "Unreachable"})


@dataclass(slots=True)
class Told:
    """What the child has told: its events, how it ended, the end of what it printed."""

    events: list[dict[str, Any]] = field(default_factory=list)
    ended: str = ""
    printed: str = ""

    def of(self, event: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [item for item in self.events if item["event"] == event]

    @property
    def policies(self) -> list[str]:
        """The baselines that were played."""
        return list(dict.fromkeys(item["policy"] for item in self.of("rollout")))

    def rewards(self, policy: str) -> list[float | None]:
        """The rewards of a baseline's rollouts; None for those that were not scored."""
        return [item["reward"] for item in self.of("rollout") if item["policy"] == policy]


async def loaded(case: Case) -> Told:
    """The environment, loaded; without a server it was played as well. Raises: Blocked."""
    return await case.once("loaded", lambda: _loaded(case))


async def _loaded(case: Case) -> Told:
    serverless = not case.target.has_project
    told = await _child(case, play=serverless, server_url=None)
    missing = told.of("no verifiers")
    if missing:
        raise Blocked(
            f"{case.target.python} has no verifiers that can play baselines ({missing[0]['error']}); --python names "
            "another interpreter."
        )
    wrong = told.of("failed")
    if wrong and wrong[0]["keys"]:
        raise Blocked(f"It needs the environment variables {', '.join(wrong[0]['keys'])}; set them and check again.")
    if wrong:
        kind, text = wrong[0]["type"], wrong[0]["error"]
        change = "Correct what the last line says."
        if kind == "ModuleNotFoundError":
            change = "Name it in [project].dependencies, and install the environment: prime env install NAME."
        case.blame("load-fails", f"Loading it raises {kind}: {text}", wrong[0]["where"] or "load_environment", change)
    if not told.of("loaded"):
        tail = f" It printed:\n{told.printed}" if told.printed else ""
        case.blame(
            "load-fails",
            f"Loading it did not come to an end ({told.ended}).{tail}",
            "load_environment",
            "Let load_environment only build the environment; what takes long belongs into setup_state or the image.",
        )
    return told


async def rollouts(case: Case) -> Told:
    """The environment, played with baselines; on its server where it has one. Raises: Blocked."""
    return await case.once("rollouts", lambda: _rollouts(case))


async def _rollouts(case: Case) -> Told:
    if not (case.target.folder or case.target.module):
        raise Blocked("No environment was named, only a server.")
    told = await loaded(case)
    if not case.target.has_project:
        return told
    await case.episode(1)  # a server that cannot be played is told of by its own id
    started = await case.server()
    told = await _child(case, play=True, server_url=started.running.url)
    if not told.of("loaded"):
        raise Blocked("It could not be loaded to play on the server.")
    return told


async def _child(case: Case, *, play: bool, server_url: str | None) -> Told:
    target = case.target
    if target.folder is None and target.module is None:
        raise Blocked("No environment was named, only a server.")
    task: dict[str, Any] = {
        "module": target.module,
        "folder": None,
        "server_url": server_url,
        "play": play,
        "rollouts": case.limits.rollouts,
    }
    if target.child is not None:
        return await target.child(task, case.limits.load)
    with tempfile.TemporaryDirectory(prefix="prime-check-") as scratch:
        place = Path(scratch)
        if target.folder is not None and target.module is None:
            task["folder"] = str(await asyncio.to_thread(_copied, case, place / "environment"))
            task["module"] = _module(target.folder)
        environment = dict(os.environ) if target.trusted else child_environment()
        return await play_in(place, task, target.python or Path(sys.executable), environment, case.limits.load)


async def play_in(place: Path, task: dict[str, Any], python: Path, environment: dict[str, str], seconds: float) -> Told:
    """Run the child in the folder `place` and wait for its end, or end it after so many seconds; what it told."""
    (place / "task.json").write_text(json.dumps(task), encoding="utf-8")
    events = place / "events.jsonl"
    told = Told()
    told.ended, told.printed = await _run(place, python, {**environment, "PYTHONDONTWRITEBYTECODE": "1"}, seconds)
    if events.is_file():
        with events.open(encoding="utf-8", errors="replace") as file:
            text = file.read(EVENTS)
        for line in text.splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                told.events.append(json.loads(line))
    return told


async def _run(place: Path, python: Path, environment: dict[str, str], seconds: float) -> tuple[str, str]:
    """Run the child; how it ended, and the end of what it printed."""
    output = place / "output"
    with output.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(python),
            "-P",
            str(PROGRAM),
            str(place / "task.json"),
            str(place / "events.jsonl"),
            cwd=place,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        code = await asyncio.wait_for(process.wait(), seconds)
        ended = f"exit code {code}"
    except TimeoutError:
        ended = f"it was ended after {seconds:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # with all that it started
        await process.wait()
    with output.open("rb") as printed:
        printed.seek(max(0, output.stat().st_size - 4 * TAIL))
        return ended, printed.read(4 * TAIL).decode("utf-8", "replace").strip()[-TAIL:]


def unusable(told: Told) -> list[str]:
    """What the rubric has said of reward functions that gave NaN or an infinity."""
    return [item["error"] for item in told.of("rubric") if re.search(r"returned -?(nan|inf)\b", item["error"])]


def _module(folder: Path) -> str:
    from prime_core.errors import PackagingError
    from prime_core.metadata import module_name, read_metadata

    try:
        return read_metadata(folder).module_name
    except PackagingError:
        return module_name(folder.absolute().name)


def _copied(case: Case, place: Path) -> Path:
    """What would be published of the folder, and a manifest, since an OpenEnv environment is not built without one."""
    from prime_core.manifest import Manifest, write_manifest
    from prime_core.packaging import archive_files

    assert case.target.folder is not None
    for name, path in archive_files(case.target.folder):
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    if case.target.has_project and (place / "proj").is_dir():
        # What the server speaks, whatever is declared: that they differ is told by another check.
        manifest = case.target.manifest or Manifest("none:latest", 8000, "none")
        write_manifest(place / "proj", replace(manifest, contract=case.contract or manifest.contract))
    return place / "src" if (place / "src" / _module(case.target.folder)).is_dir() else place


async def load_fails(case: Case) -> Verdict:
    told = await loaded(case)
    return passed(environment_type=told.of("loaded")[0]["type"])


async def rows_invalid(case: Case) -> Verdict:
    told = await loaded(case)
    tables = {item["table"]: item for item in told.of("rows")}
    facts = {f"rows_{name}": item["count"] for name, item in tables.items()}
    where = "the data set of load_environment"
    for name, item in tables.items():
        if item["empty"]:
            return failed(
                "rows-invalid",
                f"Row {item['empty'][0]} of the {name} data has nothing to say to the model.",
                where,
                "Give every row a 'prompt' of messages or a 'question'.",
                **facts,
            )
    if not any(item["count"] for item in tables.values()):
        why = "; ".join(item["error"] for item in told.of("no rows")) or "every data set is empty"
        return failed(
            "rows-invalid",
            f"There are no rows to play: {why}.",
            where,
            "Give it a dataset or an eval_dataset.",
            **facts,
        )
    for name, item in tables.items():
        if 0 < item["answers"] < item["count"] and item["count"] <= 2000:
            facts[f"rows_{name}_with_answer"] = item["answers"]
    return passed(**facts)


CHECKS: dict[str, Callable[[Case], Awaitable[Verdict]]] = {"load-fails": load_fails, "rows-invalid": rows_invalid}
