"""The tokens of a turn, as a trainer wants them."""

from __future__ import annotations

from typing import Any

from verifiers.types import ResponseTokens


def step_tokens(tokens: ResponseTokens, max_seq_len: int | None = None) -> dict[str, Any]:
    """The `tokens` of a TrajectoryStep, cut to `max_seq_len` (prompt and completion together).

    Keys: prompt_ids, prompt_mask, completion_ids, completion_mask (ints), completion_logprobs (floats), overlong_prompt
    (the prompt alone is longer, so that nothing of the completion is left), is_truncated (something was cut).
    """
    room = None if max_seq_len is None else max(0, max_seq_len - len(tokens.prompt_ids))
    overlong = max_seq_len is not None and len(tokens.prompt_ids) > max_seq_len
    return {
        "prompt_ids": tokens.prompt_ids[:max_seq_len],
        "prompt_mask": tokens.prompt_mask[:max_seq_len],
        "completion_ids": tokens.completion_ids[:room],
        "completion_mask": tokens.completion_mask[:room],
        "completion_logprobs": tokens.completion_logprobs[:room],
        "overlong_prompt": overlong,
        "is_truncated": overlong or (room is not None and len(tokens.completion_ids) > room),
    }
