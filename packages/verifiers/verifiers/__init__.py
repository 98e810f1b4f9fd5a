"""Environments, rubrics and rollouts for language models.

Names load when first used, so that `import verifiers as vf` costs nothing that an environment does not need.
"""

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.100"

_NAMES: dict[str, tuple[str, ...]] = {
    "verifiers.types": (
        "AnthropicThinkingBlock",
        "AssistantMessage",
        "ChatMessage",
        "ChatMessages",
        "ClientConfig",
        "ClientType",
        "ContentPart",
        "DatasetBuilder",
        "ErrorInfo",
        "FinishReason",
        "GenerateMetadata",
        "GenerateOutputs",
        "GenericContentPart",
        "GroupRewardFunc",
        "ImageUrlContentPart",
        "ImageUrlSource",
        "IndividualRewardFunc",
        "Info",
        "InputAudioContentPart",
        "InputAudioSource",
        "JsonPrimitive",
        "LogCallback",
        "Message",
        "MessageContent",
        "MessageType",
        "Messages",
        "Prices",
        "ProgressCallback",
        "RedactedThinkingBlock",
        "Response",
        "ResponseMessage",
        "ResponseTokens",
        "RewardFunc",
        "RolloutInput",
        "RolloutOutput",
        "RolloutTiming",
        "SamplingArgs",
        "StartCallback",
        "State",
        "SystemMessage",
        "TextContentPart",
        "TextMessage",
        "ThinkingBlock",
        "TimeSpan",
        "TimeSpans",
        "TokenUsage",
        "Tool",
        "ToolCall",
        "ToolMessage",
        "TrajectoryStep",
        "TrajectoryStepTokens",
        "Usage",
        "UserMessage",
    ),
    "verifiers.errors": (
        "BrowserSandboxError",
        "EmptyModelResponseError",
        "Error",
        "InfraError",
        "InvalidModelResponseError",
        "JudgeError",
        "ModelAuthError",
        "ModelError",
        "OverlongPromptError",
        "RateLimitError",
        "RepeatedError",
        "RolloutError",
        "SandboxError",
        "ScoringTimeoutError",
        "ToolCallError",
        "ToolError",
        "ToolParseError",
        "TunnelError",
        "UnreadableResponseError",
    ),
    "verifiers.decorators": ("cleanup", "stop", "teardown"),
    "verifiers.data": ("RowTable",),
    "verifiers.loading": ("MissingKeyError", "ensure_keys", "load_environment"),
    "verifiers.envs.env_group": ("EnvGroup",),
    "verifiers.envs.environment": ("Environment",),
    "verifiers.envs.multiturn_env": ("MultiTurnEnv",),
    "verifiers.envs.singleturn_env": ("SingleTurnEnv",),
    "verifiers.envs.tool_env": ("ToolEnv",),
    "verifiers.envs.stateful_tool_env": ("StatefulToolEnv",),
    "verifiers.envs.sandbox_env": ("SandboxEnv",),
    "verifiers.envs.python_env": ("PythonEnv",),
    "verifiers.envs.experimental.gym_env": ("GymEnv",),
    "verifiers.envs.experimental.mcp_env": ("MCPEnv",),
    "verifiers.envs.integrations.openenv_env": ("OpenEnvEnv", "OpenEnvEpisodicSumRubric"),
    "verifiers.envs.integrations.reasoninggym_env": ("ReasoningGymEnv",),
    "verifiers.envs.integrations.textarena_env": ("TextArenaEnv",),
    "verifiers.rubrics.judge_rubric": ("JudgeRubric",),
    "verifiers.rubrics.math_rubric": ("MathRubric",),
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
    "verifiers.utils.data_utils": ("extract_boxed_answer", "extract_hash_answer", "load_example_dataset"),
    "verifiers.utils.logging_utils": (
        "log_level",
        "print_prompt_completions_sample",
        "quiet_verifiers",
        "setup_logging",
    ),
}
_WHERE = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    module = _WHERE.get(name)
    if module is None:
        reason = None if name.startswith("__") else import_module("verifiers.left_out").REASONS.get(name)
        said = f"verifiers.{name} is left out: {reason}" if reason else f"module 'verifiers' has no attribute '{name}'"
        raise AttributeError(said)
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})


if level := os.environ.get("VF_LOG_LEVEL"):
    import_module("verifiers.utils.logging_utils").setup_from_environment(level)
