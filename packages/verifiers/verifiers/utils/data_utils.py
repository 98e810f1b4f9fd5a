"""Taking final answers out of texts, and the prompts that ask for them."""

from __future__ import annotations

from typing import Any

BOXED_SYSTEM_PROMPT = "Work through the problem one step at a time. Write your final answer in \\boxed{}."
THINK_BOXED_SYSTEM_PROMPT = (
    "Work through the problem one step at a time between <think> and </think>. "
    "After that, write your final answer in \\boxed{}."
)


def load_example_dataset(name: str = "gsm8k", split: str | None = None, n: int | None = None, seed: int = 0) -> Any:
    """A well-known dataset as a `datasets.Dataset` with the columns `question` and `answer`, from the Hugging Face hub.

    name: one of `verifiers.utils.example_datasets.SOURCES`. split: its own default where there is none. n: that many
    rows, drawn by `seed`. Needs `verifiers[datasets]` and, the first time, the network. Raises ImportError, ValueError
    and ConnectionError with a sentence.
    """
    from verifiers.utils.example_datasets import load

    return load(name, split, n, seed)


def extract_boxed_answer(text: str, strict: bool = False) -> str:
    r"""The content of the last `\boxed{…}`, braces balanced; without one the text itself, or "" when strict."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return "" if strict else text
    depth, begin = 1, start + len("\\boxed{")
    for position in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[begin:position]
    return "" if strict else text


def extract_hash_answer(text: str) -> str:
    """What follows `####`, up to another one, as grade-school maths writes its answers; the text itself without."""
    return text.split("####")[1].strip() if "####" in text else text
