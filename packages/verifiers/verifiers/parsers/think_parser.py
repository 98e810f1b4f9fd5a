"""Parsers for models that think aloud before they answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from verifiers.parsers.parser import Parser
from verifiers.utils.message_utils import content_text


class ThinkParser(Parser):
    """The answer is what follows the last `</think>`; nothing without one."""

    def parse(self, text: str) -> Any:
        return self.extract_fn(text.rpartition("</think>")[2].strip() if "</think>" in text else "")

    def get_format_reward_func(self) -> Callable[..., float]:
        """The share of the model's messages that open with one `<think>…</think>` and say something after it."""

        def format_reward_func(completion: Any, **_: Any) -> float:
            texts = [content_text(message.get("content")) for message in self.get_assistant_messages(completion)]
            return sum(map(_thinks_once, texts)) / len(texts) if texts else 0.0

        return format_reward_func


class MaybeThinkParser(Parser):
    """The answer is what follows the last `</think>`, or everything without one."""

    def parse(self, text: str) -> Any:
        return self.extract_fn(text.rpartition("</think>")[2].strip())


def _thinks_once(text: str) -> bool:
    said = text.strip()
    once = said.count("<think>") == said.count("</think>") == 1
    return once and said.startswith("<think>") and bool(said.partition("</think>")[2].strip())
