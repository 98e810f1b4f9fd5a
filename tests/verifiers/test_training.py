"""Rollouts as tokens: what a trainer gets, from a client of its own and from a server that gives token ids."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import verifiers as vf
from verifiers.training import NoTokensError, generate_batch, token_samples
from verifiers.types import Response, ResponseMessage, ResponseTokens
from verifiers.utils.token_utils import step_tokens


class Trainer(vf.Client):
    """Says one number more each turn; a token is a character's code. `forgets`: its template drops what it said before."""

    def __init__(self, forgets: bool = False, gives_tokens: bool = True) -> None:
        super().__init__(None)
        self.forgets, self.gives_tokens = forgets, gives_tokens
        self.asked = 0

    def setup_client(self, client_or_config: Any) -> None:
        return None

    async def to_native_tool(self, tool: Any) -> Any:
        return tool

    async def to_native_prompt(self, messages: Any) -> tuple[list[int], dict[str, Any]]:
        kept = [m for m in messages if not (self.forgets and m["role"] == "assistant")]
        return [ord(letter) for message in kept for letter in message["content"]], {}

    async def get_native_response(self, prompt: list[int], *_: Any, state: Any = None, **__: Any) -> Any:
        self.asked += 1
        return prompt, str(state["rollout_index"] + len(state["trajectory"]))

    async def raise_from_native_response(self, response: Any) -> None:
        return None

    async def from_native_response(self, response: Any) -> Response:
        prompt, said = response
        ids = [ord(letter) for letter in said]
        tokens = ResponseTokens(prompt, [0] * len(prompt), ids, [1] * len(ids), [-0.5] * len(ids))
        message = ResponseMessage(
            said, finish_reason="stop", is_truncated=False, tokens=tokens if self.gives_tokens else None
        )
        return Response(message=message, id="", created=0, model="trainer")

    async def close(self) -> None:
        return None


class Counting(vf.MultiTurnEnv):
    async def env_response(self, messages: Any, state: Any, **_: Any) -> Any:
        return [{"role": "user", "content": "?"}]


def score(completion: Any) -> float:
    return float(completion[-1]["content"])


def environment(**options: Any) -> Counting:
    rows = [{"question": "a"}, {"question": "bc"}]
    return Counting(dataset=rows, rubric=vf.Rubric(funcs=[score]), **{"max_turns": 2, **options})


def codes(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def test_a_batch_has_masks_logprobs_and_advantages_within_each_row() -> None:
    async def run() -> Any:
        async with environment() as env:
            return await generate_batch(env, env.get_dataset(), Trainer(), "m", rollouts_per_example=2)

    batch = asyncio.run(run())
    assert [(s.example_id, s.rollout_index) for s in batch.samples] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    second = batch.samples[3]
    assert second.steps == (0, 1)
    assert second.prompt_ids == codes("bc") and second.prompt_mask == [0, 0]
    assert second.completion_ids == codes("1?2")
    assert second.completion_mask == [1, 0, 1]
    assert second.completion_logprobs == [-0.5, 0.0, -0.5]
    assert [s.reward for s in batch.samples] == [1.0, 2.0, 1.0, 2.0]
    assert [s.advantage for s in batch.samples] == [-0.5, 0.5, -0.5, 0.5]
    assert batch.unscored == 0 and batch.metadata["avg_reward"] == 1.5


def test_turns_that_do_not_continue_each_other_are_samples_of_their_own() -> None:
    async def run(client: Trainer, by_turn: bool) -> Any:
        async with environment() as env:
            return await generate_batch(env, env.get_dataset(1), client, "m", by_turn=by_turn)

    forgetful = asyncio.run(run(Trainer(forgets=True), False)).samples
    assert [sample.steps for sample in forgetful] == [(0,), (1,)]
    assert forgetful[1].prompt_ids == codes("a?")
    by_turn = asyncio.run(run(Trainer(), True)).samples
    assert [(s.steps, s.prompt_ids, s.completion_ids) for s in by_turn] == [
        ((0,), codes("a"), codes("0")),
        ((1,), codes("a0?"), codes("1")),
    ]


def test_an_environment_serves_batch_after_batch_and_many_at_once() -> None:
    client = Trainer()

    async def run() -> list[Any]:
        async with environment() as env:
            first = await generate_batch(env, env.get_dataset(), client, "m")
            both = await asyncio.gather(*(generate_batch(env, env.get_dataset(), client, "m") for _ in range(2)))
            return [first, *both]

    batches = asyncio.run(run())
    assert [len(batch.samples) for batch in batches] == [2, 2, 2]
    assert client.asked == 12


def test_without_tokens_there_is_a_sentence() -> None:
    async def run() -> Any:
        async with environment() as env:
            return await generate_batch(env, env.get_dataset(), Trainer(gives_tokens=False), "m")

    with pytest.raises(NoTokensError, match="Turn 0 of example 0 has no tokens"):
        asyncio.run(run())


def test_a_rollout_that_failed_has_no_samples_and_disturbs_none() -> None:
    class Broken(Counting):
        async def env_response(self, messages: Any, state: Any, **_: Any) -> Any:
            if state["example_id"] == 0:
                raise vf.InfraError("the machine is gone")
            return await super().env_response(messages, state)

    async def run() -> Any:
        env = Broken(dataset=[{"question": "a"}, {"question": "b"}], rubric=vf.Rubric(funcs=[score]), max_turns=2)
        async with env:
            return await generate_batch(env, env.get_dataset(), Trainer(), "m")

    batch = asyncio.run(run())
    assert [sample.example_id for sample in batch.samples] == [1]
    assert batch.unscored == 1
    assert batch.outputs[0]["error"]["error"] == "InfraError"


def test_steps_are_cut_to_max_seq_len() -> None:
    tokens = ResponseTokens([1, 2, 3], [0] * 3, [4, 5], [1, 1], [-1.0, -2.0])
    whole = step_tokens(tokens, 5)
    assert (whole["completion_ids"], whole["is_truncated"], whole["overlong_prompt"]) == ([4, 5], False, False)
    cut = step_tokens(tokens, 4)
    assert (cut["prompt_ids"], cut["completion_ids"], cut["completion_logprobs"]) == ([1, 2, 3], [4], [-1.0])
    assert (cut["is_truncated"], cut["overlong_prompt"]) == (True, False)
    gone = step_tokens(tokens, 2)
    assert (gone["prompt_ids"], gone["prompt_mask"], gone["completion_ids"]) == ([1, 2], [0, 0], [])
    assert (gone["is_truncated"], gone["overlong_prompt"]) == (True, True)


def test_a_rollout_says_that_its_tokens_were_cut() -> None:
    env = environment(max_seq_len=2)
    outputs = env.generate_sync(env.get_dataset(1), Trainer(), "m", state_columns=["token_steps", "trajectory"])[
        "outputs"
    ]
    assert outputs[0]["is_truncated"]
    assert [step["is_truncated"] for step in outputs[0]["token_steps"]] == [False, True]
    assert outputs[0]["trajectory"][1]["tokens"]["prompt_ids"] == codes("a0")
    assert [sample.is_truncated for sample in token_samples(outputs[0])] == [True]


def test_what_a_client_says_beside_its_message_is_no_part_of_the_conversation() -> None:
    env = environment()
    state = asyncio.run(env.rollout(env.get_dataset()[0], Trainer(), "m"))
    response = state["trajectory"][0]["response"]
    assert (response.finish_reason, response.message.finish_reason) == ("stop", "stop")
    assert response.message.tokens is response.tokens
    assert dict(response.message) == {"role": "assistant", "content": "0"}


async def test_rows_without_numbers_are_groups_all_the_same() -> None:
    env = Counting(dataset=[{"question": "5"}], rubric=vf.Rubric(funcs=[score]), max_turns=1)
    rows = [{"prompt": "5"}, {"prompt": "6"}]
    batch = await generate_batch(env, rows, Trainer(), "m", rollouts_per_example=2)
    assert [(one.example_id, one.rollout_index, one.advantage) for one in batch.samples] == [
        (0, 0, -0.5),
        (0, 1, 0.5),
        (1, 0, -0.5),
        (1, 1, 0.5),
    ]
