"""What makes a run the same run, and an attempt the same attempt.

Identity never holds ports, paths or addresses: a Hub on another port, a results folder that was moved or a server that
listens elsewhere do not make a recorded rollout worthless.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

SET_ATTRIBUTES = "extra_env_kwargs"
"""The detail that tells which attributes were set on the loaded environment (-x): others are another run."""


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Environment (`env_id`, `env_version`, `env_args`), `model` and `sampling_args` of a run."""

    env_id: str
    model: str
    env_version: str | None = None
    env_args: Mapping[str, Any] = field(default_factory=dict)
    sampling_args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Sixteen hex digits that two runs share exactly when their identity is equal."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready data."""
        return json.loads(json.dumps(asdict(self), default=str))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """An identity from what `to_dict` gave."""
        return cls(**{name: data[name] for name in cls.__slots__ if name in data})

    def differences(self, other: RunIdentity) -> list[str]:
        """The fields in which `other` is not this, as `model: 'a' != 'b'`."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [f"{name}: {mine[name]!r} != {theirs[name]!r}" for name in mine if mine[name] != theirs[name]]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How much of it is run and how it is described; `num_examples` may grow when a run is resumed.

    details: further fields of metadata.json, such as base_url, version_info, tools, state_columns.
    """

    num_examples: int
    rollouts_per_example: int
    pass_threshold: float = 0.5
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready data."""
        return json.loads(json.dumps(asdict(self), default=str))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Settings from what `to_dict` gave."""
        return cls(**{name: data[name] for name in cls.__slots__ if name in data})


def differing(
    identity: RunIdentity, settings: RunSettings, other: RunIdentity, wanted: RunSettings, may_grow: bool = True
) -> list[str]:
    """What keeps a recorded run from being continued as `other` with the settings `wanted`, as `model: 'a' != 'b'`.

    may_grow: whether more examples are the same run.
    """
    found = identity.differences(other)
    if settings.rollouts_per_example != wanted.rollouts_per_example:
        found.append(f"rollouts_per_example: {settings.rollouts_per_example} != {wanted.rollouts_per_example}")
    mine, theirs = (one.to_dict()["details"].get(SET_ATTRIBUTES) or {} for one in (settings, wanted))
    if mine != theirs:
        found.append(f"{SET_ATTRIBUTES}: {mine!r} != {theirs!r}")
    if wanted.num_examples < settings.num_examples or (not may_grow and wanted.num_examples > settings.num_examples):
        found.append(f"num_examples: {settings.num_examples} != {wanted.num_examples}")
    return found


def mismatch_sentence(directory: Path, differences: list[str]) -> str:
    """Why the run in `directory` cannot be continued."""
    return (
        f"Cannot resume from {directory}: metadata mismatch ({'; '.join(differences)}). "
        "Use matching evaluation settings or provide a new results path."
    )
