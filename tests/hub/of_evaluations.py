"""Requests about evaluations that the Hub takes: parts of the tables of `asking.py` and `test_privacy.py`."""

from __future__ import annotations

from typing import Any

API = "/api/v1"
PAGE = "/dashboard/environments/{owner}/{name}"
EVALUATIONS = f"{API}/evaluations/"
EVALUATION = f"{EVALUATIONS}{{evaluation_id}}"
EVALUATION_PAGE = "/dashboard/evaluations/{evaluation_id}"
HOSTED = f"{API}/hosted-evaluations"
HOSTED_RUN = f"{HOSTED}/{{evaluation_id}}"
ROLLOUT_PAGE = f"{EVALUATION_PAGE}/rollouts/{{sample_id}}"

DESCRIBED = {
    "name": "kept",
    "environments": [{"id": "{environment_id}", "slug": None, "version": "{version}"}],
    "model_name": "m",
    "framework": "verifiers",
    "task_type": "t",
    "run_id": "r",
    "tags": ["a"],
    "metadata": {"env_args": {}},
    "metrics": {"reward": 1.0},
    "is_public": False,
}
SAMPLES = [
    {"example_id": 1, "rollout_index": 0, "reward": 1.0, "prompt": "p", "completion": "kept words", "error": None},
    {"example_id": 2, "rollout_index": 0, "reward": 0.0, "prompt": "p", "completion": "c", "token_usage": {"cost": 1}},
    {"example_id": 3, "rollout_index": 0, "reward": None, "error": {"error": "Lost"}, "is_truncated": True},
]

BODIES: dict[str, Any] = {
    f"POST {API}/evaluations/": DESCRIBED | {"team_id": None},
    f"PUT {EVALUATION}": DESCRIBED,
    f"PATCH {EVALUATION}": {"name": "kept", "tags": ["b"], "is_public": False},
    f"POST {EVALUATION}/samples": {"samples": SAMPLES},
    f"POST {EVALUATION}/finalize": {"metrics": {"reward": 1.0}},
    f"POST {HOSTED}": {
        "environment_ids": ["{environment_id}"],
        "inference_model": "baseline/echo",
        "eval_config": {"num_examples": 1},
        "name": "kept",
        "team_id": None,
        "is_public": False,
    },
}
QUERIES: dict[str, dict[str, str]] = {
    f"GET {API}/evaluations/": {
        "skip": "0",
        "limit": "10",
        "environment_name": "{owner}/kept-env",
        "team_id": "{team}",
        "owner": "{owner}",
        "model_name": "m",
        "mine_only": "true",
    },
    f"GET {EVALUATION}/samples": {
        "page": "1",
        "limit": "2",
        "sort": "reward",
        "order": "desc",
        "outcome": "passed",
        "error": "Lost",
        "example_id": "1",
        "summary": "true",
    },
    f"GET {PAGE}/evaluations": {"version": "{version}"},
    "GET /dashboard/evaluations": {
        "env": "{owner}/kept-env",
        "owner": "{owner}",
        "model": "m",
        "page": "1",
        "done": "x",
    },
    "GET /dashboard/evaluations/compare": {"first": "{evaluation_id}", "second": "{evaluation_id}"},
    f"GET {EVALUATION_PAGE}": {
        "sort": "reward",
        "order": "desc",
        "outcome": "passed",
        "error": "Lost",
        "example": "1",
        "page": "1",
        "done": "PUBLIC",
    },
    f"GET {ROLLOUT_PAGE}": {"every": "true"},
}
FORMS: dict[str, dict[str, str]] = {
    f"POST {EVALUATION_PAGE}/visibility": {"visibility": "PUBLIC"},
    f"POST {EVALUATION_PAGE}/cancel": {},
    f"POST {EVALUATION_PAGE}/delete": {},
}

# As `test_privacy.ASKED` has them.
PRIVATE: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("POST", EVALUATIONS): [
        {"json": {"name": "x", "environments": [{"id": "{environment_id}"}]}},
        {"json": {"name": "x", "environments": [{"slug": "{owner}/{name}"}]}},
        {"json": {"name": "x", "team_id": "{team}"}},
    ],
    ("GET", EVALUATIONS): [
        {"query": query}
        for query in (
            "",
            "environment_name={owner}/{name}",
            "environment_name={name}",
            "owner={owner}",
            "team_id={team}",
        )
    ],
    ("POST", HOSTED): [
        {"json": {"environment_ids": ["{environment_id}"], "inference_model": "baseline/echo"}},
        {"json": {"environment_ids": ["{environment_id}"], "team_id": "{team}"}},
    ],
    ("PUT", EVALUATION): [{"json": {"is_public": True}}],
    ("PATCH", EVALUATION): [{"json": {"name": "x"}}],
    ("GET", EVALUATION + "/samples"): [{}, {"query": "summary=true&outcome=passed"}],
    ("POST", EVALUATION + "/samples"): [{"json": {"samples": [{"example_id": 1}]}}],
    ("POST", EVALUATION + "/finalize"): [{"json": {}}],
    ("GET", "/dashboard/evaluations"): [{"query": query} for query in ("", "env={name}", "owner={owner}")],
    ("GET", "/dashboard/evaluations/compare"): [{"query": "first={evaluation_id}&second={evaluation_id}"}, {}],
    ("GET", EVALUATION_PAGE): [{}, {"query": "outcome=passed"}],
    ("POST", EVALUATION_PAGE + "/visibility"): [{"data": {"visibility": "PUBLIC"}}],
}
