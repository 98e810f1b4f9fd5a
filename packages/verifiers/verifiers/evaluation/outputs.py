"""A finished rollout as a row of results.jsonl.

Fields: example_id, rollout_index (ours), prompt, completion, answer, info, reward (None when unscored), error {error,
error_chain_repr, error_chain_str, message}, timing (seconds), is_completed, is_truncated, stop_condition, metrics
(also flat), reward_errors (why a reward function counted 0.0, by its name; where there are any), turn_rewards (what the
environment gave for each turn, None for none; where there are any), tool_defs, token_usage (see `verifiers.utils.usage`),
and the state columns asked for.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from verifiers.errors import Error
from verifiers.training import COLUMN as TOKEN_STEPS
from verifiers.training import token_steps
from verifiers.types import Messages, RolloutOutput, RolloutTiming, State
from verifiers.utils.message_utils import normalize_messages

DEEPEST = 200
LARGEST_BITS = 14_000
"""Python neither writes nor reads an integer of more than 4,300 decimal digits."""


class StateColumnError(Error, ValueError):
    """A state column that cannot be written."""


def error_info(error: BaseException) -> dict[str, str]:
    """The kind of an error, its sentence, and what caused it."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    return {
        "error": type(error).__name__,
        "message": str(error) or type(error).__name__,
        "error_chain_repr": " -> ".join(repr(link) for link in chain),
        "error_chain_str": " -> ".join(type(link).__name__ for link in chain),
    }


def state_to_output(state: State, state_columns: Iterable[str] = ()) -> RolloutOutput:
    """The row of one state. Raises StateColumnError (a ValueError) for a column that is not JSON."""
    error = state.get("error")
    timing = state.get("timing")
    metrics = dict(state.get("metrics") or {})
    output: RolloutOutput = {
        "example_id": state.get("example_id", 0),
        "rollout_index": state.get("rollout_index", 0),
        "prompt": list(state.get("prompt") or []),
        "completion": list(state.get("completion") or []),
        "answer": state.get("answer", ""),
        "info": state.get("info") or {},
        "reward": state.get("reward"),
        "error": None if error is None else error_info(error),
        "timing": timing.to_dict() if isinstance(timing, RolloutTiming) else timing,
        "is_completed": bool(state.get("is_completed")),
        "is_truncated": bool(state.get("is_truncated")),
        "stop_condition": state.get("stop_condition"),
        "metrics": metrics,
        "tool_defs": list(state.get("tool_defs") or []),
        "token_usage": dict(state.get("usage") or {}),
    }
    if failures := state.get("reward_errors"):
        output["reward_errors"] = dict(failures)
    if rewards := turn_rewards(state):
        output["turn_rewards"] = rewards
    for name, value in metrics.items():
        output.setdefault(name, value)
    for column in state_columns:
        value = token_steps(state["trajectory"]) if column == TOKEN_STEPS else state.get(column)
        output[column] = _column(column, value)
    return output


def turn_rewards(state: State) -> list[float | None]:
    """The reward that the environment gave for each turn, None for none; empty where no turn has one.

    Not what steps inherit from the rollout when it is scored (`set_advantages`).
    """
    given = state.get("turn_rewards")
    if given is None:
        given = [step.get("reward") for step in state.get("trajectory") or ()]
    return list(given) if any(one is not None for one in given) else []


def _column(name: str, value: Any) -> Any:
    try:
        plain = jsonable(value, strict=True)
        json.dumps(plain)
    except (TypeError, ValueError) as error:
        what = str(error) if isinstance(error, ValueError) else type(value).__name__
        raise StateColumnError(
            f"state_columns value for '{name}' is not JSON-serializable: {what}. "
            "Only JSON-serializable types are allowed."
        ) from None
    return plain


def jsonable(value: Any, strict: bool = False) -> Any:
    """The value as JSON data: numbers that JSON does not know become null, unknown objects their text, what holds itself
    lies deeper than DEEPEST or is an integer of thousands of digits a note that says so.

    strict: TypeError for an unknown object, ValueError for one that holds itself.
    """
    return _jsonable(value, strict, ())


def _jsonable(value: Any, strict: bool, within: tuple[int, ...]) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if value.bit_length() <= LARGEST_BITS:
            return value
        what = f"of {value.bit_length()} bits"
        if strict:
            raise ValueError(f"{type(value).__name__} {what}")
        return f"<{type(value).__name__} {what}>"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, BaseException):
        return error_info(value)
    if id(value) in within or len(within) >= DEEPEST:
        what = "that holds itself" if id(value) in within else f"more than {DEEPEST} levels deep"
        if strict:
            raise ValueError(f"{type(value).__name__} {what}")
        return f"<{type(value).__name__} {what}>"
    within = (*within, id(value))
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item, strict, within) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(item, strict, within) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {part.name: _jsonable(getattr(value, part.name), strict, within) for part in dataclasses.fields(value)}
    for method in ("model_dump", "tolist", "isoformat"):
        if callable(getattr(value, method, None)):
            return _jsonable(_plain(value, method), strict, within)
    if strict:
        raise TypeError(type(value).__name__)
    return _plain(value, "__str__")


def _plain(value: Any, method: str) -> Any:
    """What an object says it is; its text where it cannot say it, as when it holds itself."""
    try:
        return getattr(value, method)()
    except Exception:
        return f"<{type(value).__name__}>"


def to_row(output: RolloutOutput) -> dict[str, Any]:
    """The output as the result files hold it: plain data, tool calls as JSON text."""
    row = jsonable(output)
    for side in ("prompt", "completion"):
        for message in row.get(side) or ():
            if isinstance(message, dict) and message.get("tool_calls"):
                message["tool_calls"] = [json.dumps(call, ensure_ascii=False) for call in message["tool_calls"]]
    return row


def from_row(row: Mapping[str, Any]) -> RolloutOutput:
    """What `to_row` wrote, with messages again."""
    output = dict(row)
    for side in ("prompt", "completion"):
        messages: Messages = normalize_messages(output.get(side))
        output[side] = messages
    return output
