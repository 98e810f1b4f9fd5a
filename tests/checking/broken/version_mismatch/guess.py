"""Broken: another version than in pyproject.toml."""

from verifiers.envs.integrations.openenv_env import OpenEnvEnv

__version__ = "0.2.0"


def render(observation, **kwargs):
    return [{"role": "user", "content": observation["text"]}]


def load_environment(num_eval_examples: int = 20, **kwargs):
    return OpenEnvEnv(
        prompt_renderer=render, num_train_examples=0, num_eval_examples=num_eval_examples, max_turns=6, **kwargs
    )
