"""The state of a rollout is one dict, though some of its keys live in the input."""

from __future__ import annotations

import copy
import pickle

import pytest

import verifiers as vf
from verifiers.evaluation.policies import Policy


class Nobody(Policy):
    def answer(self, *_):
        raise NotImplementedError


@pytest.fixture
def state() -> vf.State:
    return vf.State(input={"prompt": ["p"], "answer": "a", "info": {"seed": 3}, "example_id": 7}, reward=None)


def test_every_way_to_write_reaches_the_input(state):
    assert state.setdefault("answer", "other") == "a" and state.setdefault("mine", 1) == 1
    state.update(prompt=["q"])
    state.update({"info": {"seed": 4}}, reward=1.0)
    state |= {"example_id": 8}
    assert state["input"] == {"prompt": ["q"], "answer": "a", "info": {"seed": 4}, "example_id": 8}
    state["prompt"] = ["r"]
    assert state["prompt"] == ["r"] and state["reward"] == 1.0
    assert state.pop("answer") == "a" and "answer" not in state and state.pop("answer", None) is None
    with pytest.raises(KeyError):
        state.pop("answer")


def test_a_key_of_its_own_is_written_where_it_is_read(state):
    own = vf.State(answer="mine")
    own["input"] = {"answer": "the row's"}
    own["answer"] = "new"
    assert own["answer"] == own.get("answer") == "new" and own["input"] == {"answer": "the row's"}


def test_copies_are_states(state):
    for other in (copy.copy(state), copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert type(other) is vf.State and other["answer"] == "a" and "prompt" in other and other == state


async def test_what_a_rollout_writes_into_its_row_stays_its_own():
    env = vf.SingleTurnEnv(dataset=[{"prompt": [vf.UserMessage("hi")], "info": {"seen": [], "deep": {"n": 0}}}])
    given = [{"prompt": [vf.UserMessage("hi")], "info": {"seen": [], "deep": {"n": 0}}}]
    for row in (env.get_dataset()[0], env.get_dataset()[0], given[0], given[0]):
        state = await env.init_state(row, Nobody(), "m")
        assert state["info"] == {"seen": [], "deep": {"n": 0}} and state["prompt"][0]["content"] == "hi"
        state["info"]["seen"].append(1)
        state["info"]["deep"]["n"] += 1
        state["prompt"][0]["content"] += ", a hint"
