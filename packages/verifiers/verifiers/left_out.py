"""Names of the official library that are not in this one: each with the reason, and what to use."""

_NEWER = (
    "it belongs to the environments of tasksets and harnesses that began with verifiers 0.1.14, which this library leaves "
    "alone. Write a vf.SingleTurnEnv, vf.MultiTurnEnv or vf.ToolEnv."
)
_TRAINING = "it is part of the trainer verifiers-rl. Train with a trainer of your choice: see verifiers.training."
_COMMAND = "it was the official command's own. Here that is vf-eval and verifiers.evaluation."
_LEFT_OUT: dict[str, tuple[str, ...]] = {
    _NEWER: (
        *("CLIHarness", "Env", "EnvConfig", "HarborTaskset", "HarborTasksetConfig", "Harness", "HarnessConfig"),
        *("MCPTool", "MCPToolConfig", "MiniSWEAgent", "OpenCode", "Pi", "RLM", "SandboxConfig", "TASK_INPUT_FIELDS"),
        *("Task", "Taskset", "TasksetConfig", "Toolset", "ToolsetConfig", "User", "UserConfig", "advantage"),
        *("flatten_task_input", "metric", "normalize_task_payload", "reward", "setup", "task_payload_from_info"),
        "update",
    ),
    _TRAINING: (
        *("GRPOConfig", "GRPOTrainer", "RLConfig", "RLTrainer", "get_model", "get_model_and_tokenizer"),
        *("grpo_defaults", "lora_defaults"),
    ),
    _COMMAND: (
        *("Endpoint", "Endpoints", "EvalConfig", "EvalRunConfig", "RolloutScore", "RolloutScores", "VersionInfo"),
        "assert_json_serializable",
    ),
    "it needs the tokenizers of verifiers[renderers], which this library does not have. Use "
    "vf.OpenAIChatCompletionsTokenClient, to which the endpoint tells its tokens.": ("RendererClient",),
    "it runs a foreign program in a sandbox and answers that program's own calls of a model, for which a sandbox would "
    "have to reach a server of this process. Use vf.SandboxEnv, whose model calls the tools itself.": ("CliAgentEnv",),
    "its tasks are container images with a test script each, played by programs as CliAgentEnv runs them. Use "
    "vf.SandboxEnv with get_sandbox_request for the task's image and post_rollout for its tests.": ("HarborEnv",),
    "it drives browsers of a paid service. Use vf.MCPEnv with an MCP server for a browser, or vf.SandboxEnv with an image "
    "that has one.": ("BrowserEnv",),
    "it was ClientConfig for one of several endpoints. Use vf.ClientConfig.": ("EndpointClientConfig",),
    "it was a base class of pydantic's; messages are dicts with attributes here. Use vf.Message or vf.RolloutInput.": (
        "BaseRolloutInput",
        "CustomBaseModel",
    ),
}
REASONS = {name: reason for reason, names in _LEFT_OUT.items() for name in names}
