"""Train a tiny model, made on the spot, with TRL's GRPOTrainer on an environment: two turns, by the tokens, on a CPU.

    pip install 'trl==1.16.*' 'transformers==5.24.*' torch verifiers
    python grpo_with_trl.py

The environment asks for a letter, and for another one when the model has answered; the reward is the share of right letters.
A model of random weights gets about one letter in eight right. What a real training changes: the model, its tokenizer and the
environment (`vf.load_environment("my-env")`), and the client, which asks vLLM or SGLang there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

import verifiers as vf
from verifiers.training import generate_batch
from verifiers.types import Response, ResponseMessage, ResponseTokens

LETTERS = "abcdefgh"
TURNS = 2


class Letters(vf.MultiTurnEnv):
    """Asks for one letter after the other."""

    async def env_response(self, messages: vf.Messages, state: vf.State, **_: Any) -> list[dict[str, str]]:
        return [{"role": "user", "content": state["answer"][len(state["trajectory"])]}]


def share_of_right_letters(completion: vf.Messages, answer: str) -> float:
    """From 0.0 to 1.0."""
    said = [message["content"].strip() for message in completion if message["role"] == "assistant"]
    return sum(one == wanted for one, wanted in zip(said, answer, strict=False)) / len(answer)


def load_environment(seed: int = 0) -> vf.Environment:
    """A row for every letter that may come first."""
    chance = random.Random(seed)
    wanted = [first + "".join(chance.choices(LETTERS, k=TURNS - 1)) for first in LETTERS]
    dataset = [{"question": letters[0], "answer": letters} for letters in wanted]
    return Letters(dataset=dataset, max_turns=TURNS, rubric=vf.Rubric(funcs=[share_of_right_letters]))


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A token a letter; what a turn is made of, too."""
    special = ["<pad>", "<end>", "<user>", "<assistant>"]
    vocabulary = {token: number for number, token in enumerate([*special, *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    fast.add_special_tokens({"additional_special_tokens": special[2:]})
    fast.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<end>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    return fast


def tiny_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Some 100,000 random weights."""
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **size, **ends))


class InProcess(vf.Client):
    """The model that is being trained answers, with its tokens and their log-probabilities."""

    def __init__(self, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(None)
        self.model, self.tokenizer = model, tokenizer

    def setup_client(self, client_or_config: Any) -> None:
        return None

    async def to_native_tool(self, tool: vf.Tool) -> Any:
        return tool.to_openai()

    async def to_native_prompt(self, messages: vf.Messages) -> tuple[vf.Messages, dict[str, Any]]:
        return messages, {}

    def _ids(self, messages: vf.Messages) -> list[int]:
        plain = [message.model_dump() for message in messages]
        text = self.tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=False)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    async def get_native_response(
        self, messages: vf.Messages, *_: Any, state: vf.State, **__: Any
    ) -> tuple[list[int], list[int], list[float]]:
        prompt: list[int] = []
        if state["trajectory"]:
            # What was said goes on as the tokens that it was, not as its text, which other tokens may spell as well.
            last = state["trajectory"][-1]
            prompt = last["tokens"]["prompt_ids"] + last["tokens"]["completion_ids"]
            if prompt[-1] != self.tokenizer.eos_token_id:
                prompt.append(self.tokenizer.eos_token_id)
            messages = messages[len(last["prompt"]) + 1 :]
        prompt = prompt + self._ids(messages)
        with torch.no_grad():
            shown = torch.tensor([prompt])
            made = self.model.generate(
                input_ids=shown,
                attention_mask=torch.ones_like(shown),
                max_new_tokens=2,
                do_sample=True,
                top_k=0,
                output_logits=True,
                return_dict_in_generate=True,
            )
        said = made.sequences[0, len(prompt) :].tolist()
        chances = [
            torch.log_softmax(logits[0], -1)[token].item() for logits, token in zip(made.logits, said, strict=True)
        ]
        return prompt, said, chances

    async def raise_from_native_response(self, response: Any) -> None:
        return None

    async def from_native_response(self, response: Any) -> Response:
        prompt, said, chances = response
        tokens = ResponseTokens(prompt, [0] * len(prompt), said, [1] * len(said), chances)
        ended = said[-1] == self.tokenizer.eos_token_id
        text = self.tokenizer.decode(said, skip_special_tokens=True)
        message = ResponseMessage(
            content=text, finish_reason="stop" if ended else "length", is_truncated=not ended, tokens=tokens
        )
        return Response(message=message, id="", created=0, model="tiny")

    async def close(self) -> None:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--output", default="grpo-tiny")
    told = parser.parse_args()
    env = load_environment()
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer)
    client = InProcess(model, tokenizer)
    rows = {json.dumps(row["prompt"]): row for row in env.get_dataset()}

    def rollouts(prompts: list[Any], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        # TRL hands over every prompt as often as it wants it played, the same ones one after the other.
        wanted = [rows[json.dumps(prompt)] for prompt in prompts]
        batch = asyncio.run(generate_batch(env, wanted, client, "tiny"))
        samples = batch.samples
        assert len(samples) == len(prompts), "every rollout is scored and is one sequence"
        return {
            "prompt_ids": [sample.prompt_ids for sample in samples],
            "completion_ids": [sample.completion_ids for sample in samples],
            "logprobs": [sample.completion_logprobs for sample in samples],
            "env_mask": [sample.completion_mask for sample in samples],  # what the environment said is not trained on
            "scored": [sample.reward for sample in samples],
        }

    def reward(scored: list[float], **_: Any) -> list[float]:
        return scored

    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([{"prompt": row["prompt"]} for row in env.get_dataset()]),
        reward_funcs=[reward],
        rollout_func=rollouts,
        args=GRPOConfig(
            output_dir=told.output,
            max_steps=told.steps,
            per_device_train_batch_size=64,
            num_generations=8,
            max_completion_length=16,
            learning_rate=3e-3,
            lr_scheduler_type="constant",
            logging_steps=10,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
        ),
    )
    trainer.train()
    history = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    print(f"reward: {history[0]:.3f} at first, {history[-1]:.3f} at the end of {told.steps} steps")


if __name__ == "__main__":
    main()
