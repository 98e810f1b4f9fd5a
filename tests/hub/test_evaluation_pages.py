"""The pages of evaluations: numbers, filters, conversations of strangers, comparisons, and who sees which."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.conftest import RunningHub
from tests.hub.browsing import Browser
from tests.hub.pushing import push
from tests.hub.test_evaluations import pushed, row

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}"


@pytest.fixture(scope="module")
def olga(module_hub: RunningHub) -> httpx.Client:
    client = module_hub.client(module_hub.add_user("olga"))
    push(client, "evald-env")
    return client


@pytest.fixture(scope="module")
def browser(module_hub: RunningHub, olga: httpx.Client) -> Browser:
    """Hers."""
    found = Browser(module_hub)
    link = olga.post("/user/sign-in-link").json()["data"]
    assert found.get(f"{link['path']}?code={link['code']}").status == 200
    return found


def page(browser: Browser, one: str, rest: str = "") -> Any:
    found = browser.get(f"/dashboard/evaluations/{one}{rest}")
    assert found.status == 200, found.text
    return found


def rollouts(browser: Browser, one: str, rest: str = "") -> list[str]:
    return [link for link in page(browser, one, rest).links if "/rollouts/" in link]


def test_an_evaluation(olga: httpx.Client, browser: Browser) -> None:
    lost = {"error": {"error": "SandboxLost", "message": "The server went away."}}
    run = [row(n, index, float(n % 2)) for n in range(20) for index in range(3)] + [row(20, 0, None, **lost)]
    one = pushed(olga, run, name="the name", model_name="the-model", metadata={"env_args": {"words": "few"}})
    shown = page(browser, one)
    for words in (
        *("the name", "the-model on olga/evald-env", "0.500", "50 %", "of 61 rollouts of 21 examples"),
        *(
            "pass@k",
            "pass^k",
            "exact",
            "SandboxLost",
            "The server went away.",
            '"words": "few"',
            "61 rollouts, page 1 of 2",
        ),
    ):
        assert words in shown.text, words
    assert "0.260 to 0.740" in shown.text, "as wide as twenty examples allow, not sixty rollouts"
    assert len(rollouts(browser, one)) == 50 and len(rollouts(browser, one, "?page=2")) == 11
    assert len(rollouts(browser, one, "?outcome=error")) == 1 == len(rollouts(browser, one, "?error=SandboxLost"))
    assert len(rollouts(browser, one, "?example=3")) == 3 and len(rollouts(browser, one, "?outcome=passed")) == 30
    assert rollouts(browser, one, "?sort=reward&order=desc")[0] != rollouts(browser, one, "?sort=reward")[0]
    assert "There is no such rollout" in page(browser, one, "?example=none").text
    assert browser.get(f"/dashboard/evaluations/{one}?sort=colour").status == 422
    assert browser.get(f"/dashboard/evaluations/{'0' * 24}").status == 404


def test_a_conversation_of_strangers(olga: httpx.Client, browser: Browser) -> None:
    completion = [
        {
            "role": "assistant",
            "content": HOSTILE,
            "reasoning_content": "a thought",
            "tool_calls": ['{"id": "1", "name": "guess", "arguments": "{\\"word\\": \\"crane\\"}"}'],
        },
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "heard"}, {"type": "image_url"}]},
        {"role": HOSTILE, "content": None},
        {"role": "assistant", "content": "the end\x1b[31m", "tool_calls": [{"function": {"name": HOSTILE}}]},
    ]
    named = {"model_name": HOSTILE, "name": HOSTILE, "tags": [HOSTILE], "metadata": {"env_args": {HOSTILE: HOSTILE}}}
    sample = row(
        HOSTILE,
        0,
        0.5,
        completion=completion,
        answer=HOSTILE,
        metrics={HOSTILE: 1.0},
        error={"error": HOSTILE, "message": HOSTILE},
        stop_condition=HOSTILE,
        trajectory=[{"reward": 0.25}, {"reward": 0.75}],
        reward_errors={HOSTILE: HOSTILE},
    )
    one = pushed(olga, [sample], **named)
    found = olga.get(f"/evaluations/{one}/samples?summary=true").json()["samples"][0]["sample_id"]
    shown = page(browser, one, f"/rollouts/{found}")
    assert all(words in shown.text for words in ("a thought", "guess", '"word": "crane"', "heard", "the end"))
    assert "reward 0.250" in shown.text and "reward 0.750" in shown.text and "[image_url" in shown.text
    compared = browser.get(f"/dashboard/evaluations/compare?first={one}&second={one}")
    listed = browser.get("/dashboard/evaluations?model=" + quote(HOSTILE))
    board = browser.get("/dashboard/environments/olga/evald-env/evaluations")
    for other in (shown, page(browser, one), compared, listed, board):
        assert other.status == 200 and "alert(1)" in other.answer.text
        assert "<script>alert" not in other.answer.text and "<img" not in other.answer.text
        assert "\x1b" not in other.answer.text
    raw = browser.client.get(f"{browser.hub.url}/dashboard/evaluations/{one}/rollouts/{found}/raw")
    assert raw.headers["content-type"].startswith("text/plain") and raw.json()["answer"] == HOSTILE
    assert raw.headers["x-content-type-options"] == "nosniff"
    assert browser.get(f"/dashboard/evaluations/{one}/rollouts/{'0' * 24}").status == 404


def test_a_long_conversation(olga: httpx.Client, browser: Browser) -> None:
    """A page has room for so much, and says what it leaves out."""
    many = [{"role": "user" if n % 2 else "assistant", "content": f"message {n}."} for n in range(600)]
    one = pushed(olga, [row(1, 0, 1.0, completion=many), row(2, 0, 1.0, completion="x" * 5_000_000)])
    first, second = rollouts(browser, one)
    shown = browser.get(first)
    assert (
        'said">\nmessage 150.' in shown.answer.text
        and 'said">\nmessage 300.' not in shown.answer.text
        and "402 messages more" in shown.text
    )
    assert 'said">\nmessage 599.' in browser.get(first + "?every=true").answer.text
    large = browser.get(second)
    assert (
        len(large.answer.text) < 1_000_000 and "characters more are in the" in large.text and "Show all" in large.text
    )


def test_two_evaluations(olga: httpx.Client, browser: Browser) -> None:
    one = pushed(olga, [row(n, 0, float(n < 5)) for n in range(10)], model_name="first-model")
    two = pushed(olga, [row(n, 0, float(n > 2)) for n in range(12)], model_name="second-model")
    shown = browser.get(f"/dashboard/evaluations/compare?first={one}&second={two}")
    assert all(
        words in shown.text for words in ("+0.200", "+5 −3", "2 only in the second", "Zero lies within the interval")
    )
    assert f"/dashboard/evaluations/{one}?example=0#rollouts" in shown.links
    back = browser.get(f"/dashboard/evaluations/compare?first={two}&second={one}")
    assert "−0.200" in back.text and "+3 −5" in back.text
    choice = browser.get("/dashboard/evaluations/compare")
    assert choice.form("/dashboard/evaluations/compare").fields.keys() == {"first", "second"}
    empty = pushed(olga, [row(99, 0, None)])
    assert "nothing to compare" in browser.get(f"/dashboard/evaluations/compare?first={one}&second={empty}").text


def test_an_environments_evaluations(olga: httpx.Client, browser: Browser, module_hub: RunningHub) -> None:
    push(olga, "board-env")
    path = "/dashboard/environments/olga/board-env/evaluations"
    assert "prime eval push --env olga/board-env" in browser.get(path).text
    of = {"environments": [{"slug": "olga/board-env", "version": "0.1.0"}]}
    pushed(olga, [row(n, 0, 0.25) for n in range(4)], model_name="weak", is_public=True, **of)
    pushed(olga, [row(n, 0, 0.75) for n in range(4)], model_name="strong", **of)
    shown = browser.get(path)
    assert shown.text.index("strong") < shown.text.index("weak") and "0.750" in shown.text and "Over time" in shown.text
    stranger = Browser(module_hub)
    assert "weak" in stranger.get(path).text and "strong" not in stranger.get(path).text


def test_it_is_opened_closed_and_deleted(olga: httpx.Client, browser: Browser, module_hub: RunningHub) -> None:
    one = pushed(olga, [row(1, 0, 1.0)])
    path, stranger = f"/dashboard/evaluations/{one}", Browser(module_hub)
    assert stranger.get(path).status == 404
    assert "public now" in browser.submit(path, f"{path}/visibility").text
    assert stranger.get(path).status == 200 and not [form for form in stranger.get(path).forms if form.method == "post"]
    assert "private now" in browser.submit(path, f"{path}/visibility").text and stranger.get(path).status == 404
    assert browser.submit(path, f"{path}/visibility", visibility="SHUT").status == 400
    assert "is deleted" in browser.submit(path, f"{path}/delete").text and browser.get(path).status == 404
