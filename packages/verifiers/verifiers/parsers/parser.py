"""Parser: what part of a completion is the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from verifiers.types import Messages
from verifiers.utils.message_utils import content_text, normalize_messages


class Parser:
    """The answer is the last assistant message, through `extract_fn`."""

    def __init__(self, extract_fn: Callable[[str], Any] = lambda text: text) -> None:
        self.extract_fn = extract_fn

    def parse(self, text: str) -> Any:
        """The answer in one text."""
        return self.extract_fn(text)

    def _of_role(self, completion: Any, role: str) -> Messages:
        return [message for message in normalize_messages(completion) if message.get("role") == role]

    def get_assistant_messages(self, completion: Any) -> Messages:
        """The model's messages."""
        return self._of_role(completion, "assistant")

    def get_system_messages(self, completion: Any) -> Messages:
        """The system messages."""
        return self._of_role(completion, "system")

    def get_user_messages(self, completion: Any) -> Messages:
        """The user's and the environment's messages."""
        return self._of_role(completion, "user")

    def get_tool_messages(self, completion: Any) -> Messages:
        """What tools answered."""
        return self._of_role(completion, "tool")

    def parse_answer(self, completion: Any) -> Any:
        """The answer in a completion: messages or a string. None when the model said nothing."""
        if isinstance(completion, str):
            return self.parse(completion)
        spoken = self.get_assistant_messages(completion)
        return self.parse(content_text(spoken[-1].get("content"))) if spoken else None

    def get_format_reward_func(self) -> Callable[..., float]:
        """A reward function for the format; without a format it is always 1.0."""

        def format_reward_func(completion: Any, **_: Any) -> float:
            return 1.0

        return format_reward_func
