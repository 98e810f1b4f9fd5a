"""`prime eval push`: a run's folder → an evaluation of the Hub (protocols/hub.md §5).

Rollouts are read and sent one batch after another. What the Hub has taken is noted in the folder, so that a push which was
cut goes on there. `push_run` is all of it, for a command that has just run an evaluation.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prime_cli.environments.hub import data_of
from prime_cli.evaluations.folder import RunFolder
from prime_cli.interrupts import saying
from prime_cli.output import Output
from prime_core.errors import APIError, NotFound, ProjectError
from prime_core.files import write_atomic

if TYPE_CHECKING:
    from prime_core.api import APIClient

BATCH_BYTES = 4 << 20
SEND_SECONDS = 300.0
NOTE = ".prime-push.json"


@dataclass(frozen=True)
class PushOptions:
    """`environment` None: the one that the run names. `evaluation`: push into this one anew. `public`: whether others see it."""

    environment: str | None = None
    run_id: str | None = None
    evaluation: str | None = None
    name: str | None = None
    public: bool = False


@dataclass(frozen=True)
class Pushed:
    """What came of a push."""

    evaluation_id: str
    url: str
    rollouts: int
    told: dict[str, Any]


def push_run(folder: Path, options: PushOptions, out: Output) -> Pushed:
    """Push the run in `folder`. Raises ProjectError where it has none, APIError and its kinds."""
    from prime_core.api import APIClient
    from prime_core.connection import connect

    run = RunFolder(folder)
    state = _fingerprint(run.source)  # of before its rows are read: it may grow meanwhile
    connection = connect(announce=out.note)
    with APIClient(connection.base_url, connection.api_key) as client:
        note = _Note(folder, connection.base_url, state, options)
        words = "nothing was sent"

        def outcome() -> str:
            return words

        with saying(outcome):
            one = _begin(client, run, options, note, connection.team_id, out)
            words = f"what has been sent is kept; the same command goes on with evaluation {one}"
            sent = _send(client, run, one, note, out)
            told = client.post(f"/evaluations/{one}/finalize", {}, timeout=SEND_SECONDS)
        note.write(one, sent, finished=True)
    for warning in run.warnings[:5]:
        out.warning(warning)
    url = str(told.get("viewer_url") or f"{connection.frontend_url}/dashboard/evaluations/{one}")
    return Pushed(one, url, sent, told)


def _begin(client: APIClient, run: RunFolder, options: PushOptions, note: _Note, team: str | None, out: Output) -> str:
    """The evaluation to send to: an interrupted one, the one that is named, or a new one."""
    if options.evaluation:
        client.get(f"/evaluations/{options.evaluation}")
        _describe_anew(client, run, options, options.evaluation)
        note.forget()
        return options.evaluation
    before = note.unfinished
    if before is not None and _is_there(client, before):
        if note.fits:
            out.note(f"Going on with evaluation {before}, which was cut after {note.sent:,} rollouts.")
        else:
            # What it says of the run is of then, too.
            out.note(
                f"Evaluation {before} was cut; the run or what is asked is another now, so all of it is sent again."
            )
            _describe_anew(client, run, options, before)
            note.write(before, 0)
        return before
    if (former := note.finished) is not None:
        out.note(f"This run was pushed before, as evaluation {former}; --eval {former} replaces that.")
    body = _description(run, options)
    if options.run_id is None or options.environment:
        body["environments"] = [_environment(client, options, run)]
    if team:
        body["team_id"] = team
    one = str(client.post("/evaluations/", body)["evaluation_id"])
    note.write(one, 0)
    return one


def _describe_anew(client: APIClient, run: RunFolder, options: PushOptions, evaluation_id: str) -> None:
    """Describe an evaluation as the run is now. Samples that are not sent again afterwards are gone when it is finalised."""
    body = _description(run, options)
    if options.environment:
        body["environments"] = [_environment(client, options, run)]
    if not options.public:
        body.pop("is_public")  # stays as it is
    if not options.name:
        body.pop("name")
    client.put(f"/evaluations/{evaluation_id}", body)


def _is_there(client: APIClient, evaluation_id: str) -> bool:
    try:
        return client.get(f"/evaluations/{evaluation_id}").get("status") == "RUNNING"
    except NotFound:
        return False


def _environment(client: APIClient, options: PushOptions, run: RunFolder) -> dict[str, Any]:
    """The environment's id on this Hub, and the version that was run. Raises NotFound with what to do."""
    from prime_cli.environments.naming import named

    asked = options.environment or run.env_id
    reference = named(asked)
    try:
        found = data_of(client.get(f"{reference.address}/@latest"))
    except NotFound as error:
        if options.environment:
            raise
        raise NotFound(
            f"This Hub has no environment {reference.owner}/{reference.name}, which the run is of.",
            error.status,
            hint=f"Push it with 'prime env push {run.env_id}', or say whose it is with --env OWNER/NAME.",
        ) from None
    version = None if reference.version == "latest" else reference.version
    told = run.metadata.get("version_info")
    version = version or (told.get("env_version") if isinstance(told, dict) else None)
    return {"id": found["id"], **({"version": version} if version else {})}


def _description(run: RunFolder, options: PushOptions) -> dict[str, Any]:
    """As the official command describes a run: `avg_X` becomes the metric X, everything else is metadata."""
    metrics = {
        name.removeprefix("avg_"): value
        for name, value in run.metadata.items()
        if name.startswith("avg_") and value is not None
    }
    return {
        "name": options.name or f"{run.env_id} · {run.model}",
        "model_name": run.model,
        "framework": "verifiers",
        "tags": [],
        "metadata": {name: value for name, value in run.metadata.items() if not name.startswith("avg_")},
        "metrics": metrics,
        "is_public": options.public,
        **({"run_id": options.run_id} if options.run_id else {}),
    }


def _send(client: APIClient, run: RunFolder, one: str, note: _Note, out: Output) -> int:
    """Send what has not been sent; how many rollouts the run has."""
    sent, skip = note.sent, note.sent
    progress = _Progress()
    for batch in _batches(run.rows(), skip):
        try:
            _send_batch(client, one, batch)
        except APIError:
            progress.end()
            out.note(f"{sent:,} rollouts have been sent to evaluation {one}; the same command goes on from there.")
            raise
        sent += len(batch)
        note.write(one, sent)
        progress.show(sent)
    progress.end()
    return sent


def _send_batch(client: APIClient, one: str, batch: list[dict[str, Any]]) -> None:
    client.post(f"/evaluations/{one}/samples", {"samples": batch}, timeout=SEND_SECONDS)


def _batches(rows: Iterator[dict[str, Any]], skip: int) -> Iterator[list[dict[str, Any]]]:
    """Rows together up to `BATCH_BYTES`, the first `skip` left out."""
    batch: list[dict[str, Any]] = []
    size = 0
    for position, row in enumerate(rows):
        if position < skip:
            continue
        length = len(json.dumps(row))
        if batch and size + length > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch


class _Progress:
    """One line of a terminal that is written over."""

    def __init__(self) -> None:
        self._shown = False

    def show(self, sent: int) -> None:
        if sys.stderr.isatty():
            self._shown = True
            print(f"\r{sent:,} rollouts sent", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        self._shown = False


class _Note:
    """What a folder says of its last push to this Hub. `state`: of the file that rollouts are read from now."""

    def __init__(self, folder: Path, base_url: str, state: list[int], options: PushOptions) -> None:
        self._file, self._hub, self._state = folder / NOTE, base_url, state
        self._asked = [options.environment, options.name, options.public, options.run_id]
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        self._found: dict[str, Any] = found if isinstance(found, dict) and found.get("hub") == base_url else {}

    @property
    def sent(self) -> int:
        """How many rollouts were taken."""
        sent = self._found.get("sent")
        return sent if isinstance(sent, int) and self._found.get("finished") is False else 0

    @property
    def finished(self) -> str | None:
        """The evaluation that was pushed to the end."""
        return self._found.get("evaluation_id") if self._found.get("finished") is True else None

    @property
    def unfinished(self) -> str | None:
        """The evaluation that was cut."""
        return self._found.get("evaluation_id") if self._found.get("finished") is False else None

    @property
    def fits(self) -> bool:
        """Whether what was sent is the beginning of what is to be sent: the same file, described in the same way."""
        return self._found.get("file") == self._state and self._found.get("asked", self._asked) == self._asked

    def write(self, evaluation_id: str, sent: int, *, finished: bool = False) -> None:
        """Note how far it is. A folder that cannot be written to is pushed from all the same, and begins anew when cut."""
        self._found = {
            "hub": self._hub,
            "evaluation_id": evaluation_id,
            "sent": sent,
            "file": self._state,
            "asked": self._asked,
            "finished": finished,
        }
        try:
            write_atomic(self._file, json.dumps(self._found) + "\n")
        except OSError:
            return

    def forget(self) -> None:
        """Nothing has been sent."""
        self._found = {}


def _fingerprint(file: Path) -> list[int]:
    try:
        state = file.stat()
    except OSError:
        raise ProjectError(f"{file} cannot be read any more.") from None
    return [state.st_size, state.st_mtime_ns]
