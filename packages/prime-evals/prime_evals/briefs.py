"""What a summary needs of a rollout, without its conversation: a few hundred bytes where the row may be a megabyte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LONGEST_SENTENCE = 2000
"""Characters that are kept of an error; of a longer one the beginning and the end, where a log says most."""
_KEYS = (
    "example_id",
    "rollout_index",
    "reward",
    "error",
    "is_truncated",
    "stop_condition",
    "metrics",
    "token_usage",
    "timing",
    "reward_errors",
    "completion",
)
_NAMES: dict[tuple[str, ...], tuple[str, ...]] = {}
_SENTENCES: dict[str, str] = {}
_MOST_SENTENCES = 1000


class Brief(Mapping[str, Any]):
    """A row of results.jsonl as far as averages, counts and tables look at it: read like the row itself.

    Its keys are those of the row that it keeps, and the metrics, flat. `timing` has only the total, `error` only kind and
    sentence; `completion` is empty, but for the last word of a server that accepted no action. `attempt`, `offset` and
    `length` say where the row itself lies in attempts.jsonl.
    """

    __slots__ = (
        "_error",
        "_metrics",
        "_names",
        "_usage",
        "_usage_names",
        "attempt",
        "example_id",
        "is_truncated",
        "length",
        "note",
        "offset",
        "reward",
        "reward_errors",
        "rollout_index",
        "seconds",
        "stop_condition",
    )

    def __init__(
        self,
        example_id: Any,
        rollout_index: int,
        reward: float | None,
        error: tuple[str, str] | None = None,
        is_truncated: bool = False,
        stop_condition: str | None = None,
        metrics: Mapping[str, Any] | None = None,
        usage: Mapping[str, Any] | None = None,
        seconds: float | None = None,
        reward_errors: Mapping[str, str] | None = None,
        note: str = "",
        attempt: int = 1,
        offset: int = 0,
        length: int = 0,
    ) -> None:
        self.example_id, self.rollout_index, self.reward = example_id, rollout_index, reward
        self._error = None if error is None else (_shared(error[0]), _shared(error[1]))
        self.is_truncated = is_truncated
        self.stop_condition = None if stop_condition is None else _shared(stop_condition)
        self._names, self._metrics = _split(metrics)
        self._usage_names, self._usage = _split(usage)
        self.seconds, self.reward_errors, self.note = seconds, dict(reward_errors or {}) or None, note
        self.attempt, self.offset, self.length = attempt, offset, length

    @classmethod
    def of(cls, output: Mapping[str, Any], attempt: int = 1, offset: int = 0, length: int = 0) -> Brief:
        """The brief of a row, whichever fields it has."""
        error, timing = output.get("error"), output.get("timing")
        metrics = output.get("metrics") or {}
        return cls(
            output.get("example_id"),
            output.get("rollout_index", 0),
            output.get("reward"),
            _error(error) if error else None,
            bool(output.get("is_truncated")),
            output.get("stop_condition"),
            metrics,
            output.get("token_usage"),
            timing.get("total") if isinstance(timing, Mapping) else None,
            output.get("reward_errors"),
            _last_refusal(output, metrics),
            attempt,
            offset,
            length,
        )

    @property
    def metrics(self) -> dict[str, Any]:
        return dict(zip(self._names, self._metrics, strict=True))

    @property
    def usage(self) -> dict[str, Any]:
        return dict(zip(self._usage_names, self._usage, strict=True))

    @property
    def error(self) -> dict[str, str] | None:
        """{"error": its kind, "message": its sentence}, or None."""
        return None if self._error is None else {"error": self._error[0], "message": self._error[1]}

    def __getitem__(self, name: str) -> Any:
        match name:
            case "example_id" | "rollout_index" | "reward" | "is_truncated" | "stop_condition" | "metrics" | "error":
                return getattr(self, name)
            case "token_usage":
                return self.usage
            case "timing":
                return None if self.seconds is None else {"total": self.seconds}
            case "reward_errors":
                return self.reward_errors or {}
            case "completion":
                return [{"role": "user", "content": self.note}] if self.note else []
        try:
            return self._metrics[self._names.index(name)]
        except ValueError:
            raise KeyError(name) from None

    def get(self, name: Any, default: Any = None, /) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        yield from _KEYS
        yield from (name for name in self._names if name not in _KEYS)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Brief({self.example_id!r}, {self.rollout_index!r}, reward={self.reward!r})"


def _error(error: Any) -> tuple[str, str]:
    if not isinstance(error, Mapping):
        return "Error", _cut(str(error))
    kind = str(error.get("error", "Error"))
    return kind, _cut(str(error.get("message") or error.get("error_chain_repr") or kind))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SENTENCE else f"{text[:700]} … {text[-1200:]}"


def _last_refusal(output: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """What the server said last, where it accepted not a single action of the model's."""
    refused = metrics.get("openenv_action_errors")
    if refused is None or not refused >= (metrics.get("num_turns") or 0) > 0:
        return ""
    for message in reversed(output.get("completion") or []):
        if message["role"] == "user":
            return _cut(message["content"]) if isinstance(message["content"], str) else ""
    return ""


def _split(values: Mapping[str, Any] | None) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """Names and values apart, since thousands of rollouts have the same names."""
    names = tuple(values) if values else ()
    if len(_NAMES) >= _MOST_SENTENCES:
        _NAMES.clear()
    return _NAMES.setdefault(names, names), tuple(values.values()) if values else ()


def _shared(text: str) -> str:
    """The same string object for the same text, while there are not too many different ones."""
    if len(_SENTENCES) >= _MOST_SENTENCES:
        _SENTENCES.clear()
    return _SENTENCES.setdefault(text, text)
