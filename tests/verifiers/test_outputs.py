"""Rows of what cannot be written as it is."""

import json

import pytest

import verifiers as vf
from prime_evals import read_run
from verifiers.evaluation.policies import EchoPolicy


async def test_what_holds_itself_is_recorded_as_a_note(tmp_path):
    class Ring(vf.SingleTurnEnv):
        async def setup_state(self, state):
            state["info"]["me"] = state["info"]
            deep = state["info"]["deep"] = []
            for _ in range(2000):
                deep.append([])
                deep = deep[0]
            state["ring"] = ring = {}
            ring["ring"] = ring

    env = Ring(dataset=[{"question": "word"}], rubric=vf.Rubric())
    await env.evaluate(EchoPolicy(), "m", results_path=tmp_path / "run")
    (row,) = read_run(tmp_path / "run").outputs()
    assert row["info"]["me"] == "<dict that holds itself>" and "more than 200 levels deep" in json.dumps(
        row["info"]["deep"]
    )
    with pytest.raises(
        ValueError, match=r"^state_columns value for 'ring' is not JSON-serializable: dict that holds itself"
    ):
        await env.evaluate(EchoPolicy(), "m", state_columns=["ring"])


async def test_an_integer_of_thousands_of_digits_ends_no_run(tmp_path):
    """It can be written nowhere, and its rollout is recorded all the same, like the others."""

    class Large(vf.SingleTurnEnv):
        async def setup_state(self, state, **kwargs):
            state["info"]["n"] = 10**5000
            return state

    env = Large(dataset=[{"question": "q"}, {"question": "z"}])
    outputs = (await env.evaluate(EchoPolicy(), "m", results_path=tmp_path))["outputs"]
    assert len(outputs) == 2 and all(output["error"] is None for output in outputs)
    assert "<int of 16610 bits>" in (tmp_path / "results.jsonl").read_text()
