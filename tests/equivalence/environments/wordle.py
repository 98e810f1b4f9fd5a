"""Wordle: rewards for the word, for letters of it, for being quick and for keeping to the format."""

import re

import verifiers as vf
from verifiers.envs.integrations.textarena_env import TextArenaEnv

SYSTEM_PROMPT = "Guess the word of five letters. Think in <think>...</think>, then <guess>[abcde]</guess>."


def right(parser, completion, answer):
    return float(parser.parse_answer(completion) == f"[{answer}]")


def letters(completion, answer, parser):
    best = 0.0
    for message in parser.get_assistant_messages(completion):
        guess = re.sub(r"[^a-z]", "", (parser.parse(message["content"]).guess or "").lower())
        best = max(best, sum(one == other for one, other in zip(guess, answer, strict=False)) / 5)
    return best


def letters_as_object(completion, answer, parser):
    best = 0.0
    for message in parser.get_assistant_messages(completion):
        guess = re.sub(r"[^a-z]", "", (parser.parse(message.content).guess or "").lower())
        best = max(best, sum(one == other for one, other in zip(guess, answer, strict=False)) / 5)
    return best


def quick(parser, completion, answer):
    solved = parser.parse_answer(completion) == f"[{answer}]"
    return 1 / len(parser.get_assistant_messages(completion)) if solved else 0.0


def load_environment(style="dict"):
    parser = vf.XMLParser(fields=["think", "guess"], answer_field="guess")
    rubric = vf.Rubric(parser=parser)
    rubric.add_reward_func(right)
    rubric.add_reward_func(letters if style == "dict" else letters_as_object, weight=0.5)
    rubric.add_reward_func(quick, weight=0.3)
    rubric.add_reward_func(parser.get_format_reward_func(), weight=0.2)
    return TextArenaEnv(
        game="Wordle-v0",
        num_train_examples=2,
        num_eval_examples=2,
        system_prompt=SYSTEM_PROMPT,
        parser=parser,
        rubric=rubric,
        seed=3,
    )
