"""Short maths questions; the answer stands in a box, and being brief is worth a little."""

import verifiers as vf
from verifiers.utils.data_utils import extract_boxed_answer

ROWS = [
    {"question": "What is 3/4 - 1/4?", "answer": "1/2"},
    {"question": "Expand (x+1)^2.", "answer": "x^2+2x+1"},
    {"question": "Solve 2x = 8 for x.", "answer": "4"},
    {"question": "Which numbers solve x^2 = 1?", "answer": "\\{-1,1\\}"},
    {"question": "How many grams are a kilogram?", "answer": "1,000"},
    {"question": "What is 10 to the power of 2?", "answer": "100"},
]
SYSTEM_PROMPT = "Answer in \\boxed{}."


def brief(completion):
    return 1.0 if len(completion[-1]["content"]) < 40 else 0.0


def brief_as_object(completion):
    return 1.0 if len(completion[-1].content) < 40 else 0.0


def boxed(parser, completion, state):
    assert state["prompt"][0]["role"] == "system" and state["prompt"][-1]["role"] == "user"
    return float(extract_boxed_answer(completion[-1]["content"], strict=True) != "")


def boxed_as_object(parser, completion, state):
    assert state["prompt"][0].role == "system" and state["prompt"][-1].role == "user"
    return float(parser.parse_answer(completion) != "")


def load_environment(style="dict"):
    funcs = [brief, boxed] if style == "dict" else [brief_as_object, boxed_as_object]
    rubric = vf.MathRubric(funcs=funcs, weights=[0.1, 0.05], timeout_seconds=10)
    return vf.SingleTurnEnv(dataset=_dataset(), system_prompt=SYSTEM_PROMPT, parser=rubric.parser, rubric=rubric)


def _dataset():
    from datasets import Dataset

    return Dataset.from_list(ROWS)
