"""For trainers: rollouts as tokens, with the masks, log-probabilities, rewards and advantages that a loss is made of.

    batch = await generate_batch(env, rows, client, model, sampling_args, rollouts_per_example=8)
    for sample in batch.samples:
        sample.prompt_ids, sample.completion_ids, sample.completion_logprobs, sample.advantage

Tokens are there where the endpoint gives them: with the client type `openai_chat_completions_token`, which asks for them
(vLLM and SGLang answer), or from a `vf.Client` of the trainer's own whose `Response` has `tokens`. [training.md] shows a
whole loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from verifiers.errors import Error
from verifiers.types import RolloutOutput

if TYPE_CHECKING:
    from verifiers.envs.environment import Environment

COLUMN = "token_steps"


class NoTokensError(Error, ValueError):
    """A rollout of which the endpoint gave no tokens."""


@dataclass(slots=True)
class TokenSample:
    """One sequence to train on.

    The lists of a side are of one length. A mask has 1 for tokens that the model said in this sequence, 0 for what it was
    shown; a log-probability is that of the endpoint when it said the token, 0.0 where the mask is 0. `steps` are the
    numbers of the turns within. reward and advantage: None where the rollout was not scored.
    """

    example_id: int
    rollout_index: int
    steps: tuple[int, ...]
    prompt_ids: list[int]
    prompt_mask: list[int]
    completion_ids: list[int]
    completion_mask: list[int]
    completion_logprobs: list[float]
    reward: float | None
    advantage: float | None
    is_truncated: bool = False


@dataclass(slots=True)
class Batch:
    """What a step of training gets: the samples, and the rollouts' rows that they are of, in the order of the rows.

    `unscored` counts rollouts that say nothing about the model (a machine failed); they have no samples.
    """

    samples: list[TokenSample]
    outputs: list[RolloutOutput]
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def unscored(self) -> int:
        return sum(output["reward"] is None for output in self.outputs)


async def generate_batch(
    env: Environment,
    rows: Iterable[Mapping[str, Any]],
    client: Any,
    model: str,
    sampling_args: Mapping[str, Any] | None = None,
    *,
    rollouts_per_example: int = 1,
    by_turn: bool = False,
    **options: Any,
) -> Batch:
    """Roll out rows with the trainer's own client, score them in groups, and give the scored ones as tokens.

    rows: of the dataset (`env.get_dataset(n, seed)`), each played `rollouts_per_example` times; the advantage is the reward
    minus the mean of its row's rollouts. by_turn: see `token_samples`. options: those of `Environment.generate`. The
    environment stays open for the next batch. Raises NoTokensError when a scored rollout has no tokens, ModelAuthError.
    """
    numbered = [{"example_id": position, **row} for position, row in enumerate(rows)]
    repeated = [dict(row) for row in numbered for _ in range(rollouts_per_example)]
    columns = [*(options.pop("state_columns", None) or ()), COLUMN]
    results = await env.generate(repeated, client, model, sampling_args, state_columns=columns, **options)
    outputs = results["outputs"]
    samples = [
        sample for output in outputs if output["reward"] is not None for sample in token_samples(output, by_turn)
    ]
    return Batch(samples, outputs, results["metadata"])


def token_samples(output: RolloutOutput, by_turn: bool = False) -> list[TokenSample]:
    """The samples of one rollout, whose row has the state column `token_steps`.

    Turns whose prompt begins with all that was shown and said before become one sequence, in which what the environment
    said in between is masked; a turn that breaks with that (a chat template that drops earlier thoughts, say) begins
    another. by_turn: a sample for every turn instead. Raises NoTokensError.
    """
    samples: list[TokenSample] = []
    for number, step in enumerate(output.get(COLUMN) or ()):
        tokens = step["tokens"]
        if tokens is None:
            raise NoTokensError(
                f"Turn {number} of example {output['example_id']} has no tokens: the endpoint gave none. Use a server that "
                "gives token ids and log-probabilities, with client_type openai_chat_completions_token."
            )
        last = samples[-1] if samples and not by_turn else None
        before = [*last.prompt_ids, *last.completion_ids] if last is not None else []
        shown = tokens["prompt_ids"]
        if (
            last is not None
            and last.reward == step["reward"]
            and last.advantage == step["advantage"]
            and shown[: len(before)] == before
        ):
            between = shown[len(before) :]
            last.steps = (*last.steps, number)
            last.completion_ids += between + tokens["completion_ids"]
            last.completion_mask += [0] * len(between) + tokens["completion_mask"]
            last.completion_logprobs += [0.0] * len(between) + tokens["completion_logprobs"]
            last.is_truncated = last.is_truncated or step["is_truncated"]
            continue
        sides = {name: list(tokens[name]) for name in SIDES}
        rewards = {"reward": step["reward"], "advantage": step["advantage"]}
        place = {"example_id": output["example_id"], "rollout_index": output["rollout_index"], "steps": (number,)}
        samples.append(TokenSample(**place, **sides, **rewards, is_truncated=step["is_truncated"]))
    return samples


SIDES = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "completion_logprobs")


def token_steps(trajectory: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The turns of a trajectory without their words: tokens, reward, advantage, is_truncated."""
    return [{name: step[name] for name in ("tokens", "reward", "advantage", "is_truncated")} for step in trajectory]
