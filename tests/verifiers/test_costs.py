"""What a run used, and what that cost."""

import json

import pytest
from openai_server import completion

import verifiers as vf

USED = {
    "prompt_tokens": 1000,
    "completion_tokens": 100,
    "total_tokens": 1100,
    "prompt_tokens_details": {"cached_tokens": 400},
    "completion_tokens_details": {"reasoning_tokens": 60},
}


class Twice(vf.MultiTurnEnv):
    """Two turns."""

    async def env_response(self, messages, state, **kwargs):
        return "more"


@pytest.mark.parametrize(
    ("prices", "cost"),
    [
        (vf.Prices(2.0, 10.0, 0.5), (600 * 2.0 + 400 * 0.5 + 100 * 10.0) / 1e6),
        (vf.Prices(2.0, 10.0), (1000 * 2.0 + 100 * 10.0) / 1e6),
        (vf.Prices(0, 0), 0.0),
    ],
)
def test_the_cost_of_one_call(prices, cost):
    assert prices.cost(1000, 100, 400) == pytest.approx(cost)


async def test_rows_and_metadata_hold_tokens_and_cost(openai_server, tmp_path):
    openai_server.reply(completion({"content": "ok"}, usage=USED))
    config = vf.ClientConfig(api_base_url=openai_server.url, prices=vf.Prices(2.0, 10.0, 0.5))
    env = Twice(dataset=[{"question": "a"}, {"question": "b"}], rubric=vf.Rubric(), max_turns=2)
    found = await env.evaluate(config, "m", results_path=tmp_path / "run")
    call = (600 * 2.0 + 400 * 0.5 + 100 * 10.0) / 1e6
    rollout = {
        "input_tokens": 2000,
        "output_tokens": 200,
        "final_input_tokens": 1000,
        "final_output_tokens": 100,
        "cached_input_tokens": 800,
        "reasoning_tokens": 120,
        "cost": pytest.approx(2 * call),
    }
    assert [output["token_usage"] for output in found["outputs"]] == [rollout, rollout]
    total = {**rollout, "total_cost": pytest.approx(4 * call)}
    assert found["metadata"]["usage"] == total
    assert json.loads((tmp_path / "run/metadata.json").read_text())["usage"] == total


async def test_nothing_is_said_of_a_cost_that_is_not_known(openai_server):
    env = vf.SingleTurnEnv(dataset=[{"question": "a"}], rubric=vf.Rubric())
    found = await env.evaluate(vf.ClientConfig(api_base_url=openai_server.url), "m")
    names = {"input_tokens", "output_tokens", "final_input_tokens", "final_output_tokens"}
    assert set(found["outputs"][0]["token_usage"]) == set(found["metadata"]["usage"]) == names
