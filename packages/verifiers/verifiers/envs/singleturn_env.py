"""SingleTurnEnv: one question, one answer."""

from __future__ import annotations

from typing import Any

from verifiers.envs.multiturn_env import MultiTurnEnv
from verifiers.types import Messages, MessagesLike, State


class SingleTurnEnv(MultiTurnEnv):
    """The model answers the prompt once."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_turns=1, **kwargs)

    async def env_response(self, messages: Messages, state: State, **kwargs: Any) -> MessagesLike:
        """Never called: there is one turn."""
        raise NotImplementedError("SingleTurnEnv does not have an env_response.")
