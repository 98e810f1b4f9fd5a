"""What a run says at its end: a calm table for people, or the same as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prime_evals.rendering import number
from prime_evals.statistics import errors_by_type
from verifiers.types import RolloutOutput
from verifiers.utils.message_utils import last_text

_LONGEST_SENTENCE = 300
_LOG_MARK = "Logs (tail):"
_LAST_LINES = 6


def one_line(text: str) -> str:
    """A sentence without line breaks, cut where it gets long."""
    sentence, mark, log = text.partition(_LOG_MARK)
    flat = _cut(" ".join(sentence.split()), _LONGEST_SENTENCE)
    # Of a log the end says most.
    last = [" ".join(line.split()) for line in log.splitlines() if line.strip()][-_LAST_LINES:]
    return f"{flat} {mark} {_cut(' / '.join(last), _LONGEST_SENTENCE, end=True)}" if last else flat


def _cut(text: str, longest: int, end: bool = False) -> str:
    if len(text) <= longest:
        return text
    return "…" + text[1 - longest :] if end else text[: longest - 1] + "…"


_BRIEF = frozenset({"reward", "cost", "errors", "", "rewards failed", "note", "results"})


def render(
    outputs: Sequence[RolloutOutput],
    metadata: Mapping[str, Any],
    results: Path | None,
    planned: int,
    environment: str,
    brief: bool = False,
    plain: bool = False,
) -> str:
    """The table. `planned`: how many rollouts the run set out to play; `metadata`: of the run and its summary;
    `environment`: its name and which copy of it was played; brief: only reward, cost, errors and folder; plain: a name, a
    tab and what it says in each line.
    """
    counts = [
        f"{count} {what}" if count != 1 else f"1 {what.removesuffix('s')}"
        for count, what in ((metadata["num_examples"], "examples"), (metadata["rollouts_per_example"], "rollouts"))
    ]
    title = f"{environment} · {metadata['model']} · {' × '.join(counts)}"
    scored = f"{metadata['num_scored']} scored of {planned} total"
    if metadata["num_rollouts"] != planned:
        scored += f" ({planned - metadata['num_rollouts']} not played)"
    rows = [("reward", f"{number(metadata['avg_reward'])}{_interval(outputs)}   {scored}")]
    if outputs and (found := [output["reward"] for output in outputs if output.get("reward") is not None]):
        spread = f", standard deviation {number(metadata['std_reward'])}" if metadata["std_reward"] else ""
        rows.append(("range", f"{number(min(found))} to {number(max(found))}{spread}"))
    rows += [(f"pass@{k}", number(value)) for k, value in metadata["pass_at_k"].items()]
    rows += [(f"pass^{k}", number(value)) for k, value in metadata["pass_all_k"].items() if k != "1"]
    rows += [(name, number(value)) for name, value in metadata["avg_metrics"].items()]
    rows += _how_it_ended(outputs)
    rows += _timing(outputs)
    if usage := metadata.get("usage"):
        used = f"{number(usage.get('input_tokens'))} in, {number(usage.get('output_tokens'))} out (mean a rollout)"
        rows.append(("tokens", used))
        if "total_cost" in usage:
            priced = sum(1 for output in outputs if "cost" in (output.get("token_usage") or {}))
            known = f" (known of {priced} of {len(outputs)})" if 0 < priced < len(outputs) else ""
            rows.append(("cost", f"${usage['total_cost']:.4f}, ${usage['cost']:.4f} mean a rollout{known}"))
    rows += [
        ("errors" if first else "", f"{count} × {name}{_one_of(name, outputs)}: {one_line(sentence)}")
        for first, (name, (count, sentence)) in zip(
            [True] + [False] * len(outputs), errors_by_type(outputs).items(), strict=False
        )
    ]
    rows += _failed_functions(outputs)
    if refused := _nothing_accepted(outputs):
        rows.append(("note", refused))
    if results is not None:
        rows.append(("results", str(results)))
    if brief:
        rows = [row for row in rows if row[0] in _BRIEF]
    if plain:
        return "\n".join([f"evaluation\t{title}", *(f"{name}\t{text}" for name, text in rows)])
    width = max(len(name) for name, _ in rows)
    return "\n".join([title, "", *(f"  {name:<{width}}   {text}" for name, text in rows)])


def _one_of(name: str, outputs: Sequence[RolloutOutput]) -> str:
    """Says when errors of one kind have said different things, of which one is shown."""
    said = {error["message"] for output in outputs if (error := output.get("error")) and error["error"] == name}
    return f" ({len(said)} different ones), such as" if len(said) > 1 else ""


def _nothing_accepted(outputs: Sequence[RolloutOutput]) -> str | None:
    """Where servers refused every single action: that may be the model's doing or the server's, and scores hide which."""
    played = [output for output in outputs if output.get("reward") is not None and "openenv_action_errors" in output]
    in_vain = [output for output in played if output["openenv_action_errors"] >= output.get("num_turns", 0) > 0]
    if not in_vain:
        return None
    last = next(
        (text for output in in_vain if (text := last_text(output["completion"], "user")).startswith("Error:")), ""
    )
    said = f' The server\'s last word: "{one_line(last.removeprefix("Error:").strip())}"' if last else ""
    return (
        f"In {len(in_vain)} of {len(played)} scored rollouts no action was accepted: the model's fault, or the server's; "
        f"the conversations and the server's log say which.{said}"
    )


def failed_functions(outputs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, str]]:
    """How often each reward function failed, and so counted 0, and one sentence of it, the most frequent first."""
    failed = [item for output in outputs for item in (output.get("reward_errors") or {}).items()]
    counts, sentences = Counter(name for name, _ in failed), dict(failed)
    return {name: (count, one_line(sentences[name])) for name, count in counts.most_common()}


def scored_in_vain(outputs: Sequence[Mapping[str, Any]]) -> str:
    """A sentence where a reward function failed in every rollout that was scored, so that rewards tell nothing; else ""."""
    # One that ended with an error may have nothing that could be scored.
    scored = [output for output in outputs if output.get("reward") is not None and not output.get("error")]
    name, (count, sentence) = next(iter(failed_functions(scored).items()), ("", (0, "")))
    if not count or count < len(scored):
        return ""
    return (
        f"The reward function '{name}' failed in every rollout and counted 0, so the rewards tell nothing: {sentence}"
    )


def _failed_functions(outputs: Sequence[RolloutOutput]) -> list[tuple[str, str]]:
    lines = [f"{name} counted 0 in {count}: {text}" for name, (count, text) in failed_functions(outputs).items()]
    return [("" if number else "rewards failed", line) for number, line in enumerate(lines)]


def _interval(outputs: Sequence[RolloutOutput]) -> str:
    """The 95 % interval of the mean reward (docs/statistics.md), where there are two examples that tell it."""
    from prime_evals.estimates import by_example, clustered_mean

    found = clustered_mean(by_example((output.get("example_id"), output.get("reward")) for output in outputs))
    if found is None or found.low is None or found.high is None or found.low == found.high:
        return ""
    return f" ({number(found.low)} to {number(found.high)})"


def _how_it_ended(outputs: Sequence[RolloutOutput]) -> list[tuple[str, str]]:
    stops = Counter(str(output["stop_condition"]) for output in outputs if output.get("stop_condition"))
    rows = [("stopped by", ", ".join(f"{name} {count}" for name, count in stops.most_common()))] if stops else []
    truncated = sum(1 for output in outputs if output.get("is_truncated"))
    if truncated:
        rows.append(("truncated", f"{truncated} of {len(outputs)}"))
    return rows


def _timing(outputs: Sequence[RolloutOutput]) -> list[tuple[str, str]]:
    seconds = [float(timing["total"]) for output in outputs if (timing := output.get("timing"))]
    if not seconds:
        return []
    mean = sum(seconds) / len(seconds)
    digits = 1 if max(seconds) >= 1 else 3
    shown, low, high = (f"{value:.{digits}f}" for value in (mean, min(seconds), max(seconds)))
    return [("time a rollout", f"{shown} s mean, {low} to {high} s")]


def as_data(
    outputs: Sequence[RolloutOutput], metadata: Mapping[str, Any], results: Path | None, planned: int
) -> dict[str, Any]:
    """The same for programs: metadata, counts, errors by type, and where the results lie."""
    errors = {
        name: {"count": count, "example": one_line(text)} for name, (count, text) in errors_by_type(outputs).items()
    }
    return {
        **metadata,
        "num_planned": planned,
        "errors": errors,
        "reward_errors": {
            name: {"count": count, "example": text} for name, (count, text) in failed_functions(outputs).items()
        },
        "stop_conditions": dict(Counter(str(output.get("stop_condition")) for output in outputs)),
        "results_path": None if results is None else str(results),
    }
