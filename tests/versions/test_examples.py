"""The examples that need an OpenEnv server, played on one: what is seen, what is worth something, and what is said."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import re

import pytest

import verifiers as vf
from prime_core.metadata import check_environment
from tests.versions.conftest import ENVIRONMENTS, Script, play
from verifiers.evaluation.policies import Policy, RandomPolicy

NEW = ("openenv_textarena", "openenv_reservoir", "openenv_manor")
VERSION = {"openenv_textarena": "0.3.0", "openenv_reservoir": "0.10.0", "openenv_manor": "0.10.0"}


@pytest.fixture
async def example(shared, monkeypatch):
    """`example("openenv_manor", …)`: the example's environment on a running server of its own."""
    made: list[vf.Environment] = []

    def load(name: str, **options) -> vf.Environment:
        monkeypatch.syspath_prepend(str(ENVIRONMENTS / name))
        url = shared(VERSION[name], "server.app:app", ENVIRONMENTS / name / "proj")
        made.append(importlib.import_module(name).load_environment(server_url=url, **options))
        return made[-1]

    yield load
    for env in made:
        await env._teardown()


class Player(Policy):
    """A policy that is a function of what it was last told."""

    def __init__(self, move) -> None:
        super().__init__()
        self.move_for = move

    def answer(self, prompt, tools, action_schema, rng) -> vf.AssistantMessage:
        moved = self.move_for(prompt)
        if isinstance(moved, str):
            return vf.AssistantMessage(moved)
        return vf.AssistantMessage(None, tool_calls=[vf.ToolCall("c", moved[0], json.dumps(moved[1]))])


def said(prompt) -> list[str]:
    return [message["content"] for message in prompt if message["role"] != "assistant"]


@pytest.mark.parametrize("name", NEW)
def test_they_are_fit_to_be_published(name):
    metadata = check_environment(ENVIRONMENTS / name)
    assert metadata.version == "0.1.0" and metadata.tags and metadata.urls and "proj" in metadata.hatch_include
    assert metadata.eval_defaults == {"num_examples": 5, "rollouts_per_example": 3}


@pytest.mark.parametrize("name", NEW)
async def test_random_play_is_repeatable_and_graded(example, name):
    env = example(name)
    assert env.get_eval_dataset()[0]["prompt"][0]["role"] == "system"

    async def rewards() -> list[float]:
        plays = [play(env, RandomPolicy(), seed, rollout_index=rollout) for seed in range(12) for rollout in range(2)]
        states = await asyncio.gather(*plays)
        assert all(state["error"] is None and state["metrics"]["openenv_action_errors"] == 0.0 for state in states)
        return [state["reward"] for state in states]

    first = await rewards()
    assert first == await rewards(), "also with all sessions at once on one server"
    assert len(set(first)) >= 3 and all(0.0 <= reward <= 1.0 for reward in first)


def consistent(prompt) -> str:
    """A Mastermind guess that all answers so far allow."""
    told = "\n".join(said(prompt))
    known = [
        ([int(digit) for digit in guess.split()], int(black), int(white))
        for guess, black, white in re.findall(r"\[([\d ]+)\]\. Feedback: (\d) black peg\(s\), (\d) white", told)
    ]
    for code in itertools.permutations(range(1, 7), 4):
        for guess, black, white in known:
            hit = sum(a == b for a, b in zip(code, guess, strict=True))
            if (hit, len(set(code) & set(guess)) - hit) != (black, white):
                break
        else:
            return f"All answers allow [{' '.join(map(str, code))}]."
    raise AssertionError(told)


async def test_mastermind_is_solved_by_thinking(example):
    env = example("openenv_textarena")
    states = await asyncio.gather(*(play(env, Player(consistent), seed) for seed in range(8)))
    assert [state["reward"] for state in states] == [1.0] * 8
    assert all(state["stop_condition"] == "openenv_done" and len(state["trajectory"]) <= 8 for state in states)
    assert states[0]["prompt"][0]["content"].startswith("You are playing Mastermind.")
    assert "You have cracked the code" in states[0]["completion"][-1]["content"]


async def test_two_invalid_moves_in_a_row_end_a_game(example):
    env = example("openenv_textarena")
    state = await play(env, Script("[1 2 3 4]", "I have no idea", "[1 1 1 1]"))
    assert state["stop_condition"] == "openenv_done" and 0 < state["reward"] < 1 and len(state["trajectory"]) == 3
    assert "You attempted an invalid move" in state["completion"][3]["content"]
    assert "Invalid Move: " in state["completion"][-1]["content"]


async def test_guess_the_number_by_halves(example):
    def halve(prompt) -> str:
        low, high = 1, 100
        while True:
            middle = (low + high) // 2
            hints = re.findall(r"number is (higher|lower)", "\n".join(said(prompt)))
            for hint in hints:
                middle = (low + high) // 2
                low, high = (middle + 1, high) if hint == "higher" else (low, middle - 1)
            return f"[{(low + high) // 2}]"

    env = example("openenv_textarena", game="GuessTheNumber-v0")
    states = await asyncio.gather(*(play(env, Player(halve), seed) for seed in range(6)))
    assert [state["reward"] for state in states] == [1.0] * 6
    assert len({len(state["trajectory"]) for state in states}) > 1


async def test_wordle_with_a_list_of_ones_own(example, tmp_path):
    words = ["Tram", "kite", "lamp", "oven"]
    (tmp_path / "words.txt").write_text("\n".join(reversed(words)))
    secrets = []
    for given in (words, str(tmp_path / "words.txt")):
        env = example("openenv_textarena", game="Wordle-v0", words=given)
        state = await play(env, Script("[kite]", "lamp", "My guess: [oven]", "[tram]"), 3)
        assert state["reward"] == 1.0 and "A secret 4-letter word" in state["prompt"][0]["content"]
        secrets.append(len(state["trajectory"]))
    assert secrets[0] == secrets[1], "the order of the words does not matter"
    lost = await play(env, Script("[bird]", "[fish]", "[frog]", "[bear]", "[wolf]", "[swan]"), 3)
    assert lost["reward"] < 1 and "The secret word was" in lost["completion"][-1]["content"]
    found = {(await play(env, Script("[kite]", "lamp", "[oven]", "[tram]"), seed))["reward"] for seed in range(3)}
    assert found == {1.0}


async def test_wordle_without_a_list(example):
    env = example("openenv_textarena", game="Wordle-v0")
    state = await play(env, Script("[crane]", "[zzzzz]", "[crane]", "[toast]"), 2)
    assert state["error"] is None and "C R A N E" in state["completion"][1]["content"]
    assert "not an English word" in state["completion"][3]["content"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"game": "Chess-v0"}, "game must be one of Mastermind-v0, GuessTheNumber-v0, Wordle-v0, not 'Chess-v0'."),
        ({"words": ["lamp"]}, "words is for Wordle-v0; Mastermind-v0 has none."),
        ({"game": "Wordle-v0", "words": ["lamp", "kites"]}, "all of one length; 'lamp' differs from 'kites'."),
        ({"game": "Wordle-v0", "words": ["l'eau"]}, "of letters only"),
        ({"game": "Wordle-v0", "words": []}, "there are none"),
        ({"game": "Wordle-v0", "words": "nowhere.txt"}, "words names the file nowhere.txt, which cannot be read"),
    ],
)
def test_textarena_refuses_what_it_cannot_play(monkeypatch, options, says):
    monkeypatch.syspath_prepend(str(ENVIRONMENTS / "openenv_textarena"))
    with pytest.raises(ValueError, match=re.escape(says)):
        importlib.import_module("openenv_textarena").load_environment(server_url="http://127.0.0.1:9", **options)


async def test_a_year_of_the_reservoir(example):
    def meet(prompt) -> str:
        town, farms = (re.findall(rf"Need of the {who}: (\d+)", said(prompt)[-1])[0] for who in ("town", "farms"))
        return f"All they need.\n```json\n{json.dumps({'town': int(town), 'farms': int(farms)})}\n```"

    env = example("openenv_reservoir")
    met = await asyncio.gather(*(play(env, Player(meet), seed) for seed in range(10)))
    wasted = await asyncio.gather(*(play(env, Script({"town": 40, "farms": 40}), seed) for seed in range(10)))
    dry = await play(env, Script({"town": 0, "farms": 0}), 1)
    assert all(good["reward"] > bad["reward"] for good, bad in zip(met, wasted, strict=True))
    assert 0 < dry["reward"] < 0.15 and "went over the dam and flooded the valley" in str(dry["completion"])
    assert all(len(state["trajectory"]) == 12 and state["stop_condition"] == "openenv_done" for state in met)
    assert met[0]["completion"][-1]["content"].splitlines()[0].startswith("December: the town got ")


async def test_the_reservoir_refuses_what_is_no_release(example):
    env = example("openenv_reservoir", max_turns=4)
    replies = ({"town": -1, "farms": 0}, {"town": "much", "farms": 0}, {"town": 3}, {"town": 3, "farms": 2})
    state = await play(env, Script(*replies))
    answers = said(state["completion"])
    assert answers[0] == "Error: town: Input should be greater than or equal to 0"
    assert answers[1].startswith("Error: town: Input should be a valid integer")
    assert answers[2] == "Error: farms: Field required"
    assert state["metrics"]["openenv_action_errors"] == 3.0 and state["reward"] > 0


def detective(prompt):
    """The hour by halves, then guest after guest until one is alone where two others were together."""
    told = "\n".join(said(prompt)[1:])
    low, high = 18, 23
    for hour, state in re.findall(r"passed at (\d+):00 sharp, the [\w ]+ was (gone|still)", told):
        low, high = (max(low, int(hour)), high) if state == "still" else (low, min(high, int(hour) - 1))
    if low < high:
        return "watchman", {"hour": (low + high + 1) // 2}
    heard = re.findall(r"(\w+): At \d+:00 I was in the ([\w ]+)\. (I was alone|With me)", told)
    together = {room for _, room, company in heard if company == "With me"}
    for guest, room, company in heard:
        if company == "I was alone" and room in together:
            return "accuse", {"guest": guest, "hour": low}
    guests = re.search(r"The guests: ([\w, ]+)\.", said(prompt)[0])[1].split(", ")
    return "ask", {"guest": guests[len(heard)], "hour": low}


async def test_the_manors_thief_is_found(example):
    env = example("openenv_manor")
    states = await asyncio.gather(*(play(env, Player(detective), seed) for seed in range(10)))
    assert all(0.85 <= state["reward"] <= 1.0 and state["error"] is None for state in states)
    assert {tool.name for tool in states[0]["tool_defs"]} == {"ask", "watchman", "accuse"}
    ask = next(tool for tool in states[0]["tool_defs"] if tool.name == "ask").parameters["properties"]
    assert "Ada" in ask["guest"]["enum"] and (ask["hour"]["minimum"], ask["hour"]["maximum"]) == (18, 23)


async def test_the_manors_other_endings(example):
    env = example("openenv_manor", max_turns=14)
    gone = await play(env, Script([("ask", {"guest": "Ada", "hour": 18})]))
    assert gone["stop_condition"] == "openenv_done" and gone["reward"] == 0.0 and len(gone["trajectory"]) == 13
    assert "the police take over" in gone["completion"][-1]["content"]
    wrong = await play(env, Script([("accuse", {"guest": "Zoe", "hour": 18})], "I give up."))
    assert wrong["stop_condition"] == "mcp_no_tool_calls" and wrong["reward"] == 0.0
    assert wrong["completion"][1]["content"].startswith("Error: ") and "Ada" in wrong["completion"][1]["content"]
    worth = set()
    for guest in ("Ada", "Bruno", "Clara", "Dmitri", "Elsa", "Farid"):
        for hour in (18, 20, 23):
            state = await play(env, Script([("accuse", {"guest": guest, "hour": hour})]), 5)
            assert state["stop_condition"] == "openenv_done" and len(state["trajectory"]) == 1
            worth.add(round(state["reward"], 3))
    assert worth <= {0.0, 0.2, 0.8, 1.0} and max(worth) >= 0.8
