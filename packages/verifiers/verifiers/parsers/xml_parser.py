"""XMLParser: answers in named tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from verifiers.parsers.parser import Parser
from verifiers.types import Messages
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
        """The text of the tag `answer_field`, its alternatives not looked at: in messages the first one of the last
        message that has any, in a string the last one; None without.
        """
        whole = isinstance(completion, str)
        texts = [completion] if whole else [content_text(m.get("content")) for m in self._spoken_last_first(completion)]
        for text in texts:
            value = getattr(self.parse(text, last=whole), self.answer_field, None)
            if value is not None:
                return self.extract_fn(value)
        return None

    def _spoken_last_first(self, completion: Any) -> Messages:
        return self.get_assistant_messages(completion)[::-1]

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
        shown = [tags[0] if len(tags) == 1 else f"[ {' | '.join(tags)} ]" for _, tags in self._fields]
        return "\n".join(f"<{name}>\n...\n</{name}>" for name in shown)

    def get_format_reward_func(self) -> Callable[..., float]:
        """How well the model's messages keep the format, averaged over them; 0.0 without any.

        A message earns 0.2 in any case, 0.2 for opening with a first field's tag, 0.2 for closing with a last
        field's, and, once one field is complete, 0.4 times the share of the fields of which it has some tag.
        """

        def format_reward_func(completion: Any, **_: Any) -> float:
            scores = [
                self._format_score(content_text(m.get("content"))) for m in self.get_assistant_messages(completion)
            ]
            return sum(scores) / len(scores) if scores else 0.0

        return format_reward_func

    def _format_score(self, text: str) -> float:
        score = 0.2
        if any(value is not None for value in vars(self.parse(text)).values()):
            named = sum(any(f"<{tag}>" in text or f"</{tag}>" in text for tag in tags) for _, tags in self._fields)
            score += 0.4 * named / len(self._fields)
        if any(text.strip().startswith(f"<{tag}>") for tag in self._fields[0][1]):
            score += 0.2
        if any(text.strip().endswith(f"</{tag}>") for tag in self._fields[-1][1]):
            score += 0.2
        return score
