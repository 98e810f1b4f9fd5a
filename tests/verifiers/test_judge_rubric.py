"""A model that judges: what it is asked, how often, and what happens when it does not answer."""

import asyncio
import threading

import openai
import pytest
from openai_server import Reply, cut, error, text

import verifiers as vf
from verifiers.evaluation.policies import EchoPolicy
from verifiers.rubrics.judge_rubric import JudgeRubric, question_of

SAID = [{"role": "assistant", "content": "it is 4"}]
ASKED = "Q={question}|A={answer}|R={response}"


def config(server, **options):
    return vf.ClientConfig(api_base_url=server.url, max_retries=0, **options)


@pytest.mark.parametrize(
    "prompt",
    [
        "what is 2+2?",
        [{"role": "user", "content": "what is 2+2?"}],
        [{"role": "system", "content": "be brief"}, vf.UserMessage("what is 2+2?")],
        [vf.UserMessage([{"type": "text", "text": "what is 2+2?"}, {"type": "image_url", "image_url": {"url": "x"}}])],
    ],
)
async def test_the_judge_sees_the_question_whatever_its_shape(openai_server, prompt):
    rubric = JudgeRubric(judge_client=config(openai_server), judge_prompt=ASKED)
    openai_server.reply(text("yes"))
    assert await rubric.judge(prompt, SAID, "4") == "yes"
    assert await rubric.judge(prompt, "it is 4", 4) == "yes"
    for request in openai_server.requests:
        assert request["messages"] == [{"role": "user", "content": "Q=what is 2+2?|A=4|R=it is 4"}]
        assert request["model"] == "gpt-4.1-nano"
    await rubric.teardown()


async def test_what_there_is_not_is_empty(openai_server):
    rubric = JudgeRubric(judge_client=config(openai_server), judge_prompt=ASKED)
    await rubric.judge([], [], "")
    assert openai_server.requests[0]["messages"][0]["content"] == "Q=|A=|R=" and question_of(None) == ""
    await rubric.teardown()


async def test_the_default_prompt_holds_all_three_and_the_parsers_answer(openai_server):
    rubric = JudgeRubric(judge_client=config(openai_server), parser=vf.XMLParser(["answer"]))
    await rubric.judge("how many?", "well <answer>{four}</answer>", "vier")
    asked = openai_server.requests[0]["messages"][0]["content"]
    assert "how many?" in asked and "vier" in asked and "{four}" in asked and "well" not in asked
    await rubric.teardown()


@pytest.mark.parametrize("kind", ["config", "client", "native"])
async def test_every_kind_of_client_is_asked_alike(openai_server, kind):
    native = openai.AsyncOpenAI(base_url=openai_server.url, api_key="k", max_retries=0)
    client = {"config": config(openai_server), "client": vf.OpenAIChatCompletionsClient(native), "native": native}[kind]
    sampling = {"max_tokens": 5, "temperature": None, "top_p": 0.2, "extra_body": {"a": 1}}
    rubric = JudgeRubric(judge_client=client, judge_model="m", judge_sampling_args=sampling, judge_prompt=ASKED)
    assert await rubric.judge("q", SAID, "4") == "ok"
    sent = {name: value for name, value in openai_server.requests[0].items() if name not in ("path", "headers")}
    asked = [{"role": "user", "content": "Q=q|A=4|R=it is 4"}]
    assert sent == {"model": "m", "messages": asked, "max_completion_tokens": 5, "top_p": 0.2, "a": 1}
    await rubric.teardown()
    await native.close()


async def test_reward_functions_get_the_judge_and_its_parts(openai_server):
    seen = {}

    async def verdict(judge, prompt, completion, answer, state):
        return float("yes" in await judge(prompt, completion, answer, state))

    async def again(judge, prompt, completion, answer, state, **kwargs):
        return float("yes" in await judge(prompt, completion, answer, state, **kwargs))

    async def by_hand(judge_client, judge_model, judge_prompt, judge_sampling_args):
        seen.update(model=judge_model, prompt=judge_prompt, sampling=judge_sampling_args)
        messages = [{"role": "user", "content": "by hand"}]
        done = await judge_client.chat.completions.create(model=judge_model, messages=messages)
        return float(done.choices[0].message.content == "yes")

    rubric = JudgeRubric(judge_client=config(openai_server), judge_prompt=ASKED)
    for func in (verdict, again, by_hand):
        rubric.add_reward_func(func)
    env = vf.SingleTurnEnv(dataset=[{"question": "2+2?", "answer": "4"}], rubric=rubric)
    openai_server.reply(lambda request: text("yes" if len(request["messages"][0]["content"]) < 20 else "no"))
    result = await env.evaluate(config(openai_server), "m", state_columns=["judge_response"])
    (row,) = result["outputs"]
    assert row["metrics"] == {"verdict": 1.0, "again": 1.0, "by_hand": 1.0, "num_turns": 1.0} and row["reward"] == 3.0
    assert row["judge_response"] == {"Q=2+2?|A=4|R=yes": "yes"}
    assert len(openai_server.requests) == 3, "one rollout, one verdict for both who ask for it, one by hand"
    assert seen == {"model": "gpt-4.1-nano", "prompt": ASKED, "sampling": {}}
    await env._teardown()


async def test_no_key_is_needed_until_the_judge_is_asked(openai_server, monkeypatch):
    rubric = JudgeRubric(judge_prompt=ASKED)
    with pytest.raises(vf.JudgeError, match=r"^JudgeRubric has no judge to ask: set OPENAI_API_KEY"):
        await rubric.judge("q", SAID, "4")
    monkeypatch.setenv("OPENAI_BASE_URL", openai_server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert await rubric.judge("q", SAID, "4") == "ok"
    assert openai_server.requests[0]["headers"]["Authorization"] == "Bearer secret"
    await rubric.teardown()
    with pytest.raises(ValueError, match=r"^Unsupported client type: str\. "):
        JudgeRubric(judge_client="gpt")


@pytest.mark.parametrize("kind", ["config", "native"])
@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (error(429, "slow down"), r"^Judge model rate limit exceeded\. .*Model: gpt-4.1-nano, Error: .*slow down"),
        (error(500, "broken"), r"^Judge model API error\. .*broken"),
        (error(401, "who are you"), r"^Judge model API error\. .*who are you"),
        (cut(), r"^Judge model API error\. "),
        (
            Reply(body=b"<html>Hi", headers={"Content-Type": "text/html"}),
            r"^Judge model API error\. .*something that is not a chat completion: '?<html>Hi",
        ),
        (text(""), r"^Judge model gave an empty answer\. .*Model: gpt-4.1-nano$"),
        (text(None), r"^Judge model gave an empty answer\. "),
    ],
)
async def test_a_judge_that_does_not_answer_is_a_sentence(openai_server, kind, reply, sentence):
    openai_server.reply(reply)
    native = openai.AsyncOpenAI(base_url=openai_server.url, api_key="k", max_retries=0)
    rubric = JudgeRubric(judge_client=native if kind == "native" else config(openai_server))
    with pytest.raises(RuntimeError, match=sentence):
        await rubric.judge("q", SAID, "4")
    await rubric.teardown()
    await native.close()


async def test_a_slow_judge_is_given_up(openai_server):
    held = threading.Event()
    openai_server.reply(Reply(wait=held))
    rubric = JudgeRubric(judge_client=config(openai_server, timeout=0.2))
    with pytest.raises(vf.JudgeError, match=r"^Judge model timeout\. "):
        await rubric.judge("q", SAID, "4")
    held.set()
    await rubric.teardown()


async def test_a_judge_of_another_api_has_no_chat_to_offer():
    rubric = JudgeRubric(judge_client=EchoPolicy(), judge_prompt=ASKED)
    assert await rubric.judge("q", SAID, "4") == "Q=q|A=4|R=it is 4"
    with pytest.raises(AttributeError, match=r"^The judge_client is a EchoPolicy, which has no 'chat'; call judge"):
        rubric.judge_client.chat  # noqa: B018


async def test_something_else_that_fails_is_said(openai_server):
    class Strange:
        class chat:
            class completions:
                @staticmethod
                async def create(**_):
                    raise KeyError("x")

    with pytest.raises(
        vf.JudgeError, match=r"^Unexpected error when calling judge model 'gpt-4.1-nano'\. KeyError: 'x'$"
    ):
        await JudgeRubric(judge_client=Strange()).judge("q", SAID, "4")


async def test_without_a_verdict_there_is_no_reward_and_the_others_have_theirs(openai_server):
    async def verdict(judge, prompt, completion, answer, state):
        return float("yes" in await judge(prompt, completion, answer, state))

    rubric = JudgeRubric(judge_client=config(openai_server), judge_prompt=ASKED)
    rubric.add_reward_func(verdict)
    env = vf.SingleTurnEnv(dataset=[{"question": word, "answer": ""} for word in ("a", "b")], rubric=rubric)
    openai_server.reply(lambda request: error(500, "down") if "Q=b" in str(request["messages"]) else text("yes"))
    outputs = (await env.evaluate(config(openai_server), "m"))["outputs"]
    assert [row["reward"] for row in outputs] == [1.0, None]
    assert outputs[1]["error"]["error"] == "JudgeError" and "down" in outputs[1]["error"]["message"]
    await env._teardown()


def test_the_same_rubric_judges_in_one_loop_after_another(openai_server):
    rubric = JudgeRubric(judge_client=config(openai_server), parallelize_scoring=True)

    async def once(number):
        verdict = await rubric.judge("q", SAID, str(number))
        await rubric.teardown()
        return verdict

    assert [asyncio.run(once(number)) for number in range(2)] == ["ok", "ok"]
