"""The state of a rollout is one dict, though some of its keys live in the input."""

from __future__ import annotations

import copy
import pickle

import pytest

import verifiers as vf


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
