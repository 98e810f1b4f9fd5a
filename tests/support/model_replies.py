"""Answers of the other APIs that models speak, for `openai_server`: completions, Responses, Anthropic Messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from openai_server import Reply


def _json(answer: Mapping[str, Any], headers: Mapping[str, str] | None = None, status: int = 200) -> Reply:
    return Reply(status, json.dumps(answer).encode(), headers or {})


def text_completion(text: str, finish_reason: str = "stop", **choice: Any) -> Reply:
    """A completion of plain text."""
    return _json(
        {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 1,
            "model": "test-model",
            "choices": [{"index": 0, "text": text, "finish_reason": finish_reason, "logprobs": None, **choice}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
    )


def said(*texts: str) -> dict[str, Any]:
    """An output item of the Responses API: a message."""
    parts = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []} for text in texts]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": parts}


def called(name: str, arguments: Any, call_id: str = "call_1") -> dict[str, Any]:
    """An output item of the Responses API: a call."""
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"type": "function_call", "id": "fc_1", "call_id": call_id, "name": name, "arguments": written}


def thought(*summaries: str, **fields: Any) -> dict[str, Any]:
    """An output item of the Responses API: reasoning."""
    parts = [{"type": "summary_text", "text": text} for text in summaries]
    return {"type": "reasoning", "id": "rs_1", "summary": parts, "encrypted_content": None, "status": None, **fields}


def response(*output: Mapping[str, Any], **fields: Any) -> Reply:
    """A response of the Responses API."""
    return _json(
        {
            "id": "resp_1",
            "object": "response",
            "created_at": 1.0,
            "model": "test-model",
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "output": list(output),
            "usage": {
                "input_tokens": 10,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens": 6,
                "output_tokens_details": {"reasoning_tokens": 5},
                "total_tokens": 16,
            },
            **fields,
        }
    )


def message(*content: Mapping[str, Any], stop_reason: str = "end_turn", **fields: Any) -> Reply:
    """A message of the Anthropic API."""
    return _json(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "test-model",
            "content": list(content),
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 7,
                "cache_creation_input_tokens": 2,
                "cache_read_input_tokens": 4,
                "output_tokens": 5,
                "output_tokens_details": {"thinking_tokens": 3},
            },
            **fields,
        }
    )


def block(text: str) -> dict[str, Any]:
    """A block of text of the Anthropic API."""
    return {"type": "text", "text": text, "citations": None}


def anthropic_error(status: int, kind: str, text: str, headers: Mapping[str, str] | None = None) -> Reply:
    """An error in the shape of the Anthropic API."""
    return _json({"type": "error", "error": {"type": kind, "message": text}}, headers, status)
