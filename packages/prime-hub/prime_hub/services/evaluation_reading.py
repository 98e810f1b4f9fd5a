"""What is taken from a sample that somebody sent: the values of its row, and its bytes, compressed.

A sample is a row of results.jsonl, of this project's runs or of any other's, so that nothing in it is certain but that it
is a JSON object; what is not as expected is not there.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prime_evals.estimates import number
from prime_hub.errors import Invalid

LEVEL = 4
"""Of the compression: a third of the work of the best, and nearly as small."""
SHORT = 200
MOST_METRICS = 100
MOST_INDEX = 2**53
DEEPEST = 100

# Numbers of a row of results.jsonl that are no metrics.
_KNOWN = frozenset(
    {"example_id", "id", "rollout_index", "reward", "score", "is_completed", "is_truncated", "num_steps"}
)


@dataclass(frozen=True)
class Sample:
    """One sample as it is stored. `rollout_index` None: it is the next one of its example."""

    place: str
    rollout_index: int | None
    values: dict[str, Any]
    data: bytes
    """zlib of its JSON."""
    size: int


def read_batch(body: bytes | bytearray) -> tuple[list[Sample], str]:
    """The samples of a request's body, and a digest by which the same request is known again. Raises Invalid."""
    try:
        given = json.loads(body, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raise Invalid(
            "The body of the request is not JSON that this Hub can read; send a well-formed object."
        ) from None
    samples = given.get("samples") if isinstance(given, dict) else None
    if not isinstance(samples, list):
        raise Invalid('Send the samples as {"samples": [...]}.')
    digest = hashlib.sha256()
    found = []
    for position, sample in enumerate(samples):
        if not isinstance(sample, dict):
            raise Invalid(f"Sample {position} of the request is not a JSON object; each is a row of results.jsonl.")
        one = _sample(sample, position)
        digest.update(hashlib.sha256(one.data).digest())
        found.append(one)
    return found, digest.hexdigest()


def open_sample(data: bytes) -> bytes:
    """The JSON of a stored sample."""
    return zlib.decompress(data)


def _sample(sample: dict[str, Any], position: int) -> Sample:
    example = sample.get("example_id", sample.get("id"))
    if example is None:
        example = sample["example_id"] = position
    index = sample.get("rollout_index")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < MOST_INDEX:
        index = None
    try:
        text = json.dumps(sample, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(sample), separators=(",", ":"))
    except RecursionError:
        raise Invalid(f"Sample {position} of the request is nested too deeply; make it flatter.") from None
    raw = text.encode()
    return Sample(place_of(example), index, {"example_id": shown(example), **values_of(sample)}, _packed(raw), len(raw))


def _packed(raw: bytes) -> bytes:
    return zlib.compress(raw, LEVEL)


def _finite(value: Any, depth: int = 0) -> Any:
    """The same without numbers that JSON does not know."""
    if depth > DEEPEST:
        raise Invalid(f"A sample of the request is nested more than {DEEPEST} levels deep; make it flatter.")
    if isinstance(value, dict):
        return {key: _finite(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item, depth + 1) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def place_of(example: Any) -> str:
    """What an example is known and sorted by: numbers first, as they are counted, then texts."""
    if isinstance(example, int) and not isinstance(example, bool) and 0 <= example < 10**18:
        return f"0{example:018d}"
    text = example if isinstance(example, str) else json.dumps(example, sort_keys=True)
    plain = text if text.isprintable() and text.isascii() and len(text) <= 90 else None
    return f"1{plain}" if plain is not None else "2" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def shown(value: Any, most: int = SHORT) -> str:
    """A value as a short text on one line, as databases can keep it."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = text[: 4 * most]
    if not text.isascii() or not text.isprintable():
        text = text.encode("utf-8", "replace").decode()
        text = "".join(sign if sign.isprintable() else " " for sign in text)
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def values_of(sample: Mapping[str, Any]) -> dict[str, Any]:
    """What lists and means need of a sample."""
    error = sample.get("error")
    usage = _mapping(sample.get("token_usage"))
    completion = sample.get("completion")
    return {
        "reward": _reward(sample),
        "metrics": metrics_of(sample),
        "error": shown(_error_name(error), 100) if error else None,
        "message": shown(_error_sentence(error), 300) if error else None,
        "stop_condition": shown(sample["stop_condition"], 100) if sample.get("stop_condition") else None,
        "truncated": sample.get("is_truncated") is True,
        "turns": _turns(completion),
        "input_tokens": number(usage.get("input_tokens")),
        "output_tokens": number(usage.get("output_tokens")),
        "cost": number(usage.get("cost")),
        "seconds": _seconds(sample.get("timing")),
        "prompt": shown(_last_text(sample.get("prompt"), ("user", "system"))),
        "completion": shown(_last_text(completion, ("assistant",))),
        "answer": shown(sample.get("answer") or ""),
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _reward(sample: Mapping[str, Any]) -> float | None:
    """`reward`, or `score` where there is none."""
    return number(sample["reward"] if "reward" in sample else sample.get("score"))


def metrics_of(sample: Mapping[str, Any]) -> dict[str, float]:
    """`metrics`, or, in rows that have them beside everything else, each number that is nothing else."""
    given = sample.get("metrics")
    source = given if isinstance(given, Mapping) else {k: v for k, v in sample.items() if k not in _KNOWN}
    found: dict[str, float] = {}
    for name, value in source.items():
        if (one := number(value)) is not None and len(found) < MOST_METRICS:
            found[shown(name, 80)] = one
    return found


def _error_name(error: Any) -> str:
    if isinstance(error, Mapping):
        return str(error.get("error") or error.get("type") or "Error")
    return str(error).partition("(")[0].partition(":")[0].strip()[:100] or "Error"


def _error_sentence(error: Any) -> Any:
    if isinstance(error, Mapping):
        return error.get("message") or error.get("error_chain_repr") or error.get("error_chain_str") or ""
    return error


def _seconds(timing: Any) -> float | None:
    """`total` in seconds, or `total_ms` in thousandths."""
    times = _mapping(timing)
    if (total := number(times.get("total"))) is not None:
        return total
    thousandths = number(times.get("total_ms"))
    return None if thousandths is None else thousandths / 1000


def _turns(completion: Any) -> int | None:
    if not isinstance(completion, list):
        return None
    return sum(1 for message in completion if isinstance(message, Mapping) and message.get("role") == "assistant")


def _last_text(messages: Any, roles: tuple[str, ...]) -> str:
    if isinstance(messages, str):
        return messages
    for message in reversed(messages) if isinstance(messages, list) else ():
        if isinstance(message, Mapping) and message.get("role") in roles:
            text = " ".join(texts(message.get("content")))
            if text.strip():
                return text
    return ""


def texts(content: Any) -> Iterator[str]:
    """The texts of a message's content, which is one, or a list of parts."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            text = part.get("text") if isinstance(part, Mapping) else part
            if isinstance(text, str):
                yield text
