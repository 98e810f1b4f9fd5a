"""What each field of evaluations' requests and pages changes; a part of `field_cases.py`."""

from __future__ import annotations

from tests.hub.field_kinds import ABSENT, Case, Differs, Refused, Shown
from tests.hub.of_evaluations import API, EVALUATION, EVALUATION_PAGE, HOSTED, PAGE, ROLLOUT_PAGE

LIST: dict[str, str] = {}


def _described() -> dict[str, Case]:
    """Of an evaluation."""
    return {
        "name": Differs("one", "other", {}),
        "environments": Differs(ABSENT, [{"id": "{environment_id}"}], {}),
        "environments[].id": Refused("0" * 24, "There is no environment with the id", {"environments": [{}]}),
        "environments[].slug": Refused("none/none", "There is no environment", {"environments": [{}]}),
        "environments[].version": Differs("1.0", "2.0", {"environments": [{"id": "{environment_id}"}]}),
        "model_name": Differs("one", "other", {}),
        "framework": Differs("one", "other", {}),
        "task_type": Differs("one", "other", {}),
        "run_id": Differs("one", "other", {}),
        "tags": Differs(["one"], ["other"], {}),
        "metadata": Differs({"a": 1}, {"a": 2}, {}),
        "metrics": Differs({"a": 1}, {"a": 2}, {}),
        "is_public": Differs(True, False, {}),
    }


CASES: dict[str, dict[str, Case]] = {
    f"POST {API}/evaluations/": {
        **_described(),
        "team_id": Shown("test_evaluations", "test_of_a_team"),
    },
    f"PUT {EVALUATION}": _described(),
    f"PATCH {EVALUATION}": {
        "name": Differs("one", "other", {}),
        "tags": Differs(["one"], ["other"], {}),
        "is_public": Differs(True, False, {}),
    },
    f"GET {API}/evaluations/": {
        "?skip": Differs("0", "1", LIST),
        "?limit": Differs("1", "100", LIST),
        "?environment_name": Differs("{owner}/kept-env", "none/none", LIST),
        "?team_id": Shown("test_evaluations", "test_of_a_team"),
        "?owner": Differs("{owner}", "stan", LIST),
        "?model_name": Shown("test_evaluations", "test_lists"),
        "?mine_only": Shown("test_evaluations", "test_lists"),
    },
    f"GET {EVALUATION}/samples": {
        "?page": Differs("1", "2", {"limit": "1"}),
        "?limit": Differs("1", "100", LIST),
        "?sort": Differs("example", "reward", LIST),
        "?order": Differs("asc", "desc", LIST),
        "?outcome": Differs("passed", "failed", LIST),
        "?error": Differs("Lost", "None", LIST),
        "?example_id": Differs("1", "2", LIST),
        "?summary": Differs("true", "false", LIST),
    },
    f"POST {EVALUATION}/samples": {
        "samples": Differs([{"example_id": 9}], [{"example_id": 9, "reward": 1.0}], {}, f"GET {EVALUATION}/samples"),
    },
    f"POST {HOSTED}": {
        "environment_ids": Refused(["0" * 24], "has no environment with the id"),
        "inference_model": Refused("no/model", "knows no endpoint of the model"),
        "eval_config": Differs({"num_examples": 1}, {"num_examples": 2}),
        "name": Differs("one", "other"),
        "team_id": Shown("test_hosted_evaluations", "test_of_a_team"),
        "is_public": Differs(True, False),
    },
    f"POST {EVALUATION}/finalize": {"metrics": Differs({"a": 1}, {"a": 2})},
}
PAGES: dict[str, dict[str, Case]] = {
    f"GET {PAGE}/evaluations": {"?version": Refused("9.9.9", "There is no version", LIST)},
    "GET /dashboard/evaluations": {
        "?env": Differs("kept-env", "none", LIST),
        "?owner": Differs("{owner}", "stan", LIST),
        "?model": Shown("test_evaluation_pages", "test_a_conversation_of_strangers"),
        "?page": Differs("1", "2", LIST),
        "?done": Differs("deleted", "none", LIST),
    },
    "GET /dashboard/evaluations/compare": {
        "?first": Differs("{evaluation_id}", ABSENT),
        "?second": Refused("0" * 24, "There is no evaluation", {"first": "{evaluation_id}"}),
    },
    f"GET {EVALUATION_PAGE}": {
        "?sort": Differs("example", "reward", LIST),
        "?order": Differs("asc", "desc", LIST),
        "?outcome": Differs("passed", "failed", LIST),
        "?error": Differs("Lost", "None", LIST),
        "?example": Differs("1", "2", LIST),
        "?page": Differs("1", "2", LIST),
        "?done": Differs("PUBLIC", "none", LIST),
    },
    f"GET {ROLLOUT_PAGE}": {"?every": Shown("test_evaluation_pages", "test_a_long_conversation")},
    f"POST {EVALUATION_PAGE}/visibility": {
        "visibility": Differs("PUBLIC", "PRIVATE", see=f"GET {EVALUATION_PAGE}"),
    },
}
