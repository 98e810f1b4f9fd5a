"""Evaluations of the game, as three models would leave them: tools that are called, errors, long and hostile texts."""

from __future__ import annotations

import json
import random
from typing import Any

import httpx

HOSTILE = '<img src=x onerror="alert(1)"><script>alert(2)</script> {{ 7*7 }} \u202egnp.exe'
SYSTEM = "Guess the five-letter word. You have six tries; call `guess` with one word at a time."
WORDS = ("crane", "slate", "audio", "pious", "mould", "train")


def evaluate(api: httpx.Client, owner: str) -> dict[str, str]:
    """Push them; the ids of two evaluations of the same examples, and of a rollout of the second."""
    found: dict[str, str] = {}
    for number, (model, skill, version) in enumerate(
        (
            ("baseline/random", 0.05, "0.1.0"),
            ("small-model", 0.35, "0.1.0"),
            ("small-model", 0.4, "0.2.0"),
            ("large-model-2026-thinking", 0.75, "0.2.0"),
        )
    ):
        one = _push(api, owner, model, skill, version, number)
        found = {"first": found.get("second", one), "second": one}
    rows = api.get(
        f"/evaluations/{found['second']}/samples", params={"summary": True, "sort": "turns", "order": "desc"}
    )
    found["rollout"] = rows.json()["samples"][0]["sample_id"]
    begun = {"name": "still running", "environments": [{"slug": f"{owner}/wordle"}], "model_name": "small-model"}
    found["running"] = api.post("/evaluations/", json=begun).json()["evaluation_id"]
    return found


def _push(api: httpx.Client, owner: str, model: str, skill: float, version: str, seed: int) -> str:
    chance = random.Random(seed)
    samples = [_sample(chance, example, index, skill) for example in range(30) for index in range(4)]
    body = {
        "name": f"wordle with {model}",
        "environments": [{"slug": f"{owner}/wordle", "version": version}],
        "model_name": model,
        "framework": "verifiers",
        "is_public": seed != 1,
        "tags": ["nightly"],
        "metadata": {
            "num_examples": 30,
            "rollouts_per_example": 4,
            "env_args": {"words": "common"},
            "sampling_args": {"temperature": 0.7, "max_tokens": 512},
        },
        "metrics": {"reward": skill},
    }
    made = api.post("/evaluations/", json=body)
    made.raise_for_status()
    one = made.json()["evaluation_id"]
    for start in range(0, len(samples), 50):
        api.post(f"/evaluations/{one}/samples", json={"samples": samples[start : start + 50]}).raise_for_status()
    api.post(f"/evaluations/{one}/finalize", json={}).raise_for_status()
    return one


def _sample(chance: random.Random, example: int, index: int, skill: float) -> dict[str, Any]:
    tries = chance.randint(1, 6)
    lost = chance.random() < 0.03
    won = not lost and chance.random() < skill
    reward = None if lost else round(1.1 - tries / 10, 2) if won else 0.0
    completion: list[dict[str, Any]] = []
    for turn in range(tries):
        word = chance.choice(WORDS)
        call = json.dumps({"id": f"call-{turn}", "name": "guess", "arguments": json.dumps({"word": word})})
        thought = "The letters left are few. " * chance.choice((1, 3, 300))
        completion.append(
            {
                "role": "assistant",
                "content": f"I try “{word}”." if turn else HOSTILE,
                "reasoning_content": thought,
                "tool_calls": [call],
            }
        )
        completion.append({"role": "tool", "tool_call_id": f"call-{turn}", "content": f"{word}: 🟩⬛🟨⬛⬛"})
    completion.append({"role": "assistant", "content": "Solved!" if won else "I give up. " + "long " * 2000})
    return {
        "example_id": example,
        "rollout_index": index,
        "prompt": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"Game {example} begins."}],
        "completion": completion,
        "answer": chance.choice(WORDS),
        "reward": reward,
        "metrics": {"won": float(won), "tries": tries, "invalid_words": chance.randint(0, 2)},
        "error": {"error": "SandboxLost", "message": "The sandbox of the game has gone."} if lost else None,
        "timing": {"total": tries * 1.7, "generation": tries * 1.5, "scoring": 0.01},
        "token_usage": {"input_tokens": 400 * tries, "output_tokens": 90 * tries, "cost": 0.0004 * tries},
        "is_truncated": not won and tries == 6,
        "stop_condition": "error" if lost else "solved" if won else "out_of_tries",
        "tool_defs": [{"name": "guess", "description": "Guess", "parameters": {}}],
        "trajectory": [{"reward": 0.0} for _ in range(tries)] + [{"reward": reward}],
    }
