"""`prime eval list`, `get`, `samples` and `delete`: what the Hub has (protocols/hub.md §5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prime_cli.environments.hub import hub
from prime_cli.output import Output
from prime_cli.sandboxes.shared import age


def list_evaluations(
    out: Output, *, environment: str | None, model: str | None, mine: bool, limit: int, page: int, as_json: bool
) -> None:
    """Print those that one may see, the newest first."""
    from prime_core.config import load_config

    config = load_config()
    query = {
        "skip": (page - 1) * limit,
        "limit": limit,
        "environment_name": environment,
        "model_name": model,
        "mine_only": mine or None,
        "team_id": config.team_id if mine else None,
    }
    with hub(require_auth=False) as client:
        found = client.get("/evaluations/", query)
    if as_json:
        out.json(found)
        return
    rows: list[dict[str, Any]] = found.get("evaluations") or []
    if not rows:
        out.note("No evaluations found.")
        out.note("Push one with: prime eval push DIR --env OWNER/NAME")
        return
    out.table(
        ["ID", "ENVIRONMENT", "MODEL", "REWARD", "ROLLOUTS", "STATUS", "AGE"],
        [
            [
                row.get("evaluation_id") or row.get("id"),
                ", ".join(row.get("environment_names") or []),
                row.get("model_name"),
                score(row.get("avg_reward")),
                row.get("total_samples"),
                row.get("status"),
                age(row.get("created_at")),
            ]
            for row in rows
        ],
    )
    total = found.get("total") or len(rows)
    if page * limit < total:
        out.note(f"{len(rows)} of {total}; --page {page + 1} shows more.")


def show_evaluation(out: Output, evaluation_id: str, *, as_json: bool) -> None:
    """Print one: what was run, and what came of it."""
    with hub(require_auth=False) as client:
        found = client.get(f"/evaluations/{evaluation_id}")
    if as_json:
        out.json(found)
        return
    out.fields(
        {
            "Evaluation": found.get("evaluation_id"),
            "Name": found.get("name"),
            "Environment": ", ".join(found.get("environment_names") or []) or None,
            "Model": found.get("model_name") or None,
            "Owner": (found.get("owner") or {}).get("name"),
            "Visibility": "public" if found.get("is_public") else "private",
            "Status": found.get("status"),
            "Error": found.get("error_message"),
            "Page": found.get("viewer_url"),
        }
    )
    show_summary(out, found.get("summary"))


def show_summary(out: Output, summary: Mapping[str, Any] | None) -> None:
    """Print the numbers of an evaluation, with their intervals."""
    if not summary:
        out.note("It is not finished, so there are no numbers yet.")
        return
    out.data()
    rows = [("reward", summary.get("reward")), ("passed", summary.get("passed"))]
    rows += [(f"pass@{k}", found) for k, found in (summary.get("pass_at_k") or {}).items()]
    rows += [(f"pass^{k}", found) for k, found in (summary.get("pass_all_k") or {}).items()]
    rows += list((summary.get("metrics") or {}).items())
    out.table(
        ["", "MEAN", f"{100 * (summary.get('confidence') or 0.95):g} % INTERVAL", "SCORED"],
        [[name, score(found["value"]), interval(found), found.get("count")] for name, found in rows if found],
    )
    out.data(
        f"\n{summary['num_scored']} scored of {summary['num_rollouts']} rollouts, {summary['num_examples']} examples"
    )
    for error in summary.get("errors") or []:
        out.data(f"{error['count']} × {error['error']}: {error['message']}")


def show_samples(out: Output, evaluation_id: str, query: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a page of rollouts: a line each, or all of them as JSON."""
    asked = {**query, "summary": None if as_json else True}
    with hub(require_auth=False) as client:
        found = client.get(f"/evaluations/{evaluation_id}/samples", asked, timeout=300)
    if as_json:
        out.json(found)
        return
    rows = found.get("samples") or []
    if not rows:
        out.note("No such rollouts.")
        return
    out.table(
        ["EXAMPLE", "ROLLOUT", "REWARD", "TURNS", "ENDED BY", "LAST SAID"],
        [
            [
                row.get("example_id"),
                row.get("rollout_index"),
                score(row.get("reward")),
                row.get("turns"),
                row.get("error") or row.get("stop_condition"),
                _short(row.get("message") if row.get("error") else row.get("completion")),
            ]
            for row in rows
        ],
    )
    page, limit, total = found["page"], found["limit"], found["total"]
    if page * limit < total:
        out.note(f"{len(rows)} of {total}; --page {page + 1} shows more, -o json all of each.")


def delete_evaluation(evaluation_id: str) -> None:
    """Delete one with all its samples."""
    with hub() as client:
        client.delete(f"/evaluations/{evaluation_id}")


def score(value: Any, signed: bool = False) -> str:
    """`0.290`; `-` for what was not scored."""
    if not isinstance(value, int | float):
        return "-"
    return f"{value:+.3f}" if signed else f"{value:.3f}"


def interval(found: Mapping[str, Any] | None, signed: bool = False) -> str:
    """`0.257 to 0.323`."""
    if not found or found.get("low") is None:
        return "-"
    return f"{score(found['low'], signed)} to {score(found['high'], signed)}"


def _short(text: Any, most: int = 60) -> str:
    words = " ".join(str(text or "").split())
    return words if len(words) <= most else words[: most - 1] + "…"
