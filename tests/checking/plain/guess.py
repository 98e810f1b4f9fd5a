"""Guess a digit in four guesses."""

from verifiers.envs.integrations.openenv_env import OpenEnvEnv


def render(observation, **kwargs):
    return [{"role": "user", "content": observation["text"]}]


def load_environment(num_eval_examples: int = 20, **kwargs):
    return OpenEnvEnv(
        prompt_renderer=render, num_train_examples=0, num_eval_examples=num_eval_examples, max_turns=6, **kwargs
    )
