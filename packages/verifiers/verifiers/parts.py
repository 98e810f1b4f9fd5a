"""The parts of a message that is more than text, in the shape of the OpenAI API; each is a dict with attribute access."""

from __future__ import annotations

from typing import Any, ClassVar

from verifiers.records import Record


class ContentPart(Record):
    """One part of a message's content. `type` is fixed by the class."""

    TYPE: ClassVar[str] = ""
    FIELDS = ("type",)

    def __init__(self, **fields: Any) -> None:
        super().__init__(**{"type": self.TYPE, **fields})


class TextContentPart(ContentPart):
    """`text`."""

    TYPE = "text"
    FIELDS = ("type", "text")


class ImageUrlSource(Record):
    """Where an image is: `url`, which may be a data URL."""

    FIELDS = ("url",)


class ImageUrlContentPart(ContentPart):
    """`image_url`: an ImageUrlSource."""

    TYPE = "image_url"
    FIELDS = ("type", "image_url")


class InputAudioSource(Record):
    """Sound: `data` (base64) and `format` ("wav", "mp3")."""

    FIELDS = ("data", "format")


class InputAudioContentPart(ContentPart):
    """`input_audio`: an InputAudioSource."""

    TYPE = "input_audio"
    FIELDS = ("type", "input_audio")


class GenericContentPart(ContentPart):
    """A part of any other `type`, which is given."""


class ThinkingBlock(ContentPart):
    """What a model thought, as its provider wants it back: `thinking` and its `signature`."""

    TYPE = "thinking"
    FIELDS = ("type", "thinking", "signature")


class RedactedThinkingBlock(ContentPart):
    """What a model thought, encrypted: `data`."""

    TYPE = "redacted_thinking"
    FIELDS = ("type", "data")


AnthropicThinkingBlock = ThinkingBlock | RedactedThinkingBlock
