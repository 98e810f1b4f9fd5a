"""Rollouts of OpenEnvEnv on real servers of every OpenEnv version: what the model sees, what is scored, whose fault it was."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.versions.conftest import METADATA, Script, play
from verifiers.openenv.errors import SessionLost

PNG = "data:image/png;base64,iVBORw0KGgo"


def told(state) -> list[str]:
    """What the model was told after its moves."""
    return [message["content"] for message in state["completion"] if message["role"] in ("user", "tool")]


async def test_an_episode_of_typed_actions(environment, version):
    env = environment(version, "bench:app", max_turns=3)
    placed = {"move": "add", "amount": 2, "place": {"x": 1, "y": 0}}
    state = await play(env, Script({"move": "add", "amount": 3}, placed, {"move": "add"}), seed=5)
    assert state["error"] is None and state["stop_condition"] == "max_turns_reached"
    assert [step["reward"] for step in state["trajectory"]] == [3.0, 12.0, 1.0] and state["reward"] == 16.0
    assert '"seed": 5' in state["prompt"][0]["content"] and '"total": 15' in told(state)[1]
    sent = [step["extras"]["openenv"][0] for step in state["trajectory"]]
    assert [item["metadata"] for item in sent[:2]] == (
        [{"steps": 1}, {"steps": 2}] if METADATA[version] else [None] * 2
    )


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ({"move": "add", "amount": "many"}, "Error: amount: Input should be a valid integer"),
        ({"move": "jump"}, "Error: move: Input should be 'add', 'slow'"),
        ({"move": "add", "place": [1, 2]}, "Error: place: Input should be a valid dictionary"),
        ({"move": "add", "place": {"x": 1, "y": 99}}, "Error: place.y: Input should be less than or equal to 9"),
        ({"move": "crash"}, "Error: the abacus fell over"),
        ("I would rather not.", "Error: Failed to parse action JSON"),
    ],
)
async def test_a_wrong_action_is_the_models_turn(environment, version, reply, says):
    env = environment(version, "bench:app", max_turns=2)
    state = await play(env, model := Script(reply, {"move": "add", "amount": 4}))
    assert state["error"] is None and state["reward"] == 4.0 and state["metrics"]["openenv_action_errors"] == 1.0
    assert model.asked[1][-1]["content"].startswith(says)


@pytest.mark.parametrize("seed", [None, -2])
async def test_without_a_seed_and_with_a_negative_one(environment, version, seed):
    env = environment(version, "bench:app", max_turns=1)
    state = await play(env, Script({"move": "add"}), seed)
    assert state["error"] is None and state["reward"] == 1.0
    assert f'"seed": {"null" if seed is None else seed}' in state["prompt"][0]["content"]


async def test_arguments_of_a_reset_and_the_state_at_the_end(environment, version):
    arguments = {"total": 12, "episode_id": "mine", "no_such_argument": 1}
    env = environment(version, "bench:app", max_turns=2, reset_arguments=arguments, keep_state=True)
    state = await play(env, Script({"move": "add", "amount": 3}))
    assert state["error"] is None and '"total": 12' in state["prompt"][0]["content"]
    assert state["openenv_state"] == {"episode_id": "mine", "step_count": 2, "total": 18}


async def test_rows_may_begin_below_zero(environment, version):
    env = environment(version, "bench:app", max_turns=1, seed=-1, num_train_examples=1, num_eval_examples=2)
    seeds = [row["info"]["seed"] for table in (env.get_dataset(), env.get_eval_dataset()) for row in table]
    assert seeds == [-1, 0, 1]


async def test_a_picture_reaches_the_model_as_a_part(environment, version):
    def render(observation, **kwargs):
        parts = [{"type": "text", "text": f"Total {observation['total']}."}]
        if observation["image"]:
            url = f"data:image/png;base64,{observation['image']}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
        return [{"role": "user", "content": parts}]

    env = environment(version, "bench:app", max_turns=2, prompt_renderer=render)
    state = await play(env, model := Script({"move": "picture", "amount": 2}, {"move": "add"}))
    assert state["error"] is None and state["reward"] == 3.0
    text, picture = model.asked[1][-1]["content"]
    assert text == {"type": "text", "text": "Total 2."} and picture["type"] == "image_url"
    assert picture["image_url"]["url"].startswith(PNG)


async def test_a_step_slower_than_the_time_limit_is_not_scored(environment, version):
    env = environment(version, "bench:app", request_timeout_seconds=0.5, max_turns=1)
    state = await play(env, Script({"move": "slow"}))
    assert isinstance(state["error"], SessionLost) and "did not answer within 0.5 s" in str(state["error"])
    assert state["reward"] is None
    assert (await play(env, Script({"move": "add"})))["reward"] == 1.0
    patient = environment(version, "bench:app", request_timeout_seconds=20, max_turns=1)
    assert (await play(patient, Script({"move": "slow"})))["reward"] == 1.0


async def test_a_server_that_dies_is_unscored_and_replaced(environment, version):
    env = environment(version, "bench:app", alone={}, max_turns=3)
    state = await play(env, Script({"move": "add"}, {"move": "die"}))
    assert isinstance(state["error"], SessionLost) and state["reward"] is None
    assert "exit code 9" in str(state["error"]) and "somebody pulled the plug" in str(state["error"])

    class Assassin(Script):
        def answer(self, prompt, tools, action_schema, rng):
            if len(self.asked) == 1:
                os.kill(env.source.alive[0].pid, signal.SIGKILL)
            return super().answer(prompt, tools, action_schema, rng)

    state = await play(env, Assassin({"move": "add"}))
    assert isinstance(state["error"], SessionLost) and state["reward"] is None and len(state["trajectory"]) == 2
    assert (await play(env, Script({"move": "add"})))["reward"] == 3.0
    assert len(env.source.children) == 3


async def test_a_factory_that_fails_is_named(environment, version):
    env = environment(version, "bench:app", alone={"BROKEN": "1"})
    state = await play(env, Script({"move": "add"}))
    assert isinstance(state["error"], SessionLost) and "FACTORY_ERROR" in str(state["error"])
    assert state["reward"] is None and state["trajectory"] == []


async def test_more_rollouts_than_sessions(environment, version):
    env = environment(version, "bench:app", alone={"CAPACITY": "2"}, max_turns=2)
    states = await asyncio.gather(*(play(env, Script({"move": "add", "amount": 2}), seed) for seed in range(8)))
    assert [state["reward"] for state in states] == [4.0] * 8
    assert [f'"seed": {seed}' in state["prompt"][0]["content"] for seed, state in enumerate(states)] == [True] * 8
    assert len(env.source.children) <= 4


async def test_a_server_that_cannot_tell_its_own_refusal(environment, version):
    """A validator that raises makes every openenv version lose the session while it words the refusal: nobody's turn."""
    env = environment(version, "bench:app", max_turns=2)
    bad, good = await asyncio.gather(
        play(env, Script({"move": "add", "amount": 7})), play(env, Script({"move": "add", "amount": 8}))
    )
    assert isinstance(bad["error"], SessionLost) and "SESSION_ERROR" in str(bad["error"]) and bad["reward"] is None
    assert good["reward"] == 16.0


async def test_tools_and_their_answers(environment, version):
    env = environment(version, "toolbox:app", max_turns=8, prompt_renderer=lambda observation, context: (
        [{"role": "user", "content": "Build a table."}] if context == "reset" else []
    ))  # fmt: skip
    calls = [
        [("saw", {"length": 30}), ("saw", {"length": 1, "wood": "ash"})],
        [("measure", {"length": 4})],
        [("hammer", {})],
        [("saw", {"length": "long"})],
        [("saw", {"length": 3, "wood": "balsa"})],
        [("fly", {})],
        "That is enough.",
    ]
    state = await play(env, Script(*calls))
    assert state["error"] is None and state["stop_condition"] == "mcp_no_tool_calls" and state["reward"] == 0.0
    saw = next(tool for tool in state["tool_defs"] if tool.name == "saw")
    assert saw.parameters["properties"]["wood"]["enum"] == ["oak", "ash"] and saw.parameters["required"] == ["length"]
    answers = told(state)
    assert answers[:3] == ["70", "99", '{"length": 4, "unit": "cm"}']
    assert answers[3] == "Error: Error calling tool 'hammer': the thumb is blue"
    assert answers[4].startswith("Error: ") and "length" in answers[4] and "integer" in answers[4]
    assert answers[5].startswith("Error: ") and "oak" in answers[5]
    assert answers[6].startswith("Error: Unknown tool") and "fly" in answers[6]


async def test_tools_without_fastmcp(environment, version):
    env = environment(version, "desk:app")
    lines = Script(
        [("write", {"line": "one"})], [("erase", {})], [("write", {"line": "two"}), ("write", {"line": "six"})]
    )
    state = await play(env, lines)
    assert state["error"] is None and state["stop_condition"] == "openenv_done"
    assert [tool.name for tool in state["tool_defs"]] == ["write"] and state["reward"] == 12.0
    assert any("There is no erase on this desk." in answer for answer in told(state))


@pytest.mark.parametrize("tool", ["look", "look_and_tell"])
async def test_a_tool_that_answers_with_a_picture(environment, version, tool):
    """The tool's message holds text alone, as chat APIs want it; the picture follows as a part of a user message."""
    env = environment(version, "toolbox:app", max_turns=2, prompt_renderer=lambda observation, context: (
        [{"role": "user", "content": "Look."}] if context == "reset" else []
    ))  # fmt: skip
    model = Script([(tool, {}), ("saw", {"length": 2})], "I see.")
    state = await play(env, model)
    assert state["error"] is None
    *_, answer, other, shown = model.asked[1]
    assert (answer["role"], other["role"], shown["role"]) == ("tool", "tool", "user") and other["content"] == "98"
    assert "iVBORw0KGgo" not in str(answer["content"]) and "image" in answer["content"]
    assert tool == "look" or answer["content"].startswith("A red dot.")
    pictures = [part for part in shown["content"] if part["type"] == "image_url"]
    assert len(pictures) == 1 and pictures[0]["image_url"]["url"].startswith(PNG)


@pytest.mark.parametrize("tool", ["sleep", "die"])
async def test_a_tool_that_never_answers(environment, version, tool):
    env = environment(version, "toolbox:app", alone={}, request_timeout_seconds=2.0)
    state = await play(env, Script([(tool, {})]))
    assert isinstance(state["error"], SessionLost) and state["reward"] is None
    assert (await play(env, Script([("saw", {"length": 1})], "Done.")))["error"] is None
