"""A theft in a manor: ask the guests, find the one who lies, accuse."""

from typing import Any

import verifiers as vf
from verifiers.envs.integrations.openenv_env import OpenEnvEnv

SYSTEM_PROMPT = """You are a detective. A thing was stolen from a room of a manor by one of six guests, who was alone in \
that room in the hour of the theft. Guests change rooms only when a full hour begins.

Everybody tells the truth, with one exception: about the hour of the theft the thief names another room, and says to have \
been alone there, although two others were in it together. The watchman knows whether the thing was still there when an \
hour began.

Find out the hour and the thief, with as few questions as you can, and accuse. You may ask twelve questions; the \
thirteenth ends the case. The right thief is worth 0.6, the right hour 0.2, and up to 0.2 is for being quick: from the third \
question on, each takes 0.02 of it."""


def render(observation: dict[str, Any], context: str, **kwargs: Any) -> list[dict[str, str]]:
    """The story as the user's message; what is said reaches the model as the tools' answers."""
    return [{"role": "user", "content": observation["story"]}] if context == "reset" else []


def load_environment(
    num_train_examples: int = 100,
    num_eval_examples: int = 50,
    seed: int = 0,
    max_turns: int = 16,
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
