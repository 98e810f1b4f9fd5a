"""Well-known datasets as rows of `question` and `answer`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from verifiers.utils.data_utils import extract_boxed_answer, extract_hash_answer

Row = Mapping[str, Any]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a dataset lies and what its rows become.

    path, configs: as `datasets.load_dataset` takes them; several configurations follow one another. split: the default.
    convert: a row and its number to `question` and `answer`. keep: the rows to take.
    """

    path: str
    split: str
    convert: Callable[[Row, int], dict[str, str]]
    configs: tuple[str | None, ...] = (None,)
    keep: Callable[[Row], bool] | None = None


def _plain(question: str, answer: str = "answer") -> Callable[[Row, int], dict[str, str]]:
    def convert(row: Row, _: int) -> dict[str, str]:
        known = row[answer]
        return {"question": str(row[question]), "answer": json.dumps(known) if isinstance(known, dict) else str(known)}

    return convert


def _whole_number(row: Row, _: int) -> dict[str, str]:
    return {"question": row["problem"], "answer": str(int(row["answer"]))}


def _hash(row: Row, _: int) -> dict[str, str]:
    return {"question": row["question"], "answer": extract_hash_answer(row["answer"])}


def _boxed(row: Row, _: int) -> dict[str, str]:
    return {"question": row["problem"], "answer": extract_boxed_answer(row["solution"])}


def _choices(question: str, choices: Sequence[str]) -> str:
    lines = [f"{letter}: {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return f"Question: {question}\n\n" + "\n".join(lines)


def _gpqa(row: Row, number: int) -> dict[str, str]:
    # The right one is the first in the data; its letter is drawn from the row's number, the same every time.
    choices = [row["Correct Answer"], *(row[f"Incorrect Answer {wrong}"] for wrong in (1, 2, 3))]
    order = [0, 1, 2, 3]
    random.Random(number).shuffle(order)
    question = _choices(row["Question"], [choices[place] for place in order])
    return {"question": question, "answer": LETTERS[order.index(0)]}


def _mmlu(row: Row, _: int) -> dict[str, str]:
    return {"question": _choices(row["question"], row["choices"]), "answer": LETTERS[row["answer"]]}


def _mmlu_pro(row: Row, _: int) -> dict[str, str]:
    return {"question": _choices(row["question"], row["options"]), "answer": row["answer"]}


def _openbookqa(row: Row, _: int) -> dict[str, str]:
    pairs = zip(row["choices"]["label"], row["choices"]["text"], strict=True)
    lines = "\n".join(f"{label}. {text}" for label, text in pairs)
    return {"question": f"Question: {row['question_stem']}\n\nChoices:\n{lines}", "answer": row["answerKey"]}


SOURCES: dict[str, Source] = {
    "aime2024": Source("HuggingFaceH4/aime_2024", "train", _whole_number),
    "aime2025": Source("opencompass/AIME2025", "test", _plain("question"), ("AIME2025-I", "AIME2025-II")),
    "amc2023": Source("knoveleng/AMC-23", "train", _plain("problem")),
    "gpqa_diamond": Source("Idavidrein/gpqa", "train", _gpqa, ("gpqa_diamond",)),
    "gpqa_main": Source("Idavidrein/gpqa", "train", _gpqa, ("gpqa_main",)),
    "gsm8k": Source("openai/gsm8k", "test", _hash, ("main",)),
    "math": Source("chiayewken/competition_math", "train", _boxed),
    "math500": Source("HuggingFaceH4/MATH-500", "test", _plain("problem")),
    "mmlu": Source("cais/mmlu", "dev", _mmlu, ("all",)),
    "mmlu_pro": Source("TIGER-Lab/MMLU-Pro", "validation", _mmlu_pro),
    "openbookqa": Source("allenai/openbookqa", "train", _openbookqa, ("main",)),
    "openrs": Source("knoveleng/open-rs", "train", _plain("problem")),
    "openrs_easy": Source("knoveleng/open-rs", "train", _plain("problem"), keep=lambda row: row["level"] == "Easy"),
    "openrs_hard": Source("knoveleng/open-rs", "train", _plain("problem"), keep=lambda row: row["level"] == "Hard"),
    "prime_code": Source("PrimeIntellect/verifiable-coding-problems", "train", _plain("prompt", "verification_info")),
}


def load(name: str, split: str | None, n: int | None, seed: int) -> Any:
    """See `verifiers.utils.data_utils.load_example_dataset`."""
    if name not in SOURCES:
        near = get_close_matches(name, SOURCES, 1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"There is no example dataset {name!r}.{meant} There are {', '.join(SOURCES)}.")
    try:
        import datasets  # ty: ignore[import-not-found]
    except ImportError as error:
        raise ImportError(
            f"load_example_dataset({name!r}) needs the package datasets: pip install 'verifiers[datasets]'"
        ) from error
    source = SOURCES[name]
    parts = [_fetched(source, config, split or source.split) for config in source.configs]
    rows = datasets.concatenate_datasets(parts)
    if source.keep is not None:
        rows = rows.filter(source.keep)
    return chosen(converted(rows, source), n, seed)


def converted(rows: Any, source: Source) -> Any:
    """`rows` with the columns `question` and `answer` alone."""
    from datasets import Features, Value  # ty: ignore[import-not-found]

    text = Features({"question": Value("string"), "answer": Value("string")})  # else a number would be one again
    return rows.map(source.convert, with_indices=True, remove_columns=rows.column_names, features=text)


def chosen(rows: Any, n: int | None, seed: int) -> Any:
    """`n` rows drawn by `seed`; all, in their order, without a number."""
    if n is None or n < 0:
        return rows
    return rows.shuffle(seed=seed).select(range(min(n, len(rows))))


def _fetched(source: Source, config: str | None, split: str) -> Any:
    import datasets  # ty: ignore[import-not-found]

    try:
        return datasets.load_dataset(source.path, config, split=split)
    except Exception as error:
        if isinstance(error, ValueError) and "split" in str(error).lower():
            raise ValueError(f"{source.path} has no split {split!r}: {error}") from error
        raise ConnectionError(
            f"The dataset {source.path} could not be had from the Hugging Face hub ({type(error).__name__}: {error}). "
            "Is the network there? For one that asks for consent, log in with a token that has it: export HF_TOKEN=..."
        ) from error
