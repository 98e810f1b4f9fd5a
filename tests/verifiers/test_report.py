"""What a run says at its end."""

from verifiers.evaluation.report import failed_functions, one_line, render, scored_in_vain
from verifiers.types import UserMessage

METADATA = {
    "model": "m",
    "num_examples": 2,
    "rollouts_per_example": 1,
    "num_scored": 2,
    "num_rollouts": 2,
    "std_reward": None,
    "avg_reward": 0.0,
    "pass_at_k": {},
    "pass_all_k": {},
    "avg_metrics": {},
}


def row(message: str | None = None, kind: str = "SessionLost", **fields):
    error = None if message is None else {"error": kind, "message": message}
    return {"reward": None if message else 0.0, "error": error, "completion": [], "stop_condition": "x", **fields}


def table(*outputs) -> str:
    return render(list(outputs), METADATA, None, len(outputs), "env")


def test_of_a_log_the_end_is_shown():
    log = "\n".join(f"line {number} of a long start" for number in range(60)) + "\nZeroDivisionError: division by zero"
    shown = one_line(f"OpenEnv server ended (exit code 3). Logs (tail):\n{log}")
    assert shown.startswith("OpenEnv server ended (exit code 3). Logs (tail): ")
    assert shown.endswith("line 59 of a long start / ZeroDivisionError: division by zero") and "line 0 " not in shown
    assert len(one_line("word " * 1000)) == 300


def test_errors_of_one_kind_that_say_different_things_are_told_apart():
    assert "2 × SessionLost: gone" in table(row("gone"), row("gone"))
    assert "2 × SessionLost (2 different ones), such as: gone" in table(row("gone"), row("away"))


def test_rollouts_in_which_nothing_was_accepted_are_pointed_out():
    refused = {"openenv_action_errors": 3.0, "num_turns": 3.0}
    said = [UserMessage("Error: The action was not taken (HTTP 500): Internal Server Error")]
    text = table(row(**refused, completion=said), row(openenv_action_errors=1.0, num_turns=3.0))
    assert "In 1 of 2 scored rollouts no action was accepted: the model's fault, or the server's" in text
    assert 'The server\'s last word: "The action was not taken (HTTP 500): Internal Server Error"' in text
    assert "no action was accepted" not in table(row(openenv_action_errors=0.0, num_turns=3.0), row())


def test_a_reward_function_that_always_fails_is_told_of():
    failed = {"right": "ZeroDivisionError: division by zero"}
    outputs = [row(reward=0.0, reward_errors=failed), row(reward=0.0, reward_errors=failed), row(reward=None)]
    assert scored_in_vain(outputs).startswith("The reward function 'right' failed in every rollout and counted 0")
    assert scored_in_vain([*outputs, row(reward=1.0)]) == "" and scored_in_vain([]) == ""
    assert failed_functions(outputs) == {"right": (2, "ZeroDivisionError: division by zero")}
