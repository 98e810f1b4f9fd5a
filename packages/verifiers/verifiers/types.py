"""The words of a rollout: messages, tools, responses, timing and the state that carries them.

Messages are dicts with attribute access, so `message["content"]`, `message.content`, `message.get("content")` and
`json.dumps(message)` all work, and code written for plain dicts cannot tell the difference.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, Self, TypedDict

from verifiers import parts
from verifiers.clients.config import ClientConfig as ClientConfig
from verifiers.clients.config import Prices as Prices
from verifiers.records import Record as Record

AnthropicThinkingBlock = parts.AnthropicThinkingBlock
ContentPart = parts.ContentPart
GenericContentPart = parts.GenericContentPart
ImageUrlContentPart = parts.ImageUrlContentPart
ImageUrlSource = parts.ImageUrlSource
InputAudioContentPart = parts.InputAudioContentPart
InputAudioSource = parts.InputAudioSource
RedactedThinkingBlock = parts.RedactedThinkingBlock
TextContentPart = parts.TextContentPart
ThinkingBlock = parts.ThinkingBlock


class ToolCallFunction(Record):
    """The `function` half of a tool call in the OpenAI shape."""

    FIELDS = ("name", "arguments")


class ToolCall(Record):
    """One call of a tool by the model: `id`, `name` and `arguments` (JSON text).

    The OpenAI shape reads as well: `call.function.name`, `call["function"]["arguments"]`, `call["type"]`; and may be
    given.
    """

    FIELDS = ("id", "name", "arguments")

    def __init__(self, id: str = "", name: str | None = None, arguments: str | None = None, **extra: Any) -> None:
        function = extra.pop("function", None)
        extra.pop("type", None)
        if function is not None:
            reads = function if isinstance(function, Mapping) else vars(function)
            name = reads.get("name") if name is None else name
            arguments = reads.get("arguments") if arguments is None else arguments
        super().__init__(id=id, name=name or "", arguments="{}" if arguments is None else arguments, **extra)

    @property
    def function(self) -> ToolCallFunction:
        return ToolCallFunction(name=self["name"], arguments=self["arguments"])

    @property
    def type(self) -> str:
        return "function"

    def __missing__(self, key: str) -> Any:
        if key in ("function", "type"):
            return getattr(self, key)
        return super().__missing__(key)

    def __contains__(self, key: object) -> bool:
        return key in ("function", "type") or super().__contains__(key)

    def get(self, key: Any, default: Any = None, /) -> Any:
        try:
            return self[key]
        except KeyError:
            return default


class Message(Record):
    """One chat message. `role` is fixed by the class."""

    ROLE: ClassVar[str] = ""
    FIELDS = ("role", "content")

    def __init__(self, content: Any = None, **fields: Any) -> None:
        role = fields.pop("role", None) or self.ROLE
        given = {key: value for key, value in fields.items() if value is not None}
        super().__init__(role=role, content=content, **given)


class SystemMessage(Message):
    """Instructions to the model."""

    ROLE = "system"


class UserMessage(Message):
    """What the person or the environment says to the model."""

    ROLE = "user"


class TextMessage(Message):
    """Plain text without chat roles."""

    ROLE = "text"


class AssistantMessage(Message):
    """What the model said: `content`, `reasoning_content`, `tool_calls` (list of ToolCall), `refusal`.

    `native_content`: the answer in the provider's own blocks, only where it must be given back word for word: Anthropic's
    signed thinking, reasoning items of the Responses API. `reasoning_details`: the same of OpenRouter and its like.
    """

    ROLE = "assistant"
    FIELDS = ("role", "content", "reasoning_content", "tool_calls", "refusal", "native_content", "reasoning_details")

    def __init__(self, content: Any = None, tool_calls: Any = None, **fields: Any) -> None:
        calls = [call if isinstance(call, ToolCall) else as_tool_call(call) for call in tool_calls or ()]
        super().__init__(content=content, tool_calls=calls or None, **fields)


class ResponseMessage(AssistantMessage):
    """An assistant's message on its way into a Response, which takes `finish_reason`, `is_truncated` and `tokens` out of it:
    the shape in which clients written for 0.1.14 give an answer.
    """


class ToolMessage(Message):
    """What a tool answered to the call `tool_call_id`."""

    ROLE = "tool"
    FIELDS = ("role", "content", "tool_call_id", "name")


def as_tool_call(value: Any) -> ToolCall:
    """A ToolCall from either shape: a mapping, JSON text of one, or an object with attributes."""
    if isinstance(value, ToolCall):
        return value
    if isinstance(value, str):
        import json

        value = json.loads(value)
    if not isinstance(value, Mapping):
        value = value.model_dump() if hasattr(value, "model_dump") else vars(value)
    return ToolCall(**value)


Messages = list[Message]
MessageContent = str | list[ContentPart]
ClientType = Literal[
    "openai_chat_completions",
    "openai_chat_completions_token",
    "openai_completions",
    "openai_responses",
    "anthropic_messages",
]
MessageType = Literal["chat", "completion"]
FinishReason = Literal["stop", "length", "tool_calls"] | None
MessagesLike = str | list[Any]
"""What an author may give for messages: a string, or a list of messages of ours, dicts or objects."""
ChatMessage = dict[str, Any]
ChatMessages = list[ChatMessage]
Info = dict[str, Any]
SamplingArgs = dict[str, Any]
JsonPrimitive = str | int | float | bool | None
IndividualRewardFunc = Callable[..., float | Awaitable[float]]
GroupRewardFunc = Callable[..., list[float] | Awaitable[list[float]]]
RewardFunc = IndividualRewardFunc | GroupRewardFunc
DatasetBuilder = Callable[[], Any]
"""A function without arguments that gives a dataset; called when the rows are first needed."""
StartCallback = Callable[[int], Any]
ProgressCallback = Callable[..., Any]
LogCallback = Callable[[str], Any]


class Tool(Record):
    """A tool the model may call: `name`, `description`, `parameters` (JSON Schema of the arguments), `strict`."""

    FIELDS = ("name", "description", "parameters", "strict")

    def __init__(
        self,
        name: str,
        description: str = "",
        parameters: Mapping[str, Any] | None = None,
        strict: bool | None = None,
        **extra: Any,
    ) -> None:
        schema = dict(parameters) if parameters else {"type": "object", "properties": {}}
        super().__init__(name=name, description=description, parameters=schema, strict=strict, **extra)

    def to_openai(self) -> dict[str, Any]:
        """The tool in the OpenAI function shape, as chat completions take it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {
            "type": "function",
            "function": function if self.strict is None else {**function, "strict": self.strict},
        }


@dataclass(slots=True)
class Usage:
    """Tokens of one model call, as the endpoint counted them. `cached_tokens`: those of the prompt that it had read
    before; `reasoning_tokens`: those of the completion that nobody sees.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0


@dataclass(slots=True)
class ResponseTokens:
    """The tokens of one model call, where the endpoint gives them: what it was shown and what it said.

    A mask has 1 for a token that counts, 0 for one that is only there; logprobs are natural logarithms. All lists of a
    side are of one length.
    """

    prompt_ids: list[int]
    prompt_mask: list[int]
    completion_ids: list[int]
    completion_mask: list[int]
    completion_logprobs: list[float]


@dataclass(slots=True)
class Response:
    """One answer of a model, whatever the provider. `finish_reason` in the words of chat completions: stop, length,
    tool_calls, content_filter. `is_truncated`: cut off by a token limit. `cost`: USD, where prices are known.

    `finish_reason`, `is_truncated` and `tokens` are attributes of the message too, but not keys, so that they are not part
    of the conversation.
    """

    message: AssistantMessage
    usage: Usage | None = None
    finish_reason: str | None = None
    is_truncated: bool = False
    id: str = ""
    created: int = 0
    model: str = ""
    tokens: ResponseTokens | None = None
    cost: float | None = None

    def __post_init__(self) -> None:
        message = self.message
        if isinstance(message, ResponseMessage):
            self.finish_reason = message.pop("finish_reason", None) or self.finish_reason
            self.is_truncated = message.pop("is_truncated", False) or self.is_truncated
            self.tokens = message.pop("tokens", None) or self.tokens
        vars(message).update(finish_reason=self.finish_reason, is_truncated=self.is_truncated, tokens=self.tokens)

    @property
    def choices(self) -> list[SimpleNamespace]:
        """The answer where chat completions have it, as environments for 0.1.10 read it."""
        return [SimpleNamespace(index=0, message=self.message, finish_reason=self.finish_reason)]


class TrajectoryStepTokens(TypedDict):
    """The tokens of one turn, cut to `max_seq_len`: see `verifiers.utils.token_utils.step_tokens`."""

    prompt_ids: list[int]
    prompt_mask: list[int]
    completion_ids: list[int]
    completion_mask: list[int]
    completion_logprobs: list[float]
    overlong_prompt: bool
    is_truncated: bool


class TrajectoryStep(TypedDict):
    """One turn: what the model was shown, what it said, and what the environment made of it."""

    prompt: Messages
    completion: Messages
    response: Response | None
    tokens: dict[str, Any] | None
    reward: float | None
    advantage: float | None
    is_truncated: bool
    trajectory_id: str
    extras: dict[str, Any]


class RolloutInput(TypedDict, total=False):
    """A row of the dataset as a rollout gets it; other columns ride along."""

    prompt: MessagesLike
    example_id: int
    answer: str
    info: Info | str
    task: Any
    rollout_index: int


@dataclass(slots=True)
class TimeSpan:
    """Start and end in seconds of `time.time()`."""

    start: float = 0.0
    end: float = 0.0

    @property
    def duration(self) -> float:
        return max(0.0, self.end - self.start)


@dataclass(slots=True)
class TimeSpans:
    """Several spans of one kind, such as all model calls of a rollout."""

    spans: list[TimeSpan] = field(default_factory=list)

    @property
    def duration(self) -> float:
        return sum([span.end - span.start for span in self.spans if span.end > span.start])


@dataclass(slots=True)
class RolloutTiming:
    """Where the time of a rollout went, in seconds. The older millisecond names read as items: `timing["total_ms"]`."""

    start_time: float = field(default_factory=time.time)
    setup: TimeSpan = field(default_factory=TimeSpan)
    generation: TimeSpan = field(default_factory=TimeSpan)
    scoring: TimeSpan = field(default_factory=TimeSpan)
    model: TimeSpans = field(default_factory=TimeSpans)
    env: TimeSpans = field(default_factory=TimeSpans)

    @property
    def total(self) -> float:
        return max(0.0, (self.scoring.end or self.generation.end) - self.generation.start)

    @property
    def overhead(self) -> float:
        spent = self.setup.duration + self.model.duration + self.env.duration + self.scoring.duration
        return max(0.0, self.total - spent)

    def __getitem__(self, key: str) -> float:
        seconds = {
            "start_time": self.start_time,
            "generation_ms": self.generation.duration * 1000,
            "scoring_ms": self.scoring.duration * 1000,
            "total_ms": self.total * 1000,
        }
        return seconds[key]

    def to_dict(self) -> dict[str, float]:
        """Seconds by part, as the result files hold them."""
        seconds = {
            "start_time": self.start_time,
            "setup": self.setup.duration,
            "generation": self.generation.duration,
            "scoring": self.scoring.duration,
            "model": self.model.duration,
            "env": self.env.duration,
            "total": self.total,
        }
        spent = seconds["setup"] + seconds["model"] + seconds["env"] + seconds["scoring"]
        return {**seconds, "overhead": max(0.0, seconds["total"] - spent)}


class State(dict[str, Any]):
    """Everything one rollout knows. `prompt`, `answer`, `info` and `example_id` live in `state["input"]` and read
    from here. `oai_tools` reads and sets `tool_defs` in the OpenAI function shape, as environments for 0.1.10 do.
    """

    INPUT_FIELDS: ClassVar[frozenset[str]] = frozenset({"prompt", "answer", "info", "example_id"})

    def _input(self, key: object) -> dict[Any, Any] | None:
        """The input, when it holds `key` for this state."""
        if key in self.INPUT_FIELDS:
            held = dict.get(self, "input")
            if isinstance(held, dict) and key in held:
                return held
        return None

    # Read hundreds of times in a rollout: what is in the state itself is found without a line of Python.
    def __missing__(self, key: str) -> Any:
        held = self._input(key)
        if held is None:
            if key == "oai_tools" and dict.__contains__(self, "tool_defs"):
                from verifiers.utils.message_utils import normalize_tool

                return [normalize_tool(tool).to_openai() for tool in self["tool_defs"]]
            raise KeyError(key)
        return held[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self.INPUT_FIELDS and not dict.__contains__(self, key) and (held := self._input(key)) is not None:
            held[key] = value
        elif key == "oai_tools":
            from verifiers.utils.message_utils import normalize_tool

            dict.__setitem__(self, "tool_defs", [normalize_tool(tool) for tool in value or ()])
        else:
            dict.__setitem__(self, key, value)

    def pop(self, key: Any, /, *default: Any) -> Any:
        held = None if dict.__contains__(self, key) else self._input(key)
        return dict.pop(self if held is None else held, key, *default)

    def setdefault(self, key: str, default: Any = None, /) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    def __contains__(self, key: object) -> bool:
        if dict.__contains__(self, key) or self._input(key) is not None:
            return True
        return key == "oai_tools" and dict.__contains__(self, "tool_defs")

    def get(self, key: Any, default: Any = None, /) -> Any:
        if dict.__contains__(self, key):
            return dict.__getitem__(self, key)
        held = self._input(key)
        if held is not None:
            return held[key]
        return self[key] if key == "oai_tools" and key in self else default

    @property
    def messages(self) -> Iterator[Message]:
        """The whole conversation so far, prompt first."""
        yield from self["prompt"]
        yield from self.get("completion") or ()


RolloutOutput = dict[str, Any]
"""One row of results.jsonl; its fields are listed in `verifiers.evaluation.outputs`."""


GenerateMetadata = dict[str, Any]
"""What a run was and how it went; its numbers are those of `prime_evals.summarize`."""


class GenerateOutputs(TypedDict):
    """What `generate` and `evaluate` return."""

    outputs: list[RolloutOutput]
    metadata: GenerateMetadata


class TokenUsage(TypedDict):
    """Tokens of one rollout, in its row: over all turns, and in the last one."""

    input_tokens: int
    output_tokens: int
    final_input_tokens: int
    final_output_tokens: int


class ErrorInfo(TypedDict):
    """An error in a row: its kind, what caused it, its sentence."""

    error: str
    error_chain_repr: str
    error_chain_str: str
    message: str
