"""`baseline/replay:FILE`: says what an earlier run said, turn by turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from verifiers.errors import ModelError
from verifiers.evaluation.policies import Offline
from verifiers.evaluation.recordings import Recordings, seed_of
from verifiers.types import AssistantMessage, Messages, State, Tool

REPLAY = "baseline/replay"


class NotRecorded(ModelError):
    """A turn that the recording does not have. The rollout is unscored and not retried; the others go on."""


class ReplayPolicy(Offline):
    """Plays `recordings` back. A rollout without a recording, or one that outlives its recording, ends with
    NotRecorded.
    """

    def __init__(self, recordings: Recordings) -> None:
        super().__init__()
        self.recordings = recordings

    def doubts(self, env_id: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """What speaks against replaying this in `env_id`, on `rows` with their `rollout_index`: sentences, before it is
        played."""
        recorded = self.recordings
        found = []
        if recorded.env_id not in ("", env_id.replace("_", "-")):
            found.append(f"{recorded.path} is a run of '{recorded.env_id}', and this is '{env_id}'.")
        missing = [row for row in rows if not self._has(row)]
        if missing:
            found.append(
                f"{recorded.path} has nothing for {len(missing)} of {len(rows)} rollouts, which will be unscored."
            )
        return found

    def _has(self, row: Mapping[str, Any]) -> bool:
        return self.recordings.find(seed_of(row), row.get("example_id", 0), row["rollout_index"]) is not None

    def move(self, prompt: Messages, tools: Sequence[Tool], state: State) -> AssistantMessage:
        seed = seed_of(state)
        example, index = state.get("example_id", 0), state.get("rollout_index", 0)
        found = self.recordings.find(seed, example, index)
        row = f"example {example}, rollout {index}" + ("" if seed is None else f" (seed {seed})")
        if found is None:
            raise NotRecorded(f"Nothing is recorded for {row} in {self.recordings.path}.")
        turn = len(state.get("trajectory") or ())
        if turn >= len(found.turns):
            raise NotRecorded(
                f"The recording of {row} ends after turn {len(found.turns)} and the episode goes on: turn {turn + 1} "
                f"is missing in line {found.line} of {self.recordings.path}."
                + (' A last action "done" would end an episode of tool calls.' if tools else "")
            )
        return found.message(turn, bool(tools))
