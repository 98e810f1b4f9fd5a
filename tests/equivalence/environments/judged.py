"""Open questions; another model says whether the answer is right, and how many words it took is a metric."""

import os

from openai import AsyncOpenAI

import verifiers as vf
from verifiers.rubrics.judge_rubric import JudgeRubric

ROWS = [
    {"question": "Which planet is the largest?", "answer": "Jupiter"},
    {"question": "Who wrote Faust?", "answer": "Goethe"},
    {"question": "What is the capital of France?", "answer": "Paris"},
]
JUDGE_PROMPT = """Is this response right?
<question>{question}</question>
<known>{answer}</known>
<response>{response}</response>
Say yes or no."""


async def judged(judge, prompt, completion, answer, state):
    verdict = await judge(prompt, completion, answer, state)
    return 1.0 if "yes" in verdict.lower() else 0.0


async def judged_again(judge, prompt, completion, answer, state, **kwargs):
    verdict = await judge(prompt, completion, answer, state)
    return 1.0 if "yes" in verdict.lower() else 0.0


def words(parser, completion):
    return float(len((parser.parse_answer(completion) or "").split()))


def load_environment(style="dict"):
    parser = vf.XMLParser(["reason", "answer"])
    rubric = JudgeRubric(
        parser=parser,
        judge_client=AsyncOpenAI(base_url=os.environ["JUDGE_URL"], api_key="none"),
        judge_model="judge",
        judge_prompt=JUDGE_PROMPT,
        judge_sampling_args={"temperature": 0.0},
    )
    rubric.add_reward_func(judged if style == "dict" else judged_again)
    rubric.add_reward_func(parser.get_format_reward_func(), weight=0.2)
    rubric.add_metric(words)
    return vf.SingleTurnEnv(
        dataset=_dataset(), system_prompt="Answer like this:\n" + parser.get_format_str(), parser=parser, rubric=rubric
    )


def _dataset():
    from datasets import Dataset

    return Dataset.from_list(ROWS)
