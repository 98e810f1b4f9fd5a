"""Adding up what the model calls of a rollout used."""

from __future__ import annotations

from verifiers.types import Response


def count_usage(tracker: dict[str, float], response: Response) -> None:
    """Add one call: input_tokens, output_tokens, those of the last call (final_…), and, where the endpoint or the prices
    tell, cached_input_tokens, reasoning_tokens and cost (USD).
    """
    usage = response.usage
    if usage is None:
        return
    tracker["input_tokens"] += usage.prompt_tokens
    tracker["output_tokens"] += usage.completion_tokens
    tracker["final_input_tokens"] = usage.prompt_tokens
    tracker["final_output_tokens"] = usage.completion_tokens
    if usage.cached_tokens:
        tracker["cached_input_tokens"] = tracker.get("cached_input_tokens", 0) + usage.cached_tokens
    if usage.reasoning_tokens:
        tracker["reasoning_tokens"] = tracker.get("reasoning_tokens", 0) + usage.reasoning_tokens
    if response.cost is not None:
        tracker["cost"] = tracker.get("cost", 0.0) + response.cost
