"""`baseline/replay:FILE`: says what an earlier run said, turn by turn."""

from __future__ import annotations

from collections.abc import Sequence

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
