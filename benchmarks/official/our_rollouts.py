"""Rollouts by our client."""

from __future__ import annotations

from typing import Any

from rollouts import MOVE, arguments, play

import verifiers as vf
from verifiers.evaluation.policies import Policy
from verifiers.types import AssistantMessage


class Instant(Policy):
    """Answers at once with the game's one move, inside the process."""

    def answer(self, prompt: Any, tools: Any, action_schema: Any, rng: Any) -> AssistantMessage:
        return AssistantMessage(content=MOVE)


def main() -> None:
    told = arguments(__doc__).parse_args()
    config = vf.ClientConfig(api_key_var="BENCH_MODEL_KEY", api_base_url=told.model_url)
    play(told, Instant() if told.policy else config)


if __name__ == "__main__":
    main()
