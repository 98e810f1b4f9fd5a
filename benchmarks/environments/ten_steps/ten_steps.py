"""Ten steps, a reward of 1.0 each. The same file is loaded by the official library and by ours."""

from __future__ import annotations

from typing import Any

from verifiers.envs.integrations.openenv_env import OpenEnvEnv


def render(observation: Any, **_: Any) -> list[dict[str, Any]]:
    """The observation as the one message that the model sees."""
    return [{"role": "user", "content": str(observation)}]


def load_environment(num_eval_examples: int = 40) -> OpenEnvEnv:
    """`num_eval_examples` episodes to evaluate; their rewards are the sums of their steps': 10.0."""
    return OpenEnvEnv(num_train_examples=1, num_eval_examples=num_eval_examples, prompt_renderer=render)
