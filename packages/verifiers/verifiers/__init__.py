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
    "verifiers.envs.stateful_tool_env": ("StatefulToolEnv",),
    "verifiers.envs.sandbox_env": ("SandboxEnv",),
    "verifiers.envs.python_env": ("PythonEnv",),
    "verifiers.envs.experimental.gym_env": ("GymEnv",),
    "verifiers.envs.experimental.mcp_env": ("MCPEnv",),
    "verifiers.envs.integrations.openenv_env": ("OpenEnvEnv", "OpenEnvEpisodicSumRubric"),
    "verifiers.envs.integrations.reasoninggym_env": ("ReasoningGymEnv",),
    "verifiers.envs.integrations.textarena_env": ("TextArenaEnv",),
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
_LEFT_OUT = {
    "CliAgentEnv": "it runs a foreign program in a sandbox and answers that program's own calls of a model, for which a "
    "sandbox would have to reach a server of this process. Use vf.SandboxEnv, whose model calls the tools itself.",
    "HarborEnv": "its tasks are container images with a test script each, played by programs as CliAgentEnv runs them. "
    "Use vf.SandboxEnv with get_sandbox_request for the task's image and post_rollout for its tests.",
    "BrowserEnv": "it drives browsers of a paid service. Use vf.MCPEnv with an MCP server for a browser, "
    "or vf.SandboxEnv with an image that has one.",
}
_WHERE = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    module = _WHERE.get(name)
    if name in _LEFT_OUT:
        raise AttributeError(f"verifiers.{name} is left out: {_LEFT_OUT[name]}")
    if module is None:
        raise AttributeError(f"module 'verifiers' has no attribute '{name}'")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
