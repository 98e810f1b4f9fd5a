"""Environments of the Gym and Gymnasium API, played in words."""

import random
import subprocess
import sys

import pytest

import verifiers as vf
from tests.support.scripted import Scripted, said
from verifiers.envs.experimental.gym_env import EpisodicSumRubric


class Count:
    """Says a number; naming it is worth 1, and the third step ends the episode. Gymnasium's five values."""

    closed = 0

    def __init__(self, top: int = 9) -> None:
        self.top, self.steps = top, 0

    def reset(self, seed=None):
        self.random = random.Random(seed)
        self.number = self.random.randint(1, self.top)
        return {"number": self.number}, {}

    def step(self, action):
        reward, self.steps = float(action == self.number), self.steps + 1
        self.number = self.random.randint(1, self.top)
        return {"number": self.number}, reward, False, self.steps == 3, {"step": self.steps}

    def close(self):
        Count.closed += 1


class Older(Count):
    """The same with Gym's older values, and asynchronous."""

    async def reset(self, seed=None):
        return super().reset(seed)[0]

    async def step(self, action):
        observation, reward, _, done, info = super().step(action)
        return observation, reward, done, info


def named(prompt):
    """The number that was said last."""
    return prompt[-1]["content"].removeprefix('{"number": ').removesuffix("}")


async def run(env, *turns, **options):
    return (await env.evaluate(Scripted(*turns), "scripted", **options))["outputs"]


@pytest.mark.parametrize("made", [Count, Older])
async def test_an_episode_is_the_sum_of_its_steps(made):
    before = Count.closed
    env = vf.GymEnv(made, action_parser=int, num_train_episodes=4, num_eval_episodes=2, seed=5, system_prompt="Count.")
    assert [row["info"]["seed"] for row in env.get_dataset()] == [5, 6, 7, 8]
    outputs = await run(env, named, "0", named, "never asked for", state_columns=["trajectory"])
    assert [output["info"]["seed"] for output in outputs] == [9, 10] and Count.closed == before + 2
    for output in outputs:
        game = Count()
        first = game.reset(output["info"]["seed"])[0]["number"]
        assert [message["content"] for message in output["prompt"]] == ["Count.", f'{{"number": {first}}}']
        assert output["reward"] == output["sum_step_rewards"] == 2.0 and output["num_turns"] == 3.0
        assert [step["reward"] for step in output["trajectory"]] == [1.0, 0.0, 1.0]
        assert output["turn_rewards"] == [1.0, 0.0, 1.0]
        assert output["trajectory"][2]["extras"]["gym"]["info"] == {"step": 3}
        assert output["stop_condition"] == "gym_done" and output["completion"][-1]["role"] == "user"
    again = await run(env, named, "0", named)
    assert [output["prompt"] for output in again] == [output["prompt"] for output in outputs]


async def test_the_last_step_that_max_episode_steps_allows_counts():
    env = vf.GymEnv(Count, {"top": 1}, int, num_train_episodes=1, num_eval_episodes=0, max_episode_steps=2)
    [output] = await run(env, "1", "1", "1")
    assert output["reward"] == 2.0 and output["stop_condition"] == "max_turns_reached"


async def test_what_is_no_action_is_told_and_ends_at_last():
    env = vf.GymEnv("CartPole-v1", action_parser=int, num_train_episodes=1, max_action_errors=3, obs_to_text=repr)
    outputs = await run(env, "left", "7", "1", "up", "up", "up", "up", num_examples=1)
    assert outputs[0]["stop_condition"] == "too_many_action_errors" and outputs[0]["reward"] == 1.0
    told = said(outputs[0], "user")
    assert told[0] == "Error: invalid literal for int() with base 10: 'left'"
    assert told[1] == "Error: 7 is no action of Discrete(2)." and told[2].startswith("array([")
    assert outputs[0]["gym_action_errors"] == 5.0


async def test_gymnasium_by_name_repeats_by_seed():
    def lean(prompt):
        return str(int(float(prompt[-1]["content"].strip("[]").split(",")[2]) > 0))

    env = vf.GymEnv("CartPole-v1", action_parser=int, num_train_episodes=1, num_eval_episodes=3)
    outputs = await run(env, *[lean] * 600)
    rewards = [output["reward"] for output in outputs]
    assert all(reward > 20 for reward in rewards) and outputs[0]["prompt"] != outputs[1]["prompt"]
    assert rewards == [output["reward"] for output in await run(env, *[lean] * 600)]


async def test_an_environment_that_fails_is_nobodys_fault():
    class Broken(Count):
        def step(self, action):
            raise RuntimeError("the board fell down")

    before = Count.closed
    env = vf.GymEnv(Broken, num_train_episodes=1, num_eval_episodes=0, rubric=EpisodicSumRubric(weight=2.0))
    [output] = await run(env, "1")
    assert output["reward"] is None and output["error"]["message"] == "RuntimeError: the board fell down"
    assert Count.closed == before + 1


def test_mistakes_are_sentences():
    with pytest.raises(ValueError, match="num_train_episodes or num_eval_episodes above 0"):
        vf.GymEnv(Count, num_train_episodes=0, num_eval_episodes=0)
    code = "import sys; sys.modules['gymnasium'] = None\nimport verifiers as vf\nvf.GymEnv('CartPole-v1')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: GymEnv with a name for env_cls requires gymnasium. "
        "Install with: uv add 'gymnasium>=1.2,<2' (the extra verifiers[gym])"
    )


@pytest.mark.parametrize(
    ("name", "instead"), [("CliAgentEnv", "vf.SandboxEnv"), ("HarborEnv", "post_rollout"), ("BrowserEnv", "vf.MCPEnv")]
)
def test_what_is_left_out_says_why(name, instead):
    with pytest.raises(AttributeError, match=rf"^verifiers\.{name} is left out: .*{instead}"):
        getattr(vf, name)
    assert name not in dir(vf)
