"""What was said in earlier rollouts, read from a file, to be said again.

A file is a run of ours (its folder, results.jsonl or attempts.jsonl), or written by hand, one object a line:

    {"seed": 3, "actions": [{"move": "up"}, "any words", {"tool": "echo", "arguments": {"text": "hi"}}]}
    {"example_id": 0, "rollout_index": 1, "actions": [...]}

`seed` is the row's info.seed; what a line does not name (seed, example_id, rollout_index) may be anything.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verifiers.types import AssistantMessage, ToolCall
from verifiers.utils.message_utils import normalize_message

RUN_FILES = ("attempts.jsonl", "results.jsonl")
SHAPE = '{"seed": 3, "actions": [{"move": "up"}]}'
Key = tuple[Any, Any, int | None]
"""Seed, example_id, rollout_index; None for "any"."""


class RecordingError(ValueError):
    """A file that holds no recordings; one sentence."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What was said in one rollout, turn by turn: messages of a run, or actions as written by hand. `line` counts from
    1."""

    turns: tuple[Any, ...]
    line: int

    def message(self, turn: int, tools: bool) -> AssistantMessage:
        """The `turn`-th thing said, as a reply; `tools`: whether there are any, so that {"tool": …} calls one."""
        said = self.turns[turn]
        if isinstance(said, AssistantMessage):
            return said
        if isinstance(said, str):
            return AssistantMessage(said)
        if tools and is_call(said):
            arguments = json.dumps(said.get("arguments") or {})
            return AssistantMessage(None, tool_calls=[ToolCall(f"call_{turn}", said["tool"], arguments)])
        return AssistantMessage(json.dumps(said))


@dataclass(slots=True)
class Recordings:
    """All recordings of one file. `label` names the file and its content without its path, `env_id` the environment of
    a run, "" where nothing tells it."""

    path: Path
    label: str
    env_id: str = ""
    by_key: dict[Key, Recording] = field(default_factory=dict)

    def find(self, seed: Any, example_id: Any, rollout_index: int) -> Recording | None:
        """The recording of a rollout; the one that names most of these."""
        for one in (seed, None):
            for example in (example_id, None):
                for index in (rollout_index, None):
                    if found := self.by_key.get((one, example, index)):
                        return found
        return None


def seed_of(row: Mapping[str, Any]) -> int | float | str | None:
    """The seed of a row, where it has a simple one."""
    info = row.get("info")
    seed = info.get("seed") if isinstance(info, Mapping) else None
    return seed if isinstance(seed, int | float | str) else None


def is_call(action: Any) -> bool:
    """Whether an action written by hand is a tool call."""
    return (
        isinstance(action, Mapping)
        and isinstance(action.get("tool"), str)
        and action.keys() <= {"tool", "arguments"}
        and isinstance(action.get("arguments") or {}, Mapping)
    )


def read_recordings(given: str) -> Recordings:
    """Read the file, or the run in the folder, at `given`. Raises RecordingError: path, line number, what is wrong."""
    path = _file(Path(given).expanduser())
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"The recording {path} cannot be read: {error.strerror or error}.") from None
    name = path.parent.resolve().name if path.name in RUN_FILES else path.stem
    label = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}-{hashlib.sha256(content).hexdigest()[:8]}"
    found = Recordings(path, label, _environment_of(path, content))
    counts: Counter[Any] = Counter()
    for line, record in _records(path, content):
        if "actions" in record:
            key, recording = _by_hand(record, f"Line {line} of {path}", line)
            if key in found.by_key:
                raise RecordingError(
                    f"Line {line} of {path} is for the same rollout as line {found.by_key[key].line}; keep one of them."
                )
            found.by_key[key] = recording
        else:
            _add_row(found, record, line, counts)
    found.by_key = {**_by_seed(found.by_key), **found.by_key}
    if not found.by_key:
        raise RecordingError(f"The recording {path} is empty: no rollout is recorded in it.")
    return found


def _file(path: Path) -> Path:
    if not path.is_dir():
        if not path.is_file():
            raise RecordingError(f"There is no recording {path}: give results.jsonl of a run, or the run's folder.")
        return path
    for name in RUN_FILES:
        if (path / name).is_file():
            return path / name
    runs = sorted({file.parent for name in RUN_FILES for file in path.rglob(name)})
    if not runs:
        raise RecordingError(f"There is no run in {path}: neither attempts.jsonl nor results.jsonl.")
    if len(runs) > 1:
        shown = ", ".join(str(run) for run in runs[:3]) + (", …" if len(runs) > 3 else "")
        raise RecordingError(f"There are {len(runs)} runs in {path}; name one of them: {shown}.")
    return _file(runs[0])


def _environment_of(path: Path, content: bytes) -> str:
    """The environment that a run's own files name."""
    try:
        if path.name == RUN_FILES[0]:
            told = json.loads(content.split(b"\n", 1)[0])["identity"]["env_id"]
        else:
            told = json.loads((path.parent / "metadata.json").read_bytes())["env_id"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return told.rpartition("/")[2].partition("@")[0].replace("_", "-") if isinstance(told, str) else ""


def _records(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of every line that says something; of attempts the final ones."""
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            if number == len(lines) and path.name == RUN_FILES[0]:
                return  # torn by a kill while it was written
            raise RecordingError(f"Line {number} of {path} is not JSON: {error}.") from None
        if not isinstance(record, dict):
            raise RecordingError(f"Line {number} of {path} is not a JSON object such as {SHAPE}.")
        kind = record.get("kind")
        if kind == "run" or (kind == "attempt" and not record.get("final", True)):
            continue
        record = record.get("output") if kind == "attempt" else record
        if not isinstance(record, dict) or ("actions" not in record and "completion" not in record):
            raise RecordingError(
                f"Line {number} of {path} records nothing: it has neither `completion`, as the results of a run have, "
                f"nor `actions`, as in {SHAPE}."
            )
        yield number, record


def _by_hand(record: Mapping[str, Any], place: str, line: int) -> tuple[Key, Recording]:
    seed, example, index = (record.get(name) for name in ("seed", "example_id", "rollout_index"))
    if seed is None and example is None:
        raise RecordingError(f"{place} does not say which row it is for: it needs `seed` or `example_id`.")
    for name, value in (("seed", seed), ("example_id", example)):
        if isinstance(value, bool) or not isinstance(value, int | str | None):
            raise RecordingError(f"{place}: `{name}` must be a number or a string, not {value!r}.")
    if index is not None and (isinstance(index, bool) or not isinstance(index, int) or index < 0):
        raise RecordingError(f"{place}: `rollout_index` must be a whole number from 0 up, not {index!r}.")
    actions = record["actions"]
    if not isinstance(actions, list):
        raise RecordingError(f"{place}: `actions` must be a list, not {type(actions).__name__}.")
    for number, action in enumerate(actions, 1):
        if not isinstance(action, str | dict):
            raise RecordingError(
                f"{place}: action {number} is {action!r}; an action is a JSON object, a string, or "
                '{"tool": NAME, "arguments": {...}}.'
            )
    return (seed, example, index), Recording(tuple(actions), line)


def _add_row(found: Recordings, row: Mapping[str, Any], line: int, counts: Counter[Any]) -> None:
    """A row of a run's results; the last one counts where a rollout was played again."""
    example = row.get("example_id", 0)
    index = row.get("rollout_index")
    if index is None:
        index = counts[example]
        counts[example] += 1
    completion = row.get("completion") or []
    if isinstance(completion, str):
        turns = [AssistantMessage(completion)]
    else:
        try:
            turns = [message for message in map(normalize_message, completion) if isinstance(message, AssistantMessage)]
        except (TypeError, ValueError) as error:
            raise RecordingError(f"Line {line} of {found.path} holds a message that is none: {error}") from None
    found.by_key[(seed_of(row), example, index)] = Recording(tuple(turns), line)


def _by_seed(recordings: Mapping[Key, Recording]) -> dict[Key, Recording]:
    """The same by seed alone, where a seed tells one row: rows may lie differently the next time."""
    rows: dict[Key, list[Recording]] = {}
    for (seed, example, index), recording in recordings.items():
        if seed is not None and example is not None:
            rows.setdefault((seed, None, index), []).append(recording)
    return {key: same[0] for key, same in rows.items() if len(same) == 1}
