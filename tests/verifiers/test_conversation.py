"""A conversation is a list in everything, and never passes on what has not been looked through."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import verifiers as vf
from verifiers.utils.message_utils import normalize_messages

PLAIN = {"role": "user", "content": "plain"}


def conversation() -> Any:
    return normalize_messages([vf.UserMessage("a"), vf.AssistantMessage("b")])


CHANGES: dict[str, Callable[[Any], Any]] = {
    "append": lambda said: said.append(PLAIN),
    "extend": lambda said: said.extend([PLAIN]),
    "+=": lambda said: said.__iadd__([PLAIN]),
    "insert": lambda said: said.insert(0, PLAIN),
    "an item": lambda said: said.__setitem__(0, PLAIN),
    "a slice": lambda said: said.__setitem__(slice(0, 1), [PLAIN]),
    "pop, then append": lambda said: (said.pop(), said.append(PLAIN)),
    "del, then append": lambda said: (said.__delitem__(0), said.append(PLAIN)),
    "clear, then append": lambda said: (said.clear(), said.append(PLAIN)),
    "remove, then append": lambda said: (said.remove(said[0]), said.append(PLAIN)),
    "append, then reverse": lambda said: (said.append(PLAIN), said.reverse()),
    "append, then sort": lambda said: (said.append(PLAIN), said.sort(key=lambda message: message["content"])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_put_into_it_becomes_a_message(change: str) -> None:
    said = conversation()
    CHANGES[change](said)
    found = normalize_messages(said)
    assert found == said
    assert all(isinstance(message, vf.UserMessage | vf.AssistantMessage) for message in found)


def test_what_is_added_to_it_becomes_a_message() -> None:
    said = conversation() + [PLAIN]  # noqa: RUF005
    assert isinstance(normalize_messages(said)[-1], vf.UserMessage)
    assert isinstance(normalize_messages(said + conversation())[2], vf.UserMessage)


def test_it_is_a_list() -> None:
    said = conversation()
    assert isinstance(said, list)
    assert said == [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert json.loads(json.dumps(said)) == said
    assert pickle.loads(pickle.dumps(said)) == copy.deepcopy(said) == said.copy() == said[:]
    assert said + [PLAIN] == [*said, PLAIN]  # noqa: RUF005 - the sum is what is looked at


def test_what_is_given_back_is_another_list() -> None:
    said = conversation()
    normalize_messages(said).append(PLAIN)
    assert len(said) == 2
