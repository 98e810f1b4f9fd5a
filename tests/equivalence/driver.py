"""Plays environments with whatever `verifiers` is installed here, and writes what they were worth as JSON.

python driver.py URL FILE ENVIRONMENT:STYLE...
"""

import importlib
import json
import os
import sys
from pathlib import Path

SEEDS = (0, 1, 2, 3, 4, 5)
ROLLOUTS = 2


def text_of(message):
    """What one message says, in words that both generations share."""
    calls = [
        [call["function"]["name"], call["function"]["arguments"]]
        if "function" in call
        else [call["name"], call["arguments"]]
        for call in (json.loads(call) if isinstance(call, str) else call for call in message.get("tool_calls") or ())
    ]
    return [message["role"], message.get("content") or "", calls]


def row_of(output, seed):
    """One rollout: which, and what it was worth."""
    return {
        "example": output["example_id"],
        "seed": seed,
        "reward": output["reward"],
        "metrics": dict(output["metrics"]),
        "stop": output["stop_condition"],
        "completion": [text_of(dict(message)) for message in output["completion"]],
        "error": output["error"],
        "advantage": output.get("advantage"),
    }


def play(name, style, url):
    """All examples of an environment, as often as there are seeds and rollouts."""
    import verifiers as vf

    rows = []
    for seed in SEEDS:
        env = importlib.import_module(name).load_environment(style)
        client = vf.ClientConfig(api_base_url=url, api_key_var="NO_KEY", max_retries=0)
        result = env.evaluate_sync(
            client,
            "model",
            sampling_args={"seed": seed},
            rollouts_per_example=ROLLOUTS,
            max_concurrent=8,
            state_columns=["advantage"],
        )
        rows += [row_of(output, seed) for output in result["outputs"]]
    return sorted(rows, key=lambda row: (row["example"], row["seed"], row["reward"]))


def main():
    """Play what is asked for."""
    url, file, *wanted = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).resolve().parent / "environments"))
    os.environ["JUDGE_URL"] = url
    import verifiers

    found = {"version": verifiers.__version__, "from": verifiers.__file__}
    for what in wanted:
        found[what] = play(*what.split(":"), url)
    Path(file).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
