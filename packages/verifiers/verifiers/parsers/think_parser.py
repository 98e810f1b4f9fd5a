"""Parsers for models that think aloud before they answer."""

from __future__ import annotations

from typing import Any

from verifiers.parsers.parser import Parser


class ThinkParser(Parser):
    """The answer is what follows the last `</think>`; nothing without one."""

    def parse(self, text: str) -> Any:
        return self.extract_fn(text.rpartition("</think>")[2].strip() if "</think>" in text else "")


class MaybeThinkParser(Parser):
    """The answer is what follows the last `</think>`, or everything without one."""

    def parse(self, text: str) -> Any:
        return self.extract_fn(text.rpartition("</think>")[2].strip())
