"""TextArena's games and reasoning-gym's datasets, with the libraries themselves."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator

import pytest

import verifiers as vf
from tests.support.libraries import folder_of
from tests.support.scripted import Scripted, said
from verifiers.envs.integrations.textarena_env import nothing_fetched

# Of the libraries' own code.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::SyntaxWarning", "ignore::ResourceWarning"
)


@pytest.fixture(scope="module", autouse=True)
def libraries() -> Iterator[None]:
    """Both can be imported."""
    folder = str(folder_of("textarena>=0.7,<0.8", "reasoning-gym>=0.1.20,<0.2"))
    sys.path.append(folder)
    yield
    sys.path.remove(folder)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """What would reach the outside fails at once, and NLTK has no data."""
    import nltk

    def refused(*_, **__):
        raise AssertionError("something is downloaded")

    monkeypatch.setattr(nltk, "download", refused)
    monkeypatch.setattr(nltk.data, "path", [])


async def run(env, *turns, **options):
    return (await env.evaluate(Scripted(*turns), "scripted", **options))["outputs"]


def halved(prompt):
    """A number between those that the game has excluded."""
    low, high, last = 1, 20, None
    for message in prompt:
        if message["role"] == "assistant":
            last = int(message["content"].removeprefix("<guess>[").removesuffix("]</guess>"))
        elif last and "higher" in (now := message["content"].rpartition("[GAME]")[2]):
            low = last + 1
        elif last and "lower" in now:
            high = last - 1
    return f"<guess>[{(low + high) // 2}]</guess>"


async def test_a_game_is_played_to_its_last_word():
    env = vf.TextArenaEnv("GuessTheNumber-v0", num_train_examples=3, num_eval_examples=3, system_prompt="Guess.")
    assert [row["info"]["seed"] for row in env.get_eval_dataset()] == [3, 4, 5]
    outputs = await run(env, *[halved] * 12)
    for output in outputs:
        assert output["error"] is None
        assert [message["role"] for message in output["prompt"]] == ["system", "user"]
        assert "You are playing Guess The Number." in output["prompt"][1]["content"]
        assert output["reward"] == output["textarena_reward"] == 1.0 and 1 <= int(output["answer"]) <= 20
        assert output["stop_condition"] == "has_final_env_response" and output["completion"][-1]["role"] == "user"
        assert (
            f"[{output['answer']}]" in output["completion"][-2]["content"]
            and "Congratulations" in said(output, "user")[-1]
        )
    assert len({output["answer"] for output in outputs}) > 1


async def test_wordle_without_nltk_takes_its_secrets_from_the_dictionaries(caplog):
    def won(completion, answer) -> float:
        return float(f"[{answer}]" in completion[-2]["content"])

    def guess(prompt):
        return f"<think>…</think><guess>[{secrets[prompt[0]['content'], asked(prompt)]}]</guess>"

    def asked(prompt):
        return sum(message["role"] == "assistant" for message in prompt)

    env = vf.TextArenaEnv(
        num_train_examples=2,
        rubric=vf.Rubric(funcs=[won]),
        feedback_fn=lambda text: text.rpartition("[GAME]")[2].strip(),
    )
    states = [await env.rollout(row, Scripted("nothing", "nothing"), "scripted") for row in env.get_dataset()]
    words = [state["answer"] for state in states]
    assert len(set(words)) == 2 and all(len(word) == 5 and word.isalpha() for word in words)
    assert all("wrong format" in str(said(state, "user")) for state in states) and states[0]["ta_reward"] == 0.0
    assert (
        "NLTK's word lists are not on this machine" in caplog.text and "python -m nltk.downloader words" in caplog.text
    )

    secrets = {}
    for state, word in zip(states, words, strict=True):
        secrets[state["prompt"][0]["content"], 0], secrets[state["prompt"][0]["content"], 1] = "about", word
    outputs = []
    for row, word in zip(env.get_dataset(), words, strict=True):
        secrets = dict.fromkeys(secrets, "about") | {(states[0]["prompt"][0]["content"], 1): word}
        outputs += (await env.generate([row], Scripted(guess, guess), "scripted"))["outputs"]
    assert [output["answer"] for output in outputs] == words, "the same seeds, the same secrets"
    assert [output["reward"] for output in outputs] == [1.0, 1.0] and outputs[0]["textarena_reward"] == 1.0
    assert said(outputs[0], "user")[0].startswith("You submitted [about].\nFeedback:\nA B O U T")


@pytest.mark.parametrize("game", ["2048-v0", "Blackjack-v0", "SpellingBee-v0"])
async def test_seeds_repeat_whatever_runs_beside_them(game, monkeypatch):
    """Games that draw while they are played, and one that draws from NumPy."""
    moves = {"2048-v0": ["[up]", "[left]", "[down]", "[right]"] * 3, "Blackjack-v0": ["[Hit]"] * 12}.get(game, ["[a]"])
    turns = [f"<guess>{move}</guess>" for move in moves]

    async def played(seeds, seed_of_others):
        random.seed(seed_of_others)
        try:
            env = vf.TextArenaEnv(game, num_train_examples=1)
            rows = [{"prompt": [], "info": {"seed": seed}} for seed in seeds]
            before = random.getstate()
            outputs = (await env.generate(rows, Scripted(*turns), "scripted"))["outputs"]
            assert random.getstate() == before, "others' random numbers are left alone"
        except (LookupError, RuntimeError) as error:
            pytest.fail(str(error))
        return {
            output["info"]["seed"]: [output["prompt"], output["completion"], output["reward"]] for output in outputs
        }

    together, alone = await played([1, 2, 3, 4], 0), await played([3], 99)
    assert together[3] == alone[3], game
    if game != "SpellingBee-v0":
        assert together[1][0] != together[2][0] or together[1][1] != together[2][1]


async def test_what_cannot_be_played_is_a_sentence():
    with pytest.raises(ValueError, match=r"TextArena has no game 'Wordl-v0'\. Games are named like "):
        vf.TextArenaEnv("Wordl-v0")
    with pytest.raises(ValueError, match="num_train_examples or num_eval_examples above 0"):
        vf.TextArenaEnv(num_train_examples=0)
    [output] = await run(vf.TextArenaEnv("TicTacToe-v0", num_train_examples=1), "x")
    assert output["reward"] is None and "games for one player, which TicTacToe-v0 is not" in output["error"]["message"]
    [output] = await run(vf.TextArenaEnv("Hangman-v0", num_train_examples=1), "x")
    assert "Hangman-v0 needs word lists of NLTK" in output["error"]["message"] and output["reward"] is None
    with nothing_fetched():
        import nltk

        assert nltk.download("words") is False


async def test_reasoning_gym_asks_and_scores():
    def solved(prompt):
        return f"<answer>{key[prompt[-1]['content']]}</answer>"

    env = vf.ReasoningGymEnv("basic_arithmetic", num_train_examples=5, num_eval_examples=3, seed=7)
    key = {env.rg_dataset[number]["question"]: env.rg_dataset[number]["answer"] for number in range(8)}
    assert [row["answer"] for row in env.get_dataset()] == ["0", "1", "2", "3", "4"]
    outputs = await run(env, solved)
    assert [output["answer"] for output in outputs] == ["5", "6", "7"]
    assert [output["reward"] for output in outputs] == [1.0] * 3 and outputs[0]["check_answer"] == 1.0
    assert outputs[0]["info"]["source_dataset"] == "basic_arithmetic" and outputs[0]["prompt"][0]["role"] == "system"
    assert "<answer>answer here</answer>" in outputs[0]["prompt"][0]["content"]
    wrong = await run(env, "<answer>no</answer>")
    assert all(output["reward"] < 0.5 for output in wrong) and wrong[0]["format_reward_func"] == 1.0
    assert all(output["reward"] == 0.0 for output in await run(env, "no tags"))
    again = vf.ReasoningGymEnv("basic_arithmetic", num_train_examples=5, num_eval_examples=3, seed=7)
    assert again.get_dataset().to_list() == env.get_dataset().to_list()
    other = vf.ReasoningGymEnv("basic_arithmetic", num_train_examples=5, num_eval_examples=3, seed=8)
    assert other.get_dataset()["question"] != env.get_dataset()["question"]


async def test_reasoning_gym_mixes_datasets():
    mixed = [{"name": "leg_counting", "weight": 3, "config": {"max_animals": 4}}, "basic_arithmetic"]
    env = vf.ReasoningGymEnv(mixed, num_train_examples=40, num_eval_examples=0, system_prompt="Answer.")
    sources = [row["info"]["source_dataset"] for row in env.get_dataset()]
    assert sources.count("leg_counting") > sources.count("basic_arithmetic") > 0
    row = next(row for row in env.get_dataset() if row["info"]["source_dataset"] == "leg_counting")
    answer = env.rg_dataset[int(row["answer"])]["answer"]
    [output] = (await env.generate([row], Scripted(f"<answer>{answer}</answer>"), "scripted"))["outputs"]
    assert output["reward"] == 1.0 and output["prompt"][0]["content"] == "Answer."
    with pytest.raises(ValueError, match=r"reasoning-gym has no dataset 'sums'; it has: "):
        vf.ReasoningGymEnv("sums")
    with pytest.raises(ValueError, match="needs the name of one dataset at least"):
        vf.ReasoningGymEnv([])


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        (
            "vf.TextArenaEnv()",
            "TextArenaEnv requires textarena. Install with: uv add 'textarena>=0.7,<0.8' (the extra verifiers[textarena])",
        ),
        (
            "vf.ReasoningGymEnv('x')",
            "ReasoningGymEnv requires reasoning_gym. Install with: uv add 'reasoning-gym>=0.1.20,<0.2' "
            "(the extra verifiers[reasoning-gym])",
        ),
    ],
)
def test_without_the_library_a_sentence_says_what_to_install(use, sentence):
    done = subprocess.run([sys.executable, "-c", f"import verifiers as vf\n{use}"], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == f"ImportError: {sentence}"
