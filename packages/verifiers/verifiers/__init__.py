"""Environments, rubrics and rollouts for language models.

Names load when first used, so that `import verifiers as vf` costs nothing that an environment does not need.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.100"

_NAMES: dict[str, tuple[str, ...]] = {
    "verifiers.types": (
        "AssistantMessage",
        "ChatMessage",
        "ChatMessages",
        "ClientConfig",
        "GenerateOutputs",
        "GroupRewardFunc",
        "Info",
        "Message",
        "Messages",
        "Prices",
        "Response",
        "ResponseMessage",
        "ResponseTokens",
        "RewardFunc",
        "RolloutInput",
        "RolloutOutput",
        "RolloutTiming",
        "SamplingArgs",
        "State",
        "SystemMessage",
        "TextMessage",
        "Tool",
        "ToolCall",
        "ToolMessage",
        "TrajectoryStep",
        "Usage",
        "UserMessage",
    ),
    "verifiers.errors": (
        "EmptyModelResponseError",
        "Error",
        "InfraError",
        "InvalidModelResponseError",
        "ModelAuthError",
        "ModelError",
        "OverlongPromptError",
        "RateLimitError",
        "RolloutError",
        "SandboxError",
        "ScoringTimeoutError",
        "ToolCallError",
        "ToolError",
        "ToolParseError",
        "TunnelError",
    ),
    "verifiers.decorators": ("cleanup", "stop", "teardown"),
    "verifiers.data": ("RowTable",),
    "verifiers.loading": ("MissingKeyError", "ensure_keys", "load_environment"),
    "verifiers.envs.environment": ("Environment",),
    "verifiers.envs.multiturn_env": ("MultiTurnEnv",),
    "verifiers.envs.singleturn_env": ("SingleTurnEnv",),
    "verifiers.envs.tool_env": ("ToolEnv",),
    "verifiers.envs.integrations.openenv_env": ("OpenEnvEnv", "OpenEnvEpisodicSumRubric"),
    "verifiers.rubrics.rubric": ("Rubric",),
    "verifiers.rubrics.rubric_group": ("RubricGroup",),
    "verifiers.parsers.parser": ("Parser",),
    "verifiers.parsers.think_parser": ("MaybeThinkParser", "ThinkParser"),
    "verifiers.parsers.xml_parser": ("XMLParser",),
    "verifiers.clients.client": ("Client",),
    "verifiers.clients.resolve": ("as_client",),
    "verifiers.clients.openai_chat_completions_client": ("OpenAIChatCompletionsClient",),
    "verifiers.clients.openai_chat_completions_token_client": ("OpenAIChatCompletionsTokenClient",),
    "verifiers.clients.openai_completions_client": ("OpenAICompletionsClient",),
    "verifiers.clients.openai_responses_client": ("OpenAIResponsesClient",),
    "verifiers.clients.anthropic_messages_client": ("AnthropicMessagesClient",),
    "verifiers.utils.data_utils": ("extract_boxed_answer", "extract_hash_answer"),
}
_WHERE = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module 'verifiers' has no attribute '{name}'")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
