"""Files of evaluations: what several runs share, each run, and sweeps over values.

model = "qwen"                            for all that follow
max_concurrent = 64                       of the whole command

[[eval]]
env_id = "my-env"                         or id
num_examples = 20

[[ablation]]                              one run for every combination
env_id = "my-env"
[ablation.sweep]
temperature = [0.0, 1.0]
[ablation.sweep.env_args]
hints = [true, false]
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any

from verifiers.clients.resolve import CLIENT_TYPES
from verifiers.evaluation.endpoints import PROVIDERS
from verifiers.evaluation.runner import RETRY

MOST_RUNS = 10_000


class EvalFileError(ValueError):
    """The file cannot be used; the text says where and why."""


@dataclass(slots=True)
class EvalFile:
    """What concerns the whole command, what all runs share, and the runs, by the names of `Command` and `Arguments`."""

    whole: dict[str, Any] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a field takes, in words, and whether a value is that."""

    words: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _one_of(names: Sequence[str]) -> _Kind:
    return _Kind(f"one of {', '.join(names)}", lambda value: value in names)


_TEXT = _Kind("a string that is not empty", lambda value: isinstance(value, str) and bool(value))
_FLAG = _Kind("true or false", lambda value: isinstance(value, bool))
_TABLE = _Kind("a table", lambda value: isinstance(value, dict))
_COUNT = _Kind("a whole number above 0, or -1 for all", lambda value: _is_whole(value) and (value > 0 or value == -1))
_POSITIVE = _Kind("a whole number above 0", lambda value: _is_whole(value) and value > 0)
_NATURAL = _Kind("a whole number, 0 or more", lambda value: _is_whole(value) and value >= 0)
_NUMBER = _Kind("a number", _is_number)
_ABOVE_ZERO = _Kind("a number above 0", lambda value: _is_number(value) and value > 0)
_NAMES = _Kind(
    "a list of strings, or one with commas",
    lambda value: isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value)),
)
_HEADERS = _Kind(
    "a table of strings, 'Name: Value', or a list of those",
    lambda value: (
        all(isinstance(one, str) for one in value.values())
        if isinstance(value, dict)
        else all(isinstance(one, str) and one.partition(":")[0].strip() and ":" in one for one in _listed(value))
    ),
)
_RUN: dict[str, tuple[str, _Kind]] = {
    "env_id": ("env_id", _TEXT),
    "id": ("env_id", _TEXT),
    "env_args": ("env_args", _TABLE),
    "args": ("env_args", _TABLE),
    "extra_env_kwargs": ("extra_env_kwargs", _TABLE),
    "env_dir_path": ("env_dir_path", _TEXT),
    "server": ("server", _TEXT),
    "endpoints_path": ("endpoints_path", _TEXT),
    "endpoint_id": ("endpoint_id", _TEXT),
    "model": ("model", _TEXT),
    "provider": ("provider", _one_of(list(PROVIDERS))),
    "api_client_type": ("client_type", _one_of(list(CLIENT_TYPES))),
    "api_key_var": ("api_key_var", _TEXT),
    "api_base_url": ("base_url", _TEXT),
    "header": ("headers", _HEADERS),
    "headers": ("headers", _HEADERS),
    "header_from_state": ("headers_from_state", _HEADERS),
    "headers_from_state": ("headers_from_state", _HEADERS),
    "sampling_args": ("sampling_args", _TABLE),
    "max_tokens": ("max_tokens", _POSITIVE),
    "temperature": ("temperature", _NUMBER),
    "num_examples": ("num_examples", _COUNT),
    "rollouts_per_example": ("rollouts_per_example", _POSITIVE),
    "max_concurrent": ("max_concurrent", _COUNT),
    "max_retries": ("max_retries", _NATURAL),
    "stop_after": ("stop_after", _NATURAL),
    "timeout": ("timeout", _ABOVE_ZERO),
    "independent_scoring": ("independent_scoring", _FLAG),
    "output_dir": ("output_dir", _TEXT),
    "state_columns": ("state_columns", _NAMES),
    "save_results": ("save", _FLAG),
    "resume": ("resume", _FLAG),
    "resume_path": ("resume", _TEXT),
    "retry": ("retry", _one_of(RETRY)),
}
_WHOLE: dict[str, tuple[str, _Kind]] = {
    "max_concurrent": ("max_concurrent", _COUNT),
    "max_cost": ("max_cost", _ABOVE_ZERO),
    "max_tokens_total": ("max_tokens_total", _POSITIVE),
    "heartbeat_url": ("heartbeat_url", _TEXT),
    "abbreviated_summary": ("abbreviated_summary", _FLAG),
    "disable_tui": ("disable_tui", _FLAG),
    "verbose": ("verbose", _FLAG),
}
"""Of the whole command, so at the top of the file only; max_concurrent also in a run, as its own limit."""
_NEWER = "belongs to the environments of tasksets and harnesses, which this library leaves alone"
_NOT_HERE = {
    "taskset": _NEWER,
    "harness": _NEWER,
    "save_to_hf_hub": "is not here: results stay in files; upload the run's folder",
    "hf_hub_dataset_name": "is not here: results stay in files; upload the run's folder",
    "num_workers": "is not here: one process plays all rollouts; max_concurrent says how many at once",
    "disable_env_server": "is not here: rollouts are played in one process, with no server for environments",
}
_SECTIONS = ("eval", "ablation")
_EXCLUSIVE = (("id", "env_id"), ("args", "env_args"), ("model", "endpoint_id"), ("resume", "resume_path"))


class _Reader:
    def __init__(self, file: Path, text: str) -> None:
        self.file, self.lines = file, text.splitlines()

    def line_of(self, name: str, section: str, number: int) -> str:
        """` (line 12)`: where a field of the section's table of that number stands; "" where it is not found."""
        inside, seen = section == "", 0
        for position, line in enumerate(self.lines, 1):
            if head := re.match(r"\s*\[\[?\s*([\w.-]+)", line):
                if head[1] == section and line.strip().startswith("[["):
                    seen += 1
                if not section and head[1] == name:
                    return f" (line {position})"
                inside = bool(section) and head[1].split(".")[0] == section and seen == number
            if inside and re.match(rf"\s*[\[\"']*(\w+\.)*{re.escape(name)}[\"']?\s*[=.\]]", line):
                return f" (line {position})"
        return ""

    def fields(
        self, table: Mapping[str, Any], known: Mapping[str, tuple[str, _Kind]], section: str = "", number: int = 0
    ) -> dict[str, Any]:
        """The fields of a table by our names, checked. Raises EvalFileError."""
        found: dict[str, Any] = {}
        for name, value in table.items():
            self.check_name(name, known, section, number)
            target, kind = known[name]
            if not kind.fits(value):
                raise EvalFileError(
                    f"{self.place(section, number)}: `{name}` must be {kind.words}, not {value!r}"
                    f"{self.line_of(name, section, number)}."
                )
            found |= _translated(target, name, value, found)
        for one, other in _EXCLUSIVE:
            if one in table and other in table:
                raise EvalFileError(
                    f"{self.place(section, number)} has both `{one}` and `{other}`{self.line_of(other, section, number)}; "
                    "leave one of them out."
                )
        return found

    def check_name(self, name: str, known: Mapping[str, Any], section: str, number: int) -> None:
        if name in known:
            return
        place, line = self.place(section, number), self.line_of(name, section, number)
        if name in _NOT_HERE:
            raise EvalFileError(f"{place}: `{name}` {_NOT_HERE[name]}{line}.")
        if name in _WHOLE:
            raise EvalFileError(f"{place}: `{name}` concerns all runs{line}; write it at the top of the file.")
        near = get_close_matches(name, [*known, *(() if section else _SECTIONS)], 1)
        meant = f", meant is perhaps `{near[0]}`" if near else f"; there are {', '.join(known)}"
        raise EvalFileError(f"{place} has an unknown field `{name}`{line}{meant}.")

    def place(self, section: str, number: int) -> str:
        return f"[[{section}]] number {number} of {self.file}" if section else str(self.file)

    def sweep(self, table: Any, number: int) -> list[dict[str, Any]]:
        """The combinations of an `[ablation.sweep]`, each as fields of a table."""
        place, axes = self.place("ablation", number), []
        if not isinstance(table, dict) or not table:
            raise EvalFileError(f"{place} needs a table [ablation.sweep] with lists of values.")
        known = {name: one for name, one in _RUN.items() if name != "sweep"}
        for name, values in table.items():
            self.check_name(name, known, "ablation", number)
            if name in ("args", "env_args") and isinstance(values, dict):
                axes += [
                    [((name, key), one) for one in self.values(f"{name}.{key}", values[key], number)] for key in values
                ]
            else:
                axes.append([((name,), one) for one in self.values(name, values, number)])
        if math.prod(map(len, axes)) > MOST_RUNS:
            raise EvalFileError(f"{place} makes {math.prod(map(len, axes)):,} runs; {MOST_RUNS:,} are the most.")
        return [_nested(combination) for combination in product(*axes)]

    def values(self, name: str, values: Any, number: int) -> list[Any]:
        if not isinstance(values, list) or not values:
            raise EvalFileError(
                f"{self.place('ablation', number)}: `sweep.{name}` must be a list of values, not {values!r}"
                f"{self.line_of(name.rpartition('.')[2], 'ablation', number)}."
            )
        return values


def read_file(path: Path) -> EvalFile:
    """The evaluations of a file. Raises EvalFileError, which names the entry and the line."""
    file = path.expanduser()
    try:
        text = file.read_text(encoding="utf-8")
        written = tomllib.loads(text)
    except FileNotFoundError:
        raise EvalFileError(f"There is no file {path}.") from None
    except (OSError, ValueError) as error:
        raise EvalFileError(f"The file {path} cannot be read: {error}.") from None
    reader, found = _Reader(path, text), EvalFile()
    tables = {name: _tables(written.pop(name), name, path) for name in _SECTIONS if name in written}
    top = reader.fields(written, {**_RUN, **_WHOLE})
    whole = {name for name, _ in _WHOLE.values()}
    found.whole = {name: value for name, value in top.items() if name in whole}
    found.shared = {name: value for name, value in top.items() if name not in whole}
    for number, table in enumerate(tables.get("eval", ()), 1):
        _add(found, reader.fields(table, _RUN, "eval", number), reader.place("eval", number))
    for number, table in enumerate(tables.get("ablation", ()), 1):
        left = dict(table)
        combinations = reader.sweep(left.pop("sweep", None), number)
        base = reader.fields(left, _RUN, "ablation", number)
        for combination in combinations:
            swept = reader.fields(combination, _RUN, "ablation", number)
            args = {**base.get("env_args", {}), **swept.get("env_args", {})}
            _add(found, {**base, **swept, **({"env_args": args} if args else {})}, reader.place("ablation", number))
    if not found.runs:
        raise EvalFileError(f"{path} has no evaluations: add an [[eval]] table with an env_id.")
    return found


def _tables(value: Any, name: str, path: Path) -> list[dict[str, Any]]:
    tables = value if isinstance(value, list) else [value]
    if not all(isinstance(one, dict) for one in tables):
        raise EvalFileError(f"{path}: `{name}` must be tables, written [[{name}]].")
    return tables


def _add(found: EvalFile, run: dict[str, Any], place: str) -> None:
    if "env_id" not in run and "env_id" not in found.shared:
        raise EvalFileError(f"{place} names no environment: add env_id.")
    found.runs.append({**run, "place": place})


def _nested(combination: Sequence[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for path, value in combination:
        if len(path) == 1:
            table[path[0]] = value
        else:
            table.setdefault(path[0], {})[path[1]] = value
    return table


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _translated(target: str, name: str, value: Any, before: Mapping[str, Any]) -> dict[str, Any]:
    """A field as `Arguments` has it."""
    if target in ("headers", "headers_from_state"):
        pairs = value if isinstance(value, dict) else dict(map(_pair, _listed(value)))
        return {target: {**before.get(target, {}), **pairs}}
    if target == "endpoint_id":
        return {"model": value, "endpoint_only": True}
    if target == "model":
        return {"model": value, "endpoint_only": False}
    if name == "resume":
        return {"resume": ""} if value else {}
    return {target: value}


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    return name.strip(), value.strip()
