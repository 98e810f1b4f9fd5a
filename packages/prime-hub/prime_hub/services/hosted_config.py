"""What a hosted evaluation is asked to play (`eval_config`), and the command line of `vf-eval` that it becomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prime_hub.errors import Invalid

BYTES = 64 * 1024
KEY = "PRIME_HOSTED_MODEL_KEY"
"""The variable in the sandbox that holds the key of the endpoint."""
MOST_ROLLOUTS = 1_000


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _names(value: Any) -> bool:
    given = value if isinstance(value, list) else value.split(",") if isinstance(value, str) else [None]
    return all(isinstance(one, str) and one and "," not in one for one in given)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


@dataclass(frozen=True)
class _Field:
    fits: Callable[[Any], bool]
    what: str
    option: str | None = None


_FIELDS: Mapping[str, _Field] = {
    "num_examples": _Field(
        lambda value: value == -1 or _whole(1, 100_000)(value), "a number from 1 to 100000, or -1 for all", "-n"
    ),
    "rollouts_per_example": _Field(_whole(1, MOST_ROLLOUTS), f"a number from 1 to {MOST_ROLLOUTS}", "-r"),
    "env_args": _Field(_object, "a JSON object", "-a"),
    "extra_env_kwargs": _Field(_object, "a JSON object", "-x"),
    "sampling_args": _Field(_object, "a JSON object", "-S"),
    "max_tokens": _Field(_whole(1, 10_000_000), "a number, 1 or more", "-t"),
    "temperature": _Field(_number, "a number, 0 or more", "-T"),
    "max_concurrent": _Field(_whole(1, 1_000), "a number from 1 to 1000", "-c"),
    "max_retries": _Field(_whole(0, 100), "a number from 0 to 100", "--max-retries"),
    "state_columns": _Field(_names, "a list of names", "-C"),
    "independent_scoring": _Field(_flag, "true or false", "-i"),
    "verbose": _Field(_flag, "true or false", "-v"),
    "timeout_minutes": _Field(_whole(1, 100_000), "a number of minutes, 1 or more"),
    "allow_sandbox_access": _Field(_flag, "true or false"),
    "allow_instances_access": _Field(_flag, "true or false"),
    "allow_tunnel_access": _Field(_flag, "true or false"),
}
_ELSEWHERE = {
    "api_base_url": "a hosted evaluation asks only the endpoints that this Hub's operator has named; leave it out",
    "api_key_var": "the Hub has the keys of its endpoints itself; leave it out",
    "custom_secrets": "the secrets of a run are those of its environment: prime env secret create",
}


def read_config(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same, each value as it must be. Raises Invalid with the field that is not."""
    if len(json.dumps(given)) > BYTES:
        raise Invalid(
            f"The eval_config is larger than {BYTES >> 10} KiB; what is so long belongs into the environment."
        )
    found: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name in _ELSEWHERE:
            raise Invalid(f"eval_config.{name} is not for this Hub: {_ELSEWHERE[name]}.")
        known = _FIELDS.get(name)
        if known is None:
            raise Invalid(f"This Hub knows no eval_config.{name[:60]}; there are {', '.join(_FIELDS)}.")
        if not known.fits(value):
            raise Invalid(f"eval_config.{name} must be {known.what}.")
        found[name] = value
    if found.get("allow_instances_access"):
        raise Invalid("This Hub has no instances that a run could manage; leave allow_instances_access out.")
    if isinstance(found.get("state_columns"), str):
        found["state_columns"] = found["state_columns"].split(",")
    return found


def words(config: Mapping[str, Any], model: str) -> list[str]:
    """The options of `vf-eval` for it."""
    line = [f"--model={model}"]
    for name, known in _FIELDS.items():
        value = config.get(name)
        if known.option is None or value is None or value is False:
            continue
        line.append(known.option)
        if isinstance(value, dict):
            line.append(json.dumps(value))
        elif isinstance(value, list):
            line.append(",".join(value))
        elif value is not True:
            line.append(str(value))
    return line


def told(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of it what the evaluation's metadata tell until the run tells more."""
    names = ("num_examples", "rollouts_per_example", "env_args", "sampling_args")
    return {name: config[name] for name in names if name in config}
