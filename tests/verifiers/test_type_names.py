"""The names for types that environments are annotated with, and what is really there under them."""

import typing

import pytest

import verifiers as vf
from verifiers.errors import is_retriable, is_unscored
from verifiers.evaluation.policies import EchoPolicy, Policy

ROWS = [{"question": "say a", "answer": "say a"}, {"question": "say b", "answer": "c"}]


def test_parts_of_messages_are_dicts_with_attributes():
    image = vf.ImageUrlContentPart(image_url=vf.ImageUrlSource(url="data:image/png;base64,AA=="))
    sound = vf.InputAudioContentPart(input_audio=vf.InputAudioSource(data="AA==", format="wav"))
    parts: list[vf.ContentPart] = [
        vf.TextContentPart(text="see"),
        image,
        sound,
        vf.GenericContentPart(type="file", file={"id": 1}),
        vf.ThinkingBlock(thinking="hm", signature="s"),
        vf.RedactedThinkingBlock(data="x"),
    ]
    assert [part["type"] for part in parts] == [
        "text",
        "image_url",
        "input_audio",
        "file",
        "thinking",
        "redacted_thinking",
    ]
    assert image.image_url.url == image["image_url"]["url"] and sound.input_audio.format == "wav"
    assert isinstance(parts[4], vf.AnthropicThinkingBlock) and not isinstance(image, vf.AnthropicThinkingBlock)
    message = vf.UserMessage(parts[:2])
    assert isinstance(message, vf.Message) and message.model_dump()["content"] == [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]


async def test_parts_are_sent_as_they_are(openai_server):
    env = vf.SingleTurnEnv(dataset=[{"prompt": [vf.UserMessage([vf.TextContentPart(text="see")])]}])
    await env.evaluate(vf.ClientConfig(api_base_url=openai_server.url), "m")
    assert openai_server.requests[0]["messages"] == [{"role": "user", "content": [{"type": "text", "text": "see"}]}]


async def test_functions_annotated_with_the_names_are_called(caplog):
    def one(completion: vf.Messages, info: vf.Info, answer: vf.JsonPrimitive) -> float:
        return float(completion[-1]["content"] == answer)

    def dicts(completion: vf.ChatMessages) -> float:
        first: vf.ChatMessage = completion[0]
        return float(isinstance(first, dict))

    def all_of_them(states: list[vf.State]) -> list[float]:
        return [0.5 for _ in states]

    def words(message: vf.MessageContent) -> int:
        return len(message)

    builder: vf.DatasetBuilder = lambda: ROWS  # noqa: E731
    single: list[vf.IndividualRewardFunc] = [one, dicts]
    funcs: list[vf.RewardFunc] = [*single, typing.cast(vf.GroupRewardFunc, all_of_them)]
    sampling: vf.SamplingArgs = {"temperature": 0.0}
    env = vf.SingleTurnEnv(dataset=builder, rubric=vf.Rubric(funcs=funcs), sampling_args=sampling)
    assert [row["reward"] for row in (await env.evaluate(EchoPolicy(), "m"))["outputs"]] == [2.5, 1.5]
    for func in (one, dicts, all_of_them, words):
        assert typing.get_type_hints(func)
    assert caplog.text == ""


async def test_rows_have_the_fields_their_types_name():
    class Sad(Policy):
        def answer(self, prompt, tools, action_schema, rng):
            if prompt[-1].content == "say b":
                raise vf.TunnelError("gone")
            return vf.AssistantMessage("say a")

    steps = []

    class Looks(vf.SingleTurnEnv):
        @vf.cleanup
        async def look(self, state):
            steps.extend(state["trajectory"])

    env = Looks(dataset=ROWS, rubric=vf.Rubric())
    row: vf.RolloutInput = env.get_dataset()[0]
    assert set(row) <= set(vf.RolloutInput.__annotations__) | {"question"}
    started, seen, said = [], [], []
    start: vf.StartCallback = started.append
    progress: vf.ProgressCallback = lambda *told: seen.append(told)  # noqa: E731
    log: vf.LogCallback = said.append
    options = {
        "on_start": start,
        "on_progress": progress,
        "on_log": log,
        "max_retries": 1,
        "retry_delay_seconds": 0.001,
    }
    result: vf.GenerateOutputs = await env.evaluate(Sad(), "m", **options)
    assert set(result) == set(vf.GenerateOutputs.__annotations__)
    metadata: vf.GenerateMetadata = result["metadata"]
    good, bad = typing.cast(list[vf.RolloutOutput], result["outputs"])
    assert metadata["num_scored"] == 1 and started == [2] and len(seen) == 2 and "TunnelError: gone" in said[0]
    assert set(vf.TokenUsage.__annotations__) <= set(good["token_usage"])
    assert set(bad["error"]) == set(vf.ErrorInfo.__annotations__) and bad["error"]["message"] == "gone"
    assert set(steps[0]) == set(vf.TrajectoryStep.__annotations__)


async def test_the_tokens_of_a_step_are_those_of_their_type():
    from verifiers.utils.token_utils import step_tokens

    tokens = vf.ResponseTokens(prompt_ids=[1, 2], prompt_mask=[0, 0], completion_ids=[3], completion_mask=[1], completion_logprobs=[-0.1])  # fmt: skip
    assert set(step_tokens(tokens)) == set(vf.TrajectoryStepTokens.__annotations__)


def test_time_is_spans():
    timing = vf.RolloutTiming(start_time=1.0)
    timing.generation = vf.TimeSpan(start=1.0, end=3.0)
    timing.model = vf.TimeSpans([vf.TimeSpan(1.0, 1.5), vf.TimeSpan(2.0, 2.25)])
    timing.scoring = vf.TimeSpan(start=3.0, end=4.0)
    assert timing.model.duration == 0.75 and timing.total == 3.0 and timing.overhead == 1.25
    assert timing["generation_ms"] == 2000.0


def test_an_answer_carries_how_it_ended():
    ended: vf.FinishReason = "length"
    response = vf.Response(message=vf.ResponseMessage(content="a", finish_reason=ended, is_truncated=True))
    assert response.finish_reason == "length" and response.is_truncated and response.message.content == "a"
    assert "length" in typing.get_args(typing.get_args(vf.FinishReason)[0])


def test_the_named_kinds_are_those_that_are_known():
    from verifiers.clients.resolve import CLIENT_TYPES

    assert set(typing.get_args(vf.ClientType)) == set(CLIENT_TYPES)
    assert typing.get_args(vf.MessageType) == ("chat", "completion")


@pytest.mark.parametrize("kind", [vf.TunnelError, vf.SandboxError, vf.BrowserSandboxError])
def test_what_a_machine_did_is_retried_and_never_scored(kind):
    assert issubclass(kind, vf.InfraError) and is_unscored(kind("x")) and is_retriable(kind("x"))
