"""Passing trouble: what is repeated, how long is waited, who is told."""

import asyncio
import threading
import time
from email.utils import formatdate

import openai
import pytest
from model_replies import anthropic_error, block, message, response, said, text_completion
from openai_server import Reply, cut, error, text

import verifiers as vf
from verifiers.clients.retry import (
    LONGEST_RETRY_AFTER_SECONDS,
    LONGEST_TROUBLE_SECONDS,
    LONGEST_WAIT_SECONDS,
    Pause,
    backoff,
    is_repeated,
    retry_after,
)

ANSWERS = {
    "openai_chat_completions": text("at last"),
    "openai_completions": text_completion("at last"),
    "openai_responses": response(said("at last")),
    "anthropic_messages": message(block("at last")),
}


@pytest.fixture
def client(openai_server):
    """A client that hardly waits, and what it has told: `client.told`."""

    def make(client_type="openai_chat_completions", **config):
        settings = {"api_base_url": openai_server.url, "client_type": client_type, **config}
        made = vf.as_client(vf.ClientConfig(**settings))
        made.retry_delay_seconds = 0.001
        made.told = []
        made.on_retry = lambda reason, wait: made.told.append((reason, wait))
        return made

    return make


@pytest.mark.parametrize("client_type", ANSWERS)
@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (error(429, "slow down", {"Retry-After": "0"}), "failed: slow down (HTTP 429)"),
        (error(429, "slow down"), "failed: slow down (HTTP 429)"),
        (error(408, "took too long"), "failed: took too long (HTTP 408)"),
        (error(409, "locked"), "failed: locked (HTTP 409)"),
        (error(500, "on fire"), "failed: on fire (HTTP 500)"),
        (anthropic_error(529, "overloaded_error", "Overloaded"), "failed: Overloaded (HTTP 529)"),
        (cut(), "Could not reach the model endpoint"),
    ],
    ids=lambda value: str(getattr(value, "status", ""))[:3],
)
async def test_passing_trouble_is_repeated_and_told(client, openai_server, client_type, trouble, reason):
    openai_server.reply(trouble, trouble, ANSWERS[client_type])
    one = client(client_type)
    assert (await one.get_response("hi", "m")).message.content == "at last"
    assert one.retries == 2 and len(openai_server.requests) == 3
    assert all(reason in told and 0 <= wait <= 0.002 for told, wait in one.told)
    await one.close()


@pytest.mark.parametrize("client_type", ANSWERS)
async def test_it_gives_up_after_max_retries(client, openai_server, client_type):
    openai_server.reply(error(429, "slow down", {"Retry-After": "0"}))
    one = client(client_type, max_retries=3)
    with pytest.raises(vf.RateLimitError, match=r"slow down \(HTTP 429\)"):
        await one.get_response("hi", "m")
    assert len(openai_server.requests) == 4 and one.retries == 3
    await one.close()


@pytest.mark.parametrize(
    "final",
    [
        error(400, "bad"),
        error(401, "no"),
        error(403, "no"),
        error(404, "no"),
        error(422, "bad"),
        error(500, "never again", {"x-should-retry": "false"}),
        Reply(body=b"{garbage"),
        text(None),
    ],
    ids=range(8),
)
async def test_what_would_not_get_better_is_not_repeated(client, openai_server, final):
    openai_server.reply(final)
    one = client()
    with pytest.raises(vf.ModelError):
        await one.get_response("hi", "m")
    assert len(openai_server.requests) == 1 and one.retries == 0 and one.told == []
    await one.close()


async def test_an_error_that_comes_with_200_is_repeated_too(client, openai_server):
    busy = Reply(body=b'{"error": {"code": 503, "message": "busy"}}')
    openai_server.reply(busy, text("at last"))
    one = client()
    assert (await one.get_response("hi", "m")).message.content == "at last" and one.retries == 1
    await one.close()


async def test_an_endpoint_that_never_answered_is_given_up_sooner(client, openai_server):
    openai_server.reply(cut())
    one = client(max_retries=10)
    with pytest.raises(vf.ModelError, match="Could not reach"):
        await one.get_response("hi", "m")
    assert len(openai_server.requests) == 3
    openai_server.reply(text("ok"))
    await one.get_response("hi", "m")
    openai_server.requests.clear()
    openai_server.reply(cut())
    with pytest.raises(vf.ModelError, match="Could not reach"):
        await one.get_response("hi", "m")
    assert len(openai_server.requests) == 11
    await one.close()


async def test_an_endpoint_that_does_not_answer_in_time_is_given_up_sooner(client, openai_server):
    one = client(max_retries=10)
    await one.get_response("hi", "m")
    openai_server.requests.clear()
    release = threading.Event()
    openai_server.reply(Reply(wait=release, cut=True))
    try:
        with pytest.raises(vf.ModelError, match="did not answer in time"):
            await one.get_response("hi", "m", {"timeout": 0.1})
    finally:
        release.set()
    assert len(openai_server.requests) == 3
    await one.close()


async def test_a_given_client_waits_and_asks_in_sight_too(openai_server):
    openai_server.reply(error(503, "busy", {"Retry-After": "0"}), text("ok"))
    native = openai.AsyncOpenAI(base_url=openai_server.url, api_key="k", max_retries=1)
    one = vf.as_client(native)
    told = []
    one.on_retry = lambda reason, wait: told.append((reason, wait))
    assert (await one.get_response("hi", "m", {"top_k": 3})).message.content == "ok"
    assert openai_server.requests[1]["top_k"] == 3
    assert told == [(f"The model endpoint {openai_server.url}/ failed: busy (HTTP 503)", 0.0)]
    assert native.max_retries == 1
    await native.close()


async def test_a_client_whose_create_was_replaced_is_used_as_it_is(openai_server):
    native = openai.AsyncOpenAI(base_url=openai_server.url, api_key="k")
    asked = []

    async def create(**request):
        asked.append(request)
        raise ConnectionError("replaced")

    native.chat.completions.create = create
    with pytest.raises(vf.ModelError, match="replaced"):
        await vf.as_client(native).get_response("hi", "m", {"top_k": 3})
    assert [request["top_k"] for request in asked] == [3] and openai_server.requests == []
    await native.close()


async def test_a_run_tells_of_repeated_requests(openai_server):
    openai_server.reply(error(429, "slow down", {"Retry-After": "0"}), text("ok"))
    env = vf.SingleTurnEnv(dataset=[{"question": "q"}], rubric=vf.Rubric())
    lines = []
    await env.evaluate(vf.ClientConfig(api_base_url=openai_server.url), "m", on_log=lines.append)
    (line,) = lines
    assert line.startswith("Asking the model again in 0.0 s: ") and "slow down (HTTP 429)" in line


async def test_a_request_waits_so_long_in_all_and_says_how_often_it_was_asked(client, openai_server, monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        clock[0] += seconds

    clock = [1000.0]
    monkeypatch.setattr("verifiers.clients.client.asyncio.sleep", sleep)
    monkeypatch.setattr("verifiers.clients.retry.time.monotonic", lambda: clock[0])
    openai_server.reply(error(429, "come back tomorrow", {"Retry-After": "86400"}))
    one = client(max_retries=50)
    with pytest.raises(vf.RateLimitError, match=r"tomorrow \(HTTP 429\)\. It was asked 3 times\.$"):
        await one.get_response("hi", "m")
    assert len(openai_server.requests) == 3 and 240 <= sum(slept) <= LONGEST_TROUBLE_SECONDS
    reason, wait = one.told[0]
    assert 120 <= wait <= 132
    assert reason.endswith("(it asks to wait 86400 s; 120 s is the most that is waited at a time)")
    await one.close()


async def test_a_pause_that_an_endpoint_asks_for_is_everybodys(client, openai_server):
    openai_server.reply(error(429, "slow down", {"Retry-After": "60"}), text("ok"))
    asked = asyncio.Event()
    first, others = client(), [client() for _ in range(3)]
    first.on_retry = lambda reason, wait: asked.set()
    waiting = [asyncio.create_task(first.get_response("hi", "m"))]
    await asked.wait()
    waiting += [asyncio.create_task(one.get_response("hi", "m")) for one in others for _ in range(8)]
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(openai_server.requests) == 1, "nobody else has asked"
    elsewhere = client(api_base_url=openai_server.url + "/other")
    assert (await elsewhere.get_response("hi", "m")).message.content == "ok"
    for one in others:
        one.pause.until = 0.0
    late = await asyncio.wait_for(others[0].get_response("hi", "m"), 30)
    assert late.message.content == "ok" and len(openai_server.requests) == 3
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for one in (first, *others, elsewhere):
        await one.close()


async def test_a_pause_ends_and_a_longer_one_stays(monkeypatch):
    clock, slept = [10.0], []

    async def sleep(seconds):
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("verifiers.clients.retry.asyncio.sleep", sleep)
    monkeypatch.setattr("verifiers.clients.retry.time.monotonic", lambda: clock[0])
    pause = Pause()
    await pause.over()
    pause.extend(5.0, "longer")
    pause.extend(1.0, "shorter")
    assert pause.until == 15.0 and pause.reason == "longer"
    await pause.over()
    await pause.over()
    assert len(slept) == 1 and 5.0 <= slept[0] <= 5.5


def test_how_long_is_waited():
    for attempt, longest in ((1, 1.0), (2, 2.0), (3, 4.0), (50, LONGEST_WAIT_SECONDS), (5000, LONGEST_WAIT_SECONDS)):
        waits = [backoff(attempt, 1.0) for _ in range(50)]
        assert longest / 2 <= min(waits) and max(waits) <= longest and len(set(waits)) > 1


def test_what_an_answer_asks_for():
    assert retry_after({}) is None and retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "nan"}) is None
    assert retry_after({"retry-after": "2.5"}) == 2.5 and retry_after({"retry-after": "-3"}) == 0
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after": "86400"}) == LONGEST_RETRY_AFTER_SECONDS
    assert 50 < (retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)}) or 0) <= 60
    assert is_repeated(400, {"x-should-retry": "true"}) and not is_repeated(503, {"x-should-retry": "false"})
