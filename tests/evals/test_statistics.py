"""Numbers of a run, against ones worked out by hand."""

import pytest

from prime_evals import summarize
from prime_evals.statistics import errors_by_type, pass_at


def row(example, reward, **fields):
    return {"example_id": example, "reward": reward, "metrics": {}, **fields}


def test_only_scored_rollouts_count():
    rows = [
        row(0, 1.0, metrics={"turns": 2.0}, token_usage={"input_tokens": 10, "output_tokens": 4}),
        row(0, 0.0, metrics={"turns": 4.0}, token_usage={"input_tokens": 20, "output_tokens": 0}),
        row(1, None, error={"error": "SandboxError", "message": "gone"}, metrics={}),
    ]
    found = summarize(rows, 2)
    assert found["avg_reward"] == 0.5 and found["std_reward"] == 0.5
    assert found["avg_metrics"] == {"turns": 3.0}
    assert found["avg_error"] == pytest.approx(1 / 3)
    assert (found["num_scored"], found["num_rollouts"]) == (2, 3)
    assert found["usage"] == {"input_tokens": 15, "output_tokens": 2}


def test_costs_are_summed_and_their_mean_is_over_the_priced():
    rows = [
        row(0, 1.0, token_usage={"input_tokens": 10, "cost": 0.25}),
        row(0, None, error={"error": "SandboxError", "message": "gone"}, token_usage={"input_tokens": 20, "cost": 0.5}),
        row(1, 0.0, token_usage={"input_tokens": 0}),
    ]
    assert summarize(rows, 2)["usage"] == {"input_tokens": 10, "cost": 0.375, "total_cost": 0.75}


def test_nothing_scored():
    found = summarize([row(0, None)], 1)
    assert found["avg_reward"] is None and found["avg_metrics"] == {} and found["usage"] is None
    assert summarize([], 1)["avg_error"] == 0.0


def test_pass_at_k_is_the_unbiased_estimate():
    rows = [row(0, reward) for reward in (1.0, 0.0, 0.0, 0.0)] + [row(1, reward) for reward in (1.0, 1.0, 0.5, None)]
    some, every = pass_at(rows, 4, 0.5)
    # Example 0: one of four passes. Example 1: three of three scored pass, too few for k = 4.
    assert some == {"1": pytest.approx((0.25 + 1) / 2), "2": pytest.approx((0.5 + 1) / 2), "4": pytest.approx(1.0)}
    assert every == {"1": pytest.approx((0.25 + 1) / 2), "2": pytest.approx((0 + 1) / 2), "4": pytest.approx(0.0)}
    assert pass_at(rows, 1, 0.5) == ({}, {})


def test_errors_are_counted_by_kind():
    rows = [row(0, None, error={"error": kind, "message": kind.lower()}) for kind in ("A", "B", "B")]
    assert errors_by_type(rows) == {"B": (2, "b"), "A": (1, "a")}
