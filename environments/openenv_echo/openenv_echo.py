"""Echo: repeat a phrase through an MCP tool of an OpenEnv server."""

from typing import Any

import verifiers as vf
from verifiers.envs.integrations.openenv_env import OpenEnvEnv

SYSTEM_PROMPT = """You have one tool, echo_message. The user gives you a phrase: send exactly that phrase through the \
tool, without quotation marks, and then say that you are done."""


def render(observation: dict[str, Any], context: str, **kwargs: Any) -> list[dict[str, str]]:
    """The phrase as the user's message; what the tool says reaches the model as the tool's answer."""
    if context == "reset":
        return [{"role": "user", "content": observation["phrase"]}]
    return []


def load_environment(
    num_train_examples: int = 100,
    num_eval_examples: int = 50,
    seed: int = 0,
    max_turns: int = 4,
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
