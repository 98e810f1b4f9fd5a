"""What a run shows while it runs: the words, the frames of the live view, the plain lines, and what each rollout waits for."""

from __future__ import annotations

import asyncio
import io
import math
import statistics
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import verifiers as vf
from prime_evals.estimates import by_example, clustered_mean
from verifiers.evaluation.policies import POLICIES
from verifiers.evaluation.progress import LiveView, PlainView, _Pulse, frame, view
from verifiers.evaluation.runner import Runner, RunOptions
from verifiers.evaluation.standing import Watched, line, slow, stuck
from verifiers.evaluation.tally import ClusteredMean, Progress
from verifiers.utils.activity import ENVIRONMENT, MODEL, MODEL_AGAIN, SCORING, SETTING_UP, Activity, doing, follow


def activity(waits: str, since: float, detail: str = "") -> Activity:
    found = Activity()
    found.waits, found.since, found.detail = waits, since, detail
    return found


def watched(total: int = 4, **fields) -> Watched:
    return Watched("a-game", Progress(total=total, **fields), {})


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-5, 5)), max_size=40))
def test_the_running_mean_is_that_of_the_formula(values):
    found = ClusteredMean()
    for group, value in values:
        found.add(group, value)
    if not values:
        assert found.mean is None and found.standard_error is None
        return
    mean = statistics.fmean(value for _, value in values)
    assert found.mean == pytest.approx(mean, abs=1e-9)
    groups = {group for group, _ in values}
    if len(groups) < 2:
        assert found.standard_error is None
        return
    residuals = [sum(value - mean for group, value in values if group == one) for one in groups]
    variance = len(groups) / (len(groups) - 1) * sum(part * part for part in residuals) / len(values) ** 2
    assert found.standard_error == pytest.approx(math.sqrt(variance), abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-5, 5)), min_size=2, max_size=40))
def test_the_live_interval_is_that_of_the_table_at_the_end(values):
    found, groups = ClusteredMean(), by_example(values)
    for group, value in values:
        found.add(group, value)
    whole = clustered_mean(groups, shares=False)
    assert whole is not None and found.mean == pytest.approx(whole.value, abs=1e-9)
    if whole.high is not None and len(groups) > 1:
        assert found.half_interval == pytest.approx(whole.high - whole.value, abs=1e-5)


def test_of_one_rollout_an_example_it_is_the_usual_standard_error():
    found = ClusteredMean()
    for number, value in enumerate([0.0, 1.0, 1.0, 0.5]):
        found.add(number, value)
    assert found.standard_error == pytest.approx(statistics.stdev([0.0, 1.0, 1.0, 0.5]) / 2)


def test_one_line_says_everything():
    run = watched(total=1200, running=3, request_retries=2, last_request_retry="in 4.0 s: busy (HTTP 503)")
    run.progress.started_at = 0.0
    usage = {"input_tokens": 1_200_000, "output_tokens": 900, "cost": 0.25}
    run.progress.add(vf.RolloutOutput(example_id=0, reward=1.0, token_usage=usage))
    run.progress.add(vf.RolloutOutput(example_id=1, reward=0.0, error=None))
    run.progress.add(vf.RolloutOutput(example_id=2, reward=None, error={"error": "SandboxError"}))
    run.activities = {(7, 0): activity(MODEL, 9.0), (8, 0): activity(MODEL, 8.0), (9, 1): activity(ENVIRONMENT, 7.0)}
    assert line(run, 10.0) == (
        "3/1,200 rollouts, reward 0.500 ± 6.353, 18.0/min, 1:06 h left, 3 running: 2 on the model, 1 on the environment, "
        "1,194 waiting, 1.2M tokens in, 900 out, $0.2500, errors: 1 SandboxError, "
        "2 requests asked again (in 4.0 s: busy (HTTP 503))"
    )


def test_slow_rollouts_are_named_and_the_others_counted():
    run = watched(running=4)
    run.activities = {
        (1, 0): activity(MODEL, 0.0),
        (2, 1): activity(MODEL_AGAIN, 40.0, "The model endpoint http://h:1/v1 failed: slow down (HTTP 429)"),
        (3, 0): activity(ENVIRONMENT, 60.0),
        (4, 0): activity(MODEL, 99.0),
    }
    assert slow(run, 100.0) == [
        "example 1, rollout 0: 1:40 min on the model",
        "example 2, rollout 1: 1:00 min to ask the model again (slow down (HTTP 429))",
        "1 more have waited over 30 s",
    ]


def test_stuck_is_told_from_slow():
    run = watched(running=2)
    run.activities = {(1, 0): activity(MODEL, 0.0), (2, 0): activity(MODEL, 95.0)}
    assert stuck(run, 100.0) is None  # one is slow, the other moves
    run.activities[2, 0].since = 10.0
    assert stuck(run, 100.0) == "nothing has moved for 1:30 min: 2 of 2 rollouts wait on the model"
    run.activities[2, 0].waits = MODEL_AGAIN  # it knows why, and says so
    assert stuck(run, 100.0) is None and stuck(watched(), 1e9) is None


def busy_run(name: str, number: int = 40) -> Watched:
    run = Watched(name, Progress(total=1_000_000, running=number, request_retries=7), {})
    run.progress.last_request_retry = "in 4.0 s: " + "a long reason " * 30
    for example in range(30):
        error = {"error": "AVeryLongNameOfAnErrorThatSomebodyChose"} if example % 3 == 0 else None
        run.progress.add(vf.RolloutOutput(example_id=example, reward=example / 7, error=error))
    run.activities = {(example, 0): activity(MODEL, 0.0, "x" * 300) for example in range(number)}
    return run


@pytest.mark.parametrize("width", [12, 24, 40, 59, 60, 80, 120, 200])
@pytest.mark.parametrize("runs", [1, 3, 40])
@pytest.mark.parametrize("height", [3, 24, 50])
def test_frames_fit_any_terminal(width, runs, height):
    shown = frame([busy_run(f"environment-{number}") for number in range(runs)], width, height, 100.0)
    assert all(part.cell_len <= width for part in shown), [part.plain for part in shown]
    assert len(shown) <= max(1, height - 2)
    assert runs > 1 or height < 20 or len(shown) > 4
    assert runs < 40 or shown[-1].plain.startswith("… and ") == (height < 42)


def test_the_bar_is_as_full_as_the_run():
    run = watched(total=10)
    for example in range(5):
        run.progress.add(vf.RolloutOutput(example_id=example, reward=1.0))
    (head, *_) = frame([run], 100, 24, 10.0, ascii_only=True)
    assert head.plain == "a-game  ###############...............  5/10  reward 1 ± 0"


class Gates(vf.MultiTurnEnv):
    """Waits at each stage until the test lets it go on."""

    def __init__(self, **kwargs):
        self.gates = {name: asyncio.Event() for name in (SETTING_UP, ENVIRONMENT, SCORING)}
        super().__init__(max_turns=2, **kwargs)

    async def setup_state(self, state, **kwargs):
        await self.gates[SETTING_UP].wait()
        return state

    async def env_response(self, messages, state, **kwargs):
        await self.gates[ENVIRONMENT].wait()
        return [{"role": "user", "content": "on"}]


async def until(condition, what):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"It never came to {what}.")


async def test_a_run_knows_what_each_rollout_waits_for(openai_server):
    gates: dict[str, asyncio.Event] = {}

    async def right(completion):
        await gates[SCORING].wait()
        return 1.0

    env = Gates(dataset=[{"question": "q"}], rubric=vf.Rubric([right]))
    gates.update(env.gates)
    runner = Runner(env, [{**env.get_dataset()[0], "example_id": 5}], POLICIES["baseline/echo"](), "baseline/echo")
    playing = asyncio.create_task(runner.run())
    seen = []
    for stage in (SETTING_UP, ENVIRONMENT, SCORING):
        await until(lambda stage=stage: runner.activities and runner.activities[5, 0].waits == stage, stage)
        seen.append(line(Watched("e", runner.progress, runner.activities)).split("running: ")[1].split(",")[0])
        env.gates[stage].set()
    await playing
    assert seen == ["1 setting up", "1 on the environment", "1 on the scoring"]
    assert not runner.activities and runner.progress.finished == 1 and runner.progress.running == 0


async def test_a_slow_model_and_its_refusals_are_seen(openai_server):
    from openai_server import error, text

    openai_server.reply(error(429, "slow down", {"Retry-After": "0.2"}), text("ok"))
    env = vf.SingleTurnEnv(dataset=[{"question": "q"}], rubric=vf.Rubric())
    runner = Runner(env, env.get_dataset(), vf.ClientConfig(api_base_url=openai_server.url), "m")
    playing, waits = asyncio.create_task(runner.run()), []
    while not playing.done():
        waits += [(one.waits, one.detail) for one in runner.activities.values()]
        await asyncio.sleep(0)
    await playing
    again = next(detail for name, detail in waits if name == MODEL_AGAIN)
    assert "slow down (HTTP 429)" in again and MODEL in {name for name, _ in waits}


def test_doing_ends_with_what_was_before_and_is_nothing_where_nobody_watches():
    with doing(MODEL):
        pass
    activities: dict = {}
    with follow(activities, "key") as one:
        with doing(ENVIRONMENT):
            with doing(MODEL, "why"):
                assert (one.waits, one.detail) == (MODEL, "why")
            assert (one.waits, one.detail) == (ENVIRONMENT, "")
        assert one.waits == SETTING_UP
        with pytest.raises(ValueError), doing(MODEL):
            raise ValueError
        assert one.waits == SETTING_UP
    assert activities == {}


def test_plain_lines_come_when_something_happens_and_now_and_then_when_nothing_does():
    stream = io.StringIO()
    run = watched(running=1)
    shown = PlainView([run], stream)
    begun = shown._began
    shown.look(begun + 6)
    assert stream.getvalue() == ""  # nothing has finished, and half a minute is not over
    shown.look(begun + 31)
    assert stream.getvalue().startswith("0/4 rollouts") and stream.getvalue().count("\n") == 1
    run.progress.add(vf.RolloutOutput(example_id=0, reward=1.0))
    shown.look(begun + 33)
    assert stream.getvalue().count("\n") == 1
    shown.look(begun + 37)
    assert stream.getvalue().count("\n") == 2 and "1/4 rollouts" in stream.getvalue()


def test_each_line_names_its_environment_where_there_are_several():
    stream = io.StringIO()
    one, two = watched(), Watched("another", Progress(total=2), {})
    with PlainView([one, two], stream):
        one.progress.add(vf.RolloutOutput(example_id=0, reward=1.0))
    assert [part.split(":")[0] for part in stream.getvalue().splitlines()] == ["a-game", "another"]


async def test_an_environment_that_keeps_the_program_busy_is_noticed():
    pulse = _Pulse()
    now = time.monotonic()
    assert pulse.blocked(now) == 0 and pulse.blocked(now + 12) == pytest.approx(12)
    await asyncio.sleep(0.01)  # the loop comes round
    assert pulse.blocked(time.monotonic()) == 0


async def test_the_live_view_draws_and_goes_away():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    env = vf.SingleTurnEnv(dataset=[{"question": "q"}] * 30, rubric=vf.Rubric())
    runner = Runner(env, env.get_dataset(), POLICIES["baseline/echo"](), "m", options=RunOptions(max_concurrent=4))
    shown = view([Watched("echoing", runner.progress, runner.activities)], terminal)
    assert isinstance(shown, LiveView)
    with shown:
        await runner.run()
        shown._live.refresh()
    assert "echoing" in terminal.getvalue() and "30/30" in terminal.getvalue()
