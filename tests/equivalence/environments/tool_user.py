"""Sums and a small dictionary, for which there are tools; some calls go wrong."""

import json

import verifiers as vf

ROWS = [
    {"question": "add 2 and 3", "answer": "5", "info": {"words": 0}},
    {"question": "add 10 and 20", "answer": "30", "info": {"words": 0}},
    {"question": "look up cat", "answer": "Katze", "info": {"words": 1}},
    {"question": "look up unicorn", "answer": "nothing", "info": {"words": 1}},
]


def add(a: int, b: int) -> int:
    """Add two whole numbers.

    Args:
        a: the first
        b: the second
    """
    return a + b


async def look_up(word: str) -> str:
    """The German word for an English one."""
    return {"cat": "Katze", "dog": "Hund"}[word]


def last_word(completion, answer):
    return float(completion[-1]["role"] == "assistant" and answer in str(completion[-1]["content"]))


def last_word_as_object(completion, answer):
    return float(completion[-1].role == "assistant" and answer in str(completion[-1].content))


def sums_right(completion):
    told = [message["content"] for message in completion if message["role"] == "tool"]
    return float(sum(content in ("5", "30") for content in told))


def sums_right_as_object(completion):
    asked = [call for message in completion if message.role == "assistant" for call in message.tool_calls or []]
    told = {message.tool_call_id: message.content for message in completion if message.role == "tool"}
    return float(sum(call.name == "add" and told.get(call.id) in ("5", "30") for call in asked))


def errors(completion, info):
    told = [message["content"] for message in completion if message["role"] == "tool"]
    return -float(sum("Error" in content for content in told)) - info["words"]


def load_environment(style="dict"):
    as_dict = style == "dict"
    rubric = vf.Rubric(
        funcs=[last_word, sums_right, errors] if as_dict else [last_word_as_object, sums_right_as_object, errors],
        weights=[1.0, 0.25, 0.125],
    )
    return vf.ToolEnv(
        tools=[add, look_up],
        max_turns=4,
        dataset=_dataset(),
        rubric=rubric,
        error_formatter=lambda error: f"Error: {type(error).__name__}",
    )


def _dataset():
    from datasets import Dataset

    return Dataset.from_list(json.loads(json.dumps(ROWS)))
