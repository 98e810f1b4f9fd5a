"""Several evaluations in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prime_evals.rendering import number
from verifiers.evaluation.report import one_line

_COLUMNS = ("environment", "model", "reward", "scored", "errors", "cost", "results")


def overview(runs: Sequence[Mapping[str, Any]], plain: bool = False) -> str:
    """A line for each of `runs`, as `report.as_data` gives them; plain: columns between tabs. What the arguments of the
    environment have in common is left out.
    """
    told = told_apart(runs)
    rows = [list(_COLUMNS), *(_row(run, name) for run, name in zip(runs, told, strict=True))]
    used = [index for index in range(len(_COLUMNS)) if plain or any(row[index] for row in rows[1:])]
    if plain:
        return "\n".join("\t".join(row) for row in rows)
    widths = {index: max(len(row[index]) for row in rows) for index in used}
    return "\n".join("  ".join(row[index].ljust(widths[index]) for index in used).rstrip() for row in rows)


def told_apart(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The environments' names, with those arguments and sampling arguments in which runs of one environment differ."""
    names = []
    for run in runs:
        same = [other for other in runs if (other["env_id"], other["model"]) == (run["env_id"], run["model"])]
        parts = [
            f"{key}={value}"
            for kind in ("env_args", "sampling_args")
            for key, value in (run.get(kind) or {}).items()
            if any((other.get(kind) or {}).get(key) != value for other in same)
        ]
        names.append(" ".join([run["env_id"], *parts]))
    return names


def _row(run: Mapping[str, Any], name: str) -> list[str]:
    if "num_planned" not in run:
        return [name, run["model"], "–", "", "", "", one_line(str(run.get("stopped", "")))]
    usage = run.get("usage") or {}
    errors = sum(one["count"] for one in run["errors"].values())
    return [
        name,
        run["model"],
        number(run["avg_reward"]),
        f"{run['num_scored']} of {run['num_planned']}",
        str(errors) if errors else "",
        f"${usage['total_cost']:.4f}" if "total_cost" in usage else "",
        run["results_path"] or "",
    ]
