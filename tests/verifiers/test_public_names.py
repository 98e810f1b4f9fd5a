"""Every name of the official library's API is here with a test of what it does, or says why it is not."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import verifiers as vf
from verifiers.left_out import REASONS

TESTS = Path(__file__).resolve().parents[1]
COMPATIBILITY = TESTS.parent / "docs" / "compatibility.md"
# The public names of 0.1.14 with its types and errors, and what 0.1.10 had besides.
CORE = [
    "AnthropicMessagesClient",
    "Client",
    "EnvGroup",
    "Environment",
    "GymEnv",
    "JudgeRubric",
    "MCPEnv",
    "MathRubric",
    "MaybeThinkParser",
    "MissingKeyError",
    "MultiTurnEnv",
    "OpenAIChatCompletionsClient",
    "OpenAICompletionsClient",
    "OpenAIResponsesClient",
    "OpenEnvEnv",
    "Parser",
    "PythonEnv",
    "ReasoningGymEnv",
    "Rubric",
    "RubricGroup",
    "SandboxEnv",
    "SingleTurnEnv",
    "StatefulToolEnv",
    "TextArenaEnv",
    "ThinkParser",
    "ToolEnv",
    "XMLParser",
    "cleanup",
    "ensure_keys",
    "extract_boxed_answer",
    "extract_hash_answer",
    "load_environment",
    "load_example_dataset",
    "log_level",
    "print_prompt_completions_sample",
    "quiet_verifiers",
    "setup_logging",
    "stop",
    "teardown",
]
TYPES = [
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
]
ERRORS = [
    "BrowserSandboxError",
    "EmptyModelResponseError",
    "Error",
    "InfraError",
    "InvalidModelResponseError",
    "ModelError",
    "OverlongPromptError",
    "SandboxError",
    "ToolCallError",
    "ToolError",
    "ToolParseError",
    "TunnelError",
]
LEFT_OUT = [
    "BaseRolloutInput",
    "BrowserEnv",
    "CLIHarness",
    "CliAgentEnv",
    "CustomBaseModel",
    "Endpoint",
    "EndpointClientConfig",
    "Endpoints",
    "Env",
    "EnvConfig",
    "EvalConfig",
    "EvalRunConfig",
    "GRPOConfig",
    "GRPOTrainer",
    "HarborEnv",
    "HarborTaskset",
    "HarborTasksetConfig",
    "Harness",
    "HarnessConfig",
    "MCPTool",
    "MCPToolConfig",
    "MiniSWEAgent",
    "OpenCode",
    "Pi",
    "RLConfig",
    "RLM",
    "RLTrainer",
    "RendererClient",
    "RolloutScore",
    "RolloutScores",
    "SandboxConfig",
    "TASK_INPUT_FIELDS",
    "Task",
    "Taskset",
    "TasksetConfig",
    "Toolset",
    "ToolsetConfig",
    "User",
    "UserConfig",
    "VersionInfo",
    "advantage",
    "assert_json_serializable",
    "flatten_task_input",
    "get_model",
    "get_model_and_tokenizer",
    "grpo_defaults",
    "lora_defaults",
    "metric",
    "normalize_task_payload",
    "reward",
    "setup",
    "task_payload_from_info",
    "update",
]
# Where environments import from.
DEEP = {
    "verifiers.types": " ".join(TYPES),
    "verifiers.errors": " ".join(ERRORS),
    "verifiers.decorators": "stop cleanup teardown",
    "verifiers.utils.data_utils": "extract_boxed_answer extract_hash_answer load_example_dataset BOXED_SYSTEM_PROMPT "
    "THINK_BOXED_SYSTEM_PROMPT",
    "verifiers.rubrics.rubric": "Rubric",
    "verifiers.rubrics.rubric_group": "RubricGroup",
    "verifiers.rubrics.judge_rubric": "JudgeRubric",
    "verifiers.rubrics.math_rubric": "MathRubric",
    "verifiers.parsers.parser": "Parser",
    "verifiers.parsers.think_parser": "ThinkParser",
    "verifiers.parsers.maybe_think_parser": "MaybeThinkParser",
    "verifiers.parsers.xml_parser": "XMLParser",
    "verifiers.envs.environment": "Environment",
    "verifiers.envs.singleturn_env": "SingleTurnEnv",
    "verifiers.envs.multiturn_env": "MultiTurnEnv",
    "verifiers.envs.tool_env": "ToolEnv",
    "verifiers.envs.stateful_tool_env": "StatefulToolEnv",
    "verifiers.envs.sandbox_env": "SandboxEnv SandboxCreationError SandboxNotReadyError",
    "verifiers.envs.python_env": "PythonEnv PythonWorkerDeadError PythonWorkerNotReadyError PythonWorkerRequestError",
    "verifiers.envs.env_group": "EnvGroup EnvGroupRubric",
    "verifiers.envs.integrations.textarena_env": "TextArenaEnv",
    "verifiers.envs.integrations.reasoninggym_env": "ReasoningGymEnv",
    "verifiers.envs.integrations.openenv_env": "OpenEnvEnv OpenEnvEpisodicSumRubric",
    "verifiers.envs.experimental.gym_env": "GymEnv EpisodicSumRubric",
    "verifiers.envs.experimental.mcp_env": "MCPEnv",
    "verifiers.utils.message_utils": "normalize_messages",
    "verifiers.utils.eval_utils": "quiet_datasets",
    "verifiers.utils.async_utils": "maybe_call_with_named_args",
    "verifiers.utils.path_utils": "write_temp_file",
    "verifiers.utils.logging_utils": "setup_logging log_level quiet_verifiers print_prompt_completions_sample",
    "verifiers.clients.client": "Client",
    "verifiers.clients.openai_chat_completions_client": "OpenAIChatCompletionsClient",
    "verifiers.clients.openai_completions_client": "OpenAICompletionsClient",
    "verifiers.clients.openai_responses_client": "OpenAIResponsesClient",
    "verifiers.clients.anthropic_messages_client": "AnthropicMessagesClient",
    "verifiers.clients.openai_chat_completions_token_client": "OpenAIChatCompletionsTokenClient",
}
LEFT_OUT_MODULES = {
    "verifiers.envs.experimental.harbor_env": "HarborEnv",
    "verifiers.envs.experimental.cli_agent_env": "CliAgentEnv",
    "verifiers.envs.integrations.browser_env": "BrowserEnv",
}
TESTED_BY = {
    "verifiers/test_anthropic_client.py::test_an_anthropic_client_stays_its_owners": "AnthropicMessagesClient",
    "verifiers/test_type_names.py::test_parts_of_messages_are_dicts_with_attributes": "AnthropicThinkingBlock ContentPart GenericContentPart ImageUrlContentPart ImageUrlSource InputAudioContentPart InputAudioSource Message RedactedThinkingBlock TextContentPart ThinkingBlock",
    "verifiers/test_messages.py::test_what_an_assistant_did_not_say_is_none": "AssistantMessage",
    "verifiers/test_messages.py::test_a_message_reads_as_dict_and_as_object": "UserMessage",
    "verifiers/test_messages.py::test_messages_are_normalised_from_anything_reasonable": "SystemMessage ToolMessage",
    "verifiers/test_messages.py::test_a_tool_call_reads_in_both_shapes": "ToolCall",
    "verifiers/test_messages.py::test_tools_from_every_shape": "Tool",
    "verifiers/test_messages.py::test_state_forwards_the_fields_of_its_input": "State",
    "verifiers/test_completions_client.py::test_text_there_and_back": "TextMessage OpenAICompletionsClient",
    "verifiers/test_type_names.py::test_what_a_machine_did_is_retried_and_never_scored": "BrowserSandboxError InfraError SandboxError TunnelError",
    "verifiers/test_type_names.py::test_functions_annotated_with_the_names_are_called": "ChatMessage ChatMessages DatasetBuilder GroupRewardFunc IndividualRewardFunc Info JsonPrimitive MessageContent Messages RewardFunc SamplingArgs",
    "verifiers/test_type_names.py::test_rows_have_the_fields_their_types_name": "ErrorInfo GenerateMetadata GenerateOutputs LogCallback ProgressCallback RolloutInput RolloutOutput StartCallback TokenUsage TrajectoryStep",
    "verifiers/test_type_names.py::test_the_tokens_of_a_step_are_those_of_their_type": "ResponseTokens TrajectoryStepTokens",
    "verifiers/test_type_names.py::test_time_is_spans": "RolloutTiming TimeSpan TimeSpans",
    "verifiers/test_type_names.py::test_an_answer_carries_how_it_ended": "FinishReason Response ResponseMessage",
    "verifiers/test_type_names.py::test_the_named_kinds_are_those_that_are_known": "ClientType MessageType",
    "verifiers/test_client_configs.py::test_a_config_becomes_the_client_of_its_type": "Client ClientConfig as_client OpenAIChatCompletionsTokenClient",
    "verifiers/test_costs.py::test_rows_and_metadata_hold_tokens_and_cost": "Prices Usage",
    "verifiers/test_client_retries.py::test_it_gives_up_after_max_retries": "RateLimitError",
    "verifiers/test_openai_client.py::test_tools_there_and_back": "OpenAIChatCompletionsClient",
    "verifiers/test_responses_client.py::test_text_usage_and_what_is_sent": "OpenAIResponsesClient",
    "verifiers/test_runner.py::test_one_failing_rollout_disturbs_no_other": "EmptyModelResponseError Error ModelError",
    "verifiers/test_runner.py::test_infrastructure_and_useless_answers_are_retried_and_kept": "InvalidModelResponseError",
    "verifiers/test_runner.py::test_a_run_that_is_in_vain_ends": "RepeatedError",
    "verifiers/test_runner.py::test_what_is_no_answer_of_a_model_is_unscored": "UnreadableResponseError",
    "verifiers/test_runner.py::test_a_refused_key_ends_the_run_early_and_keeps_what_is_done": "ModelAuthError",
    "verifiers/test_runner.py::test_sync_doors_tear_down_in_the_loop_they_used": "Environment SingleTurnEnv teardown",
    "verifiers/test_rollout.py::test_a_conversation_that_outgrew_the_model_ends_and_is_no_failure": "OverlongPromptError",
    "verifiers/test_rollout.py::test_an_exception_of_the_authors_code_is_an_error_of_the_rollout": "RolloutError",
    "verifiers/test_rollout.py::test_scoring_has_a_time_limit": "ScoringTimeoutError",
    "verifiers/test_rollout.py::test_turns_until_the_limit": "MultiTurnEnv cleanup",
    "verifiers/test_rollout.py::test_stops_run_by_priority_then_name_and_see_what_they_ask_for": "stop",
    "verifiers/test_tool_env.py::test_tools_are_called_in_order_and_counted": "ToolEnv",
    "verifiers/test_tool_env.py::test_a_failing_call_goes_back_to_the_model": "ToolError",
    "verifiers/test_tool_env.py::test_stop_errors_end_the_rollout": "ToolCallError ToolParseError",
    "verifiers/test_stateful_tool_env.py::test_it_is_abstract": "StatefulToolEnv",
    "verifiers/test_sandbox_env.py::test_commands_run_in_a_sandbox_of_ones_own": "SandboxEnv",
    "verifiers/test_python_env.py::test_a_session_lasts_and_its_last_expression_is_shown": "PythonEnv",
    "verifiers/test_env_group.py::test_each_row_is_played_and_scored_by_its_own": "EnvGroup",
    "verifiers/test_gym_env.py::test_an_episode_is_the_sum_of_its_steps": "GymEnv",
    "verifiers/test_mcp_env.py::test_the_tools_of_a_program_are_offered_and_called": "MCPEnv",
    "openenv/test_openenv_env.py::test_a_gym_episode_is_played_to_its_end": "OpenEnvEnv OpenEnvEpisodicSumRubric",
    "versions/test_game_libraries.py::test_reasoning_gym_asks_and_scores": "ReasoningGymEnv",
    "versions/test_game_libraries.py::test_a_game_is_played_to_its_last_word": "TextArenaEnv",
    "verifiers/test_rubric.py::test_functions_get_what_they_name": "Rubric",
    "verifiers/test_rubric.py::test_a_group_of_rubrics_adds_up": "RubricGroup",
    "verifiers/test_judge_rubric.py::test_reward_functions_get_the_judge_and_its_parts": "JudgeRubric",
    "verifiers/test_judge_rubric.py::test_a_judge_that_does_not_answer_is_a_sentence": "JudgeError",
    "verifiers/test_math_rubric.py::test_boxed_answers_are_compared_as_mathematics": "MathRubric",
    "verifiers/test_parsers.py::test_plain_parser_takes_the_last_word": "Parser",
    "verifiers/test_parsers.py::test_thinking_is_cut_off": "MaybeThinkParser ThinkParser",
    "verifiers/test_parsers.py::test_xml_fields": "XMLParser",
    "verifiers/test_parsers.py::test_boxed_and_hash_answers": "extract_boxed_answer extract_hash_answer",
    "verifiers/test_data.py::test_a_table_has_the_methods_environments_use": "RowTable",
    "verifiers/test_loading.py::test_missing_keys_keep_their_type": "MissingKeyError ensure_keys",
    "verifiers/test_loading.py::test_a_local_environment_is_found_with_its_version_and_defaults": "load_environment",
    "equivalence/test_datasets.py::test_rows_become_questions_and_answers": "load_example_dataset",
    "verifiers/test_logging.py::test_levels_for_a_while": "log_level quiet_verifiers",
    "verifiers/test_logging.py::test_a_sample_is_printed_as_a_table": "print_prompt_completions_sample",
    "verifiers/test_logging.py::test_setting_up_again_says_everything_once": "setup_logging",
}
"""Test to the names whose behaviour it shows."""


def test_every_name_of_the_api_is_here_or_left_out():
    assert not set(CORE + TYPES + ERRORS) - set(vf.__all__)
    assert set(LEFT_OUT) == set(REASONS) and not set(REASONS) & set(vf.__all__)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_says_why(name):
    with pytest.raises(AttributeError, match=rf"^verifiers\.{name} is left out: [a-z].*\.$"):
        getattr(vf, name)
    assert not hasattr(vf, name) and name not in dir(vf)


@pytest.mark.parametrize("module", DEEP)
def test_everything_is_where_environments_import_it_from(module):
    missing = [name for name in DEEP[module].split() if not hasattr(import_module(module), name)]
    assert not missing
    for name in DEEP[module].split():
        if name in vf.__all__:
            assert getattr(vf, name) is getattr(import_module(module), name)


@pytest.mark.parametrize("module", LEFT_OUT_MODULES)
def test_modules_that_are_left_out_say_why(module):
    name = LEFT_OUT_MODULES[module]
    code = f"from {module} import {name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and f"ImportError: verifiers.{name} is left out: " in done.stderr


def test_every_public_name_has_a_test_of_what_it_does():
    tested = {name for names in TESTED_BY.values() for name in names.split()}
    assert tested == set(vf.__all__)


@pytest.mark.parametrize("test", TESTED_BY)
def test_the_tests_that_are_named_exist(test):
    file, _, function = test.partition("::")
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert function in defined


@pytest.mark.parametrize("name", [*CORE, *ERRORS, *LEFT_OUT])
def test_the_page_on_compatibility_names_it(name):
    assert f"`{name}`" in COMPATIBILITY.read_text(encoding="utf-8")


def test_the_prompts_ask_for_the_box():
    from verifiers.utils.data_utils import BOXED_SYSTEM_PROMPT, THINK_BOXED_SYSTEM_PROMPT

    assert r"\boxed{}" in BOXED_SYSTEM_PROMPT and r"\boxed{}" in THINK_BOXED_SYSTEM_PROMPT
    assert "<think>" in THINK_BOXED_SYSTEM_PROMPT and "</think>" in THINK_BOXED_SYSTEM_PROMPT
