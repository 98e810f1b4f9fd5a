"""XMLParser: answers in named tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from verifiers.parsers.parser import Parser
from verifiers.utils.message_utils import content_text


class XMLParser(Parser):
    """Reads `<field>…</field>`. A field may be a tuple of alternative tags; the first is its canonical name.

    answer_field: the field that holds the answer.
    """

    def __init__(
        self,
        fields: Sequence[str | Sequence[str]],
        answer_field: str = "answer",
        extract_fn: Callable[[str], Any] = lambda text: text,
    ) -> None:
        super().__init__(extract_fn)
        self.answer_field = answer_field
        self._fields = [(field, [field]) if isinstance(field, str) else (field[0], list(field)) for field in fields]
        names = [name for name, _ in self._fields]
        if len(set(names)) != len(names):
            raise ValueError(f"Duplicate field name in {names}.")

    def get_fields(self) -> list[str]:
        """The canonical names, in order."""
        return [name for name, _ in self._fields]

    def parse(self, text: str, strip: bool = True, last: bool = False) -> SimpleNamespace:
        """A namespace with every tag's text, None where it is missing; the first occurrence, or the last."""
        found: dict[str, str | None] = {}
        for _, tags in self._fields:
            for tag in tags:
                matches = re.findall(rf"<{re.escape(tag)}>(.*?)</{re.escape(tag)}>", text, re.DOTALL)
                content = matches[-1 if last else 0] if matches else None
                found[tag] = content.strip() if content is not None and strip else content
        return SimpleNamespace(**found)

    def parse_answer(self, completion: Any) -> Any:
        """The answer field of the last message that has one, or None."""
        texts = (
            [completion]
            if isinstance(completion, str)
            else [content_text(message.get("content")) for message in reversed(self.get_assistant_messages(completion))]
        )
        tags = dict(self._fields).get(self.answer_field, [self.answer_field])
        for text in texts:
            parsed = self.parse(text, last=True)
            for tag in tags:
                value = getattr(parsed, tag, None)
                if value is not None:
                    return self.extract_fn(value)
        return None

    def format(self, **kwargs: Any) -> str:
        """The fields as text, in order. Raises ValueError for a field that is missing."""
        parts = []
        for name, tags in self._fields:
            value = next((kwargs[tag] for tag in tags if tag in kwargs), None)
            if value is None:
                raise ValueError(f"Missing value for field {name!r} (one of {tags}).")
            parts.append(f"<{name}>\n{value}\n</{name}>")
        return "\n".join(parts)

    def get_format_str(self) -> str:
        """How a completion should look, for a prompt."""
        return "\n".join(f"<{' | '.join(tags)}>\n...\n</{' | '.join(tags)}>" for _, tags in self._fields)

    def get_format_reward_func(self) -> Callable[..., float]:
        """How well the model's messages keep the format, averaged over them; 0.0 without any.

        A message earns 0.4 times the share of the fields that are there, 0.2 for having any, 0.2 for opening with a
        first field's tag and 0.2 for closing with a last field's.
        """

        def format_reward_func(completion: Any, **_: Any) -> float:
            scores = [
                self._format_score(content_text(m.get("content"))) for m in self.get_assistant_messages(completion)
            ]
            return sum(scores) / len(scores) if scores else 0.0

        return format_reward_func

    def _format_score(self, text: str) -> float:
        parsed = self.parse(text)
        present = sum(any(getattr(parsed, tag) is not None for tag in tags) for _, tags in self._fields)
        score = 0.4 * present / len(self._fields) + (0.2 if present else 0.0)
        if any(text.strip().startswith(f"<{tag}>") for tag in self._fields[0][1]):
            score += 0.2
        if any(text.strip().endswith(f"</{tag}>") for tag in self._fields[-1][1]):
            score += 0.2
        return score
