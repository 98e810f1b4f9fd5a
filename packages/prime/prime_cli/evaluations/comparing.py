"""`prime eval compare`: two runs example by example, each a folder on this machine or an evaluation of the Hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prime_cli.evaluations.folder import RunFolder, is_run
from prime_cli.evaluations.looking import interval, score
from prime_cli.output import Output
from prime_core.errors import ProjectError

if TYPE_CHECKING:
    from prime_evals.comparison import Comparison, Pair

PAGE = 1000
MOST = 20
Groups = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Of:
    """What a run is of: its environment, with which arguments; and from which reward on a rollout has passed."""

    environment: str
    arguments: dict[str, Any]
    threshold: float


def compare(out: Output, first: str, second: str, *, threshold: float | None, as_json: bool) -> None:
    """Print what changed from the first to the second: the mean, with its interval, and the examples that flipped."""
    from prime_evals.comparison import compare_runs, unlike

    (before, name, of), (after, other, of_other) = _read(first, out), _read(second, out)
    reached = of_other.threshold if threshold is None else threshold
    found = compare_runs(before, after, reached)
    if doubt := unlike(of.environment, of_other.environment, of.arguments, of_other.arguments):
        out.warning(doubt)
    if as_json:
        out.json({"first": first, "second": second, "pass_threshold": reached, **found.to_dict()})
        return
    out.data(f"first   {name}")
    out.data(f"second  {other}")
    _show(out, found)


def _show(out: Output, found: Comparison) -> None:
    if found.difference is None:
        out.note("No example was scored in both, so there is nothing to compare.")
        return
    difference = found.difference.to_dict()
    left = f"; {len(found.only_before)} only in the first, {len(found.only_after)} only in the second"
    out.data()
    out.fields(
        {
            "Examples": f"{len(found.pairs)} scored in both{left if found.only_before or found.only_after else ''}",
            "Difference": f"{score(difference['value'], True)}  (95 %: {interval(difference, True)})",
            "By chance": "-" if found.p_value is None else f"p = {found.p_value:.3g} (paired t test)",
            "Flips": f"{len(found.gained)} gained, {len(found.lost)} lost, p = {found.flips_p_value:.3g} (McNemar)",
        }
    )
    if difference["low"] is not None and difference["low"] <= 0 <= difference["high"]:
        out.data("Zero lies within the interval: these runs do not show that one is better.")
    flips = [pair for pair in found.pairs if pair.flip]
    if flips:
        out.data()
        out.table(["EXAMPLE", "FIRST", "SECOND", ""], _rows(flips[:MOST]))
        if len(flips) > MOST:
            out.note(f"{MOST} of {len(flips)} flips; -o json has all.")


def _rows(pairs: Sequence[Pair]) -> list[list[str]]:
    words = {1: "gained", -1: "lost"}
    return [[str(pair.example), score(pair.before), score(pair.after), words[pair.flip]] for pair in pairs]


def _read(named: str, out: Output) -> tuple[Groups, str, Of]:
    """The rewards of each example, what the run is called, and what it is of."""
    folder = Path(named).expanduser()
    if is_run(folder):
        return _of_folder(folder, out)
    if folder.exists() or "/" in named:
        raise ProjectError(
            f"There is no evaluation run in {named}.", "Name a run's folder, or the id of an evaluation of the Hub."
        )
    return _of_hub(named)


def _of_folder(folder: Path, out: Output) -> tuple[Groups, str, Of]:
    from prime_evals.estimates import number

    run = RunFolder(folder)
    groups: Groups = {}
    for row in run.rows():
        if (reward := number(row.get("reward"))) is not None:
            groups.setdefault(_example(row.get("example_id")), []).append(reward)
    for warning in run.warnings[:5]:
        out.warning(warning)
    return groups, f"{run.model} on {run.env_id} ({folder})", _of(run.env_id, run.metadata)


def _of_hub(evaluation_id: str) -> tuple[Groups, str, Of]:
    from prime_cli.environments.hub import hub

    groups: Groups = {}
    with hub(require_auth=False) as client:
        told = client.get(f"/evaluations/{evaluation_id}")
        page, total = 1, 1
        while (page - 1) * PAGE < total:
            query = {"page": page, "limit": PAGE, "summary": True}
            found = client.get(f"/evaluations/{evaluation_id}/samples", query, timeout=60)
            total, page = found["total"], page + 1
            for row in found["samples"]:
                if row.get("reward") is not None:
                    groups.setdefault(row["example_id"], []).append(float(row["reward"]))
    places = told.get("environment_names") or []
    names = ", ".join(places) or "an environment"
    of = _of(places[0] if len(places) == 1 else "", told.get("metadata") or {})
    return groups, f"{told.get('model_name')} on {names} ({evaluation_id})", of


def _example(value: Any) -> str:
    """As the Hub shows it, so that a folder and an evaluation have the same examples."""
    return value if isinstance(value, str) else json.dumps(value)


def _of(environment: str, metadata: dict[str, Any]) -> Of:
    threshold, arguments = metadata.get("pass_threshold"), metadata.get("env_args")
    return Of(
        environment,
        arguments if isinstance(arguments, dict) else {},
        float(threshold) if isinstance(threshold, int | float) else 0.5,
    )
