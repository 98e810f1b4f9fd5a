"""CartPole-v1, played in words: an OpenEnv server in `proj/`, a chat on this side."""

from typing import Any

import verifiers as vf
from verifiers.envs.integrations.openenv_env import OpenEnvEnv

SYSTEM_PROMPT = """You balance a pole on a cart. Each turn you see the cart and the pole, and you push the cart once.

Answer with a JSON object: {"action": "0"} pushes to the left, {"action": "1"} pushes to the right.

Every push that keeps the pole up is worth 1. It is over when the pole leans more than 0.2095 radians (12 degrees), when \
the cart is more than 2.4 metres from the middle, or after 500 pushes."""


def render(observation: dict[str, float], context: str, **kwargs: Any) -> list[dict[str, str]]:
    """The four numbers of an observation as one user message."""
    opening = "The pole stands. " if context == "reset" else ""
    text = (
        f"{opening}Cart: {observation['cart_position']:+.3f} m, moving {observation['cart_velocity']:+.3f} m/s. "
        f"Pole: {observation['pole_angle']:+.4f} rad, turning {observation['pole_angular_velocity']:+.3f} rad/s."
    )
    return [{"role": "user", "content": text}]


def load_environment(
    num_train_examples: int = 100,
    num_eval_examples: int = 50,
    seed: int = 0,
    max_turns: int = 500,
    **kwargs: Any,
) -> vf.Environment:
    """Build the environment; further arguments go to OpenEnvEnv."""
    return OpenEnvEnv(
        openenv_project="./proj",
        prompt_renderer=render,
        num_train_examples=num_train_examples,
        num_eval_examples=num_eval_examples,
        seed=seed,
        max_turns=max_turns,
        system_prompt=SYSTEM_PROMPT,
        **kwargs,
    )
