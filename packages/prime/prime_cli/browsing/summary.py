"""A run in a few lines: its name, its numbers with their uncertainty, and the spread of its rewards."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from prime_cli.browsing.words import bar, moment, seconds, thousands, visible
from prime_evals.rendering import number
from prime_evals.sources import About, OfficialRun, OwnRun
from prime_evals.summaries import histogram, summarize_rollouts

_BAR = 22


def title(about: About) -> str:
    """Environment, model, and when."""
    version = f"@{about.env_version}" if about.env_version else ""
    return visible(f"{about.env_id}{version} · {about.model} · {moment(about.started_at)}")


def facts(source: OwnRun | OfficialRun) -> str:
    """The numbers, a line each."""
    about = source.about
    told = summarize_rollouts(source.briefs(), about.threshold)
    rows = [("reward", _estimate(told["reward"])), ("scored", _scored(told, about))]
    for sign, name in (("@", "pass_at_k"), ("^", "pass_all_k")):
        rows += [(f"pass{sign}{k}", _estimate(found)) for k, found in told[name].items() if (sign, k) != ("^", "1")]
    rows += [(name, _estimate(found)) for name, found in told["metrics"].items()]
    if stops := told["stop_conditions"]:
        rows.append(("stopped by", ", ".join(f"{name} {thousands(count)}" for name, count in stops.items())))
    for name, value in (("arguments", about.env_args), ("sampling", about.sampling_args)):
        if value:
            rows.append((name, json.dumps(dict(value), ensure_ascii=False)))
    rows += _spent(told["amounts"])
    for found in told["errors"]:
        sentence = " ".join(str(found["message"]).split())
        rows.append(("errors", f"{found['count']} × {found['error']}: {sentence[:200]}"))
    width = max(len(name) for name, _ in rows)
    return visible("\n".join(f"{name:<{width}}  {text}" for name, text in rows))


def _scored(told: Mapping[str, Any], about: About) -> str:
    finished = told["num_rollouts"]
    missing = f", {thousands(about.planned - finished)} not played" if finished < about.planned else ""
    return f"{thousands(told['num_scored'])} of {thousands(finished)} rollouts{missing}"


def _estimate(found: Mapping[str, Any] | None) -> str:
    if not found:
        return "–"
    value, low, high = (found.get(name) for name in ("value", "low", "high"))
    # An interval of no width is that of a constant, such as the turns of a game that always lasts as long.
    sure = low is None or high is None or low == high
    return number(value) if sure else f"{number(value)}  ({number(low)} to {number(high)})"


def _spent(amounts: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str]]:
    rows = []
    named = (("input_tokens", "in"), ("output_tokens", "out"))
    tokens = [f"{thousands(amounts[name]['total'])} {word}" for name, word in named if name in amounts]
    if tokens:
        rows.append(("tokens", ", ".join(tokens)))
    if "cost" in amounts:
        rows.append(("cost", f"${amounts['cost']['total']:.4f}"))
    if "seconds" in amounts:
        rows.append(("time", f"{seconds(amounts['seconds']['mean'])} a rollout"))
    return rows


def histogram_text(rewards: Sequence[float]) -> str:
    """A bar for each range of rewards."""
    bins = histogram([value for value in rewards if not math.isnan(value)])
    if not bins:
        return "no rewards"
    most = max(one.count for one in bins)
    lines = []
    for one in bins:
        name = number(one.low) if one.low == one.high else f"{one.low:>6.4g} – {one.high:<6.4g}"
        lines.append(f"{name:>15} {bar(one.count / most, _BAR)} {thousands(one.count)}".rstrip())
    return "\n".join(lines)
