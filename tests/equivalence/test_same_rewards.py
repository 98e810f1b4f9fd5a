"""Environments written from the API alone are worth the same under the official library and under ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.equivalence.answers import answer
from tests.equivalence.conftest import HERE, OFFICIAL, our_path, our_python, run, word_lists
from tests.official.conftest import python_with
from tests.support.openai_server import OpenAIServer

ENVIRONMENTS = {"boxed_maths": 6 * 12, "tool_user": 4 * 12, "judged": 3 * 12, "wordle": 2 * 12, "mixture": 10 * 12}
"""With how many rollouts each is played: examples times seeds times rollouts."""
FURTHER = {"textarena_reward"}
"""What ours measures besides."""
STYLES = ("dict", "object")
PLAYED = [f"{name}:{style}" for name in ENVIRONMENTS for style in STYLES]


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    made = OpenAIServer()
    made.reply(answer)
    yield made
    made.close()


@pytest.fixture(scope="module")
def played(server: OpenAIServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What everything was worth, by library."""
    lists = str(word_lists(tmp_path_factory.mktemp("nltk")))
    found = {}
    for library, python, path in (("official", python_with(*OFFICIAL), ""), ("ours", our_python(), our_path())):
        home = tmp_path_factory.mktemp(library)
        told = home / "found.json"
        run(python, HERE / "driver.py", server.url, str(told), *PLAYED, home=home, NLTK_DATA=lists, PYTHONPATH=path)
        found[library] = json.loads(told.read_text())
    return found


def test_both_are_what_they_are_called(played: dict[str, dict[str, Any]]) -> None:
    assert played["official"]["version"] == "0.1.14" and "site-packages" in played["official"]["from"]
    assert played["ours"]["from"] == str(HERE.parents[1] / "packages/verifiers/verifiers/__init__.py")


def said_in(row: dict[str, Any], what: str) -> list[Any]:
    """A completion; of Wordle's the model's part, since a reply without a guess is played as the word None there."""
    return [message for message in row["completion"] if message[0] == "assistant" or not what.startswith("wordle")]


@pytest.mark.parametrize("what", PLAYED)
def test_the_same_rewards(played: dict[str, dict[str, Any]], what: str) -> None:
    official, ours = played["official"][what], played["ours"][what]
    assert len(ours) == ENVIRONMENTS[what.partition(":")[0]]
    for one, other in zip(official, ours, strict=True):
        said = {
            name: (one[name], other[name]) for name in ("example", "seed", "stop", "error") if one[name] != other[name]
        }
        assert not said, f"{said}\n{one}\n{other}"
        assert said_in(other, what) == said_in(one, what)
        assert {name: other["metrics"][name] for name in one["metrics"]} == pytest.approx(one["metrics"])
        further = {name: value for name, value in other["metrics"].items() if name not in one["metrics"]}
        if what.startswith("mixture"):  # in a group ours has every metric in every row; there it is the rubric's alone
            assert set(further.values()) == {0.0}
        else:
            assert set(further) <= FURTHER
        assert other["reward"] == pytest.approx(one["reward"])
    assert len({row["reward"] for row in ours}) >= 3, "the answers differ too little to show anything"


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_both_generations_see_the_same(played: dict[str, dict[str, Any]], name: str) -> None:
    older, newer = (played["ours"][f"{name}:{style}"] for style in STYLES)
    assert [row["reward"] for row in older] == pytest.approx([row["reward"] for row in newer])


def test_advantages_of_a_compared_group_are_the_same(played: dict[str, dict[str, Any]]) -> None:
    official, ours = (played[library]["mixture:dict"] for library in ("official", "ours"))
    assert [row["advantage"] for row in ours] == pytest.approx([row["advantage"] for row in official])


def test_only_our_judge_always_sees_the_question(server: OpenAIServer, played: dict[str, dict[str, Any]]) -> None:
    asked = [request["messages"][0]["content"] for request in server.requests if request["model"] == "judge"]
    blank = [text for text in asked if "<question></question>" in text]
    half = len(asked) // 2
    assert len(blank) == half and all("<question></question>" not in text for text in asked[half:])
