"""Many rollouts: how many at once, retries, groups, early ends, recording, resuming."""

import asyncio
import json

import pytest
from openai_server import Reply, error, text

import verifiers as vf
from prime_evals import Brief, ResumeMismatch, open_run, read_run, summarize
from verifiers.evaluation.policies import EchoPolicy, Policy
from verifiers.evaluation.recording import open_store
from verifiers.evaluation.runner import Reports, Runner, RunOptions, number_rows

ROWS = [{"question": f"word{number}", "answer": f"word{number}"} for number in range(4)]


def right(completion, answer):
    return float(completion[-1]["content"] == answer)


def make(**options):
    options.setdefault("rubric", vf.Rubric(funcs=[right]))
    return vf.SingleTurnEnv(dataset=[dict(row) for row in ROWS], env_id="words", **options)


class Failing(Policy):
    """Echoes, but raises the errors planned for (example, rollout), one per attempt; None is a success."""

    def __init__(self, plan):
        super().__init__()
        self.plan = {key: list(errors) for key, errors in plan.items()}
        self.asked = []

    async def get_native_response(self, prompt, model, sampling_args, tools, state=None, **_):
        key = (state["example_id"], state["rollout_index"])
        self.asked.append(key)
        planned = self.plan.get(key)
        problem = planned.pop(0) if planned else None
        if problem is not None:
            raise problem
        return await super().get_native_response(prompt, model, sampling_args, tools, state=state)

    def answer(self, prompt, tools, action_schema, rng):
        return vf.AssistantMessage(prompt[-1]["content"])


async def test_evaluate_counts_examples_and_rollouts():
    result = await make().evaluate(EchoPolicy(), "baseline/echo", num_examples=3, rollouts_per_example=2)
    outputs, metadata = result["outputs"], result["metadata"]
    assert [(row["example_id"], row["rollout_index"]) for row in outputs] == [
        (e, r) for e in range(3) for r in range(2)
    ]
    assert (
        metadata["avg_reward"] == 1.0 and metadata["num_scored"] == 6 and metadata["pass_at_k"] == {"1": 1.0, "2": 1.0}
    )
    first = outputs[0]
    assert first["completion"][0].content == "word0" and first["right"] == first["metrics"]["right"] == 1.0
    assert first["stop_condition"] == "max_turns_reached" and first["error"] is None and first["answer"] == "word0"
    assert set(first["timing"]) >= {"total", "generation", "scoring", "model"}


async def test_one_failing_rollout_disturbs_no_other():
    client = Failing(
        {(1, 0): [KeyError("oops")], (2, 1): [vf.SandboxError("gone")], (3, 0): [vf.EmptyModelResponseError("x")]}
    )
    result = await make().evaluate(client, "m", rollouts_per_example=2)
    rewards = [row["reward"] for row in result["outputs"]]
    assert rewards == [1.0, 1.0, None, 1.0, 1.0, None, 0.0, 1.0]
    assert result["metadata"]["num_scored"] == 6 and result["metadata"]["avg_reward"] == pytest.approx(5 / 6)
    broken = result["outputs"][2]["error"]
    assert broken["error"] == "ModelError" and broken["error_chain_str"] == "ModelError -> KeyError"
    assert result["outputs"][5]["error"]["message"] == "gone"


async def test_a_row_that_cannot_even_begin_is_a_row_with_an_error():
    rows = [{"prompt": "fine", "example_id": 0}, {"prompt": "bad", "info": "{not json", "example_id": 1}]
    outputs = (await make().generate(rows, EchoPolicy(), "m"))["outputs"]
    assert outputs[0]["error"] is None
    assert outputs[1]["reward"] is None and "not JSON" in outputs[1]["error"]["message"]


@pytest.mark.parametrize("limit", [1, 3, -1])
async def test_concurrency_counts_rollouts(limit):
    running = []
    most = []

    class Slow(EchoPolicy):
        async def get_native_response(self, *args, **kwargs):
            running.append(1)
            most.append(len(running))
            await asyncio.sleep(0.01)
            running.pop()
            return await super().get_native_response(*args, **kwargs)

    await make().evaluate(Slow(), "m", rollouts_per_example=3, max_concurrent=limit)
    assert max(most) == (12 if limit == -1 else limit)


async def test_infrastructure_and_useless_answers_are_retried_and_kept(tmp_path):
    client = Failing(
        {
            (0, 0): [vf.SandboxError("one"), vf.InvalidModelResponseError("two"), None],
            (1, 0): [vf.InfraError("a"), vf.InfraError("b"), vf.InfraError("c"), None],
            (2, 0): [vf.ModelError("not retried"), None],
        }
    )
    lines = []
    options = {"max_retries": 2, "retry_delay_seconds": 0.001, "results_path": tmp_path / "run", "on_log": lines.append}
    result = await make().evaluate(client, "m", **options)
    assert [row["reward"] for row in result["outputs"]] == [1.0, None, None, 1.0]
    assert client.asked.count((0, 0)) == 3 and client.asked.count((1, 0)) == 3 and client.asked.count((2, 0)) == 1
    attempts = [(one.key, one.attempt, one.final) for one in read_run(tmp_path / "run").attempts]
    assert sorted(attempts) == [
        ((0, 0), 1, False), ((0, 0), 2, False), ((0, 0), 3, True),
        ((1, 0), 1, False), ((1, 0), 2, False), ((1, 0), 3, True),
        ((2, 0), 1, True), ((3, 0), 1, True),
    ]  # fmt: skip
    assert len(lines) == 4 and any("SandboxError: one" in line for line in lines)


async def test_groups_are_scored_together_over_what_can_be_scored():
    seen = []

    def compare(states):
        seen.append([state["rollout_index"] for state in states])
        return [float(state["rollout_index"]) for state in states]

    client = Failing({(0, 1): [vf.SandboxError("gone")]})
    env = make(rubric=vf.Rubric(funcs=[compare]))
    result = await env.evaluate(client, "m", num_examples=1, rollouts_per_example=3, state_columns=["advantage"])
    assert seen == [[0, 2]]
    assert [row["reward"] for row in result["outputs"]] == [0.0, None, 2.0]
    assert [row["advantage"] for row in result["outputs"]] == [-1.0, None, 1.0]
    seen.clear()
    alone = await env.evaluate(client, "m", num_examples=1, rollouts_per_example=2, independent_scoring=True)
    assert seen == [[0], [1]] and [row["reward"] for row in alone["outputs"]] == [0.0, 1.0]


async def test_a_refused_key_ends_the_run_early_and_keeps_what_is_done(openai_server, tmp_path):
    openai_server.reply(text("word0"), error(401, "Incorrect API key provided"))
    client = vf.ClientConfig(api_base_url=openai_server.url, max_retries=0)
    with pytest.raises(vf.ModelAuthError, match="refused the key"):
        await make().evaluate(client, "m", rollouts_per_example=5, max_concurrent=1, results_path=tmp_path / "run")
    assert len(openai_server.requests) == 2
    run = read_run(tmp_path / "run")
    assert [one.output["reward"] for one in run.results.values()] == [1.0] and len(run.attempts) == 2
    openai_server.reply(lambda request: text(request["messages"][-1]["content"]))
    again = await make().evaluate(client, "m", rollouts_per_example=5, results_path=tmp_path / "run")
    assert len(again["outputs"]) == 20 and len(openai_server.requests) == 2 + 19


async def test_resume_is_exact_and_another_run_is_refused(tmp_path):
    client = Failing({})
    await make().evaluate(client, "m", num_examples=2, rollouts_per_example=2, results_path=tmp_path / "run")
    client.asked.clear()
    result = await make().evaluate(client, "m", num_examples=4, rollouts_per_example=2, results_path=tmp_path / "run")
    assert sorted(client.asked) == [(2, 0), (2, 1), (3, 0), (3, 1)]
    assert len(result["outputs"]) == 8 and result["outputs"][0]["completion"][0].content == "word0"
    assert len((tmp_path / "run/results.jsonl").read_text().splitlines()) == 8
    with pytest.raises(ResumeMismatch, match="model: 'm' != 'other'"):
        await make().evaluate(client, "other", rollouts_per_example=2, results_path=tmp_path / "run")


async def test_cancelling_keeps_what_is_finished(tmp_path):
    waiting = asyncio.Event()

    class Stuck(EchoPolicy):
        async def get_native_response(self, prompt, *args, **kwargs):
            if prompt[-1]["content"] == "word2":
                waiting.set()
                await asyncio.Event().wait()
            return await super().get_native_response(prompt, *args, **kwargs)

    task = asyncio.create_task(make().evaluate(Stuck(), "m", max_concurrent=1, results_path=tmp_path / "run"))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(read_run(tmp_path / "run").results) == {(0, 0), (1, 0)}
    rows = [json.loads(line) for line in (tmp_path / "run/results.jsonl").read_text().splitlines()]
    assert [row["reward"] for row in rows] == [1.0, 1.0]


async def test_state_columns_and_what_cannot_be_written():
    class Filled(vf.SingleTurnEnv):
        async def setup_state(self, state):
            state["note"] = {"a": (1, 2)}
            state["thing"] = object()

    env = Filled(dataset=ROWS, rubric=vf.Rubric())
    output = await env.run_rollout({"prompt": "hi"}, EchoPolicy(), "m", state_columns=["note", "absent"])
    assert output["note"] == {"a": [1, 2]} and output["absent"] is None
    sentence = (
        r"^state_columns value for 'thing' is not JSON-serializable: object. Only JSON-serializable types are allowed.$"
    )
    with pytest.raises(ValueError, match=sentence):
        await env.run_rollout({"prompt": "hi"}, EchoPolicy(), "m", state_columns=["thing"])


async def test_run_group_and_progress():
    calls = []
    started = []
    rows = [{"prompt": "hi", "answer": "hi"}, {"prompt": "hi", "answer": "no"}]
    outputs = await make().run_group([{**row, "example_id": 5} for row in rows], EchoPolicy(), "m")
    assert [(row["example_id"], row["rollout_index"], row["reward"]) for row in outputs] == [(5, 0, 1.0), (5, 1, 0.0)]
    options = {"on_start": started.append, "on_progress": [lambda *seen: calls.append(seen)]}
    await make().generate(rows, EchoPolicy(), "m", **options)
    assert started == [2] and [(len(every), len(new)) for every, new, _ in calls] == [(1, 1), (2, 1)]
    assert calls[-1][2]["avg_reward"] == 0.5


async def test_progress_of_a_long_run_is_told_several_at_once_and_whole():
    ticks = iter(range(10_000))
    calls = []
    reports = Reports([lambda *seen: calls.append(seen)], 1, 0.5, clock=lambda: next(ticks))
    finished = {}
    for number in range(100):
        row = {"example_id": number, "rollout_index": 0, "reward": 1.0}
        finished[number, 0] = row
        reports.add(finished, [row])
    reports.add(finished, [], last=True)
    reports.add(finished, [], last=True)
    told = [row["example_id"] for _, new, _ in calls for row in new]
    assert told == list(range(100)) and len(calls) < 10
    assert [len(every) for every, _, _ in calls] == [described["num_rollouts"] for _, _, described in calls]
    assert calls[0][1] == [finished[0, 0]] and calls[-1][2]["num_rollouts"] == 100


async def test_progress_is_told_to_the_end():
    told = []
    await make().evaluate(EchoPolicy(), "m", on_progress=lambda every, new, described: told.extend(new))
    assert sorted(row["example_id"] for row in told) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"max_concurent": 2}, "A run has no option 'max_concurent', meant is perhaps 'max_concurrent'."),
        ({"nonsense": 2}, "A run has no option 'nonsense'; there are max_concurrent, "),
        ({"push_to_hf_hub": True}, "The option 'push_to_hf_hub' is not here"),
    ],
)
async def test_options_that_are_none_are_sentences(option, words):
    with pytest.raises(TypeError) as refused:
        await make().evaluate(EchoPolicy(), "m", **option)
    assert str(refused.value).startswith(words)
    nothing = {"push_to_hf_hub": False, "hf_hub_dataset_name": None}
    assert len((await make().evaluate(EchoPolicy(), "m", **nothing))["outputs"]) == len(ROWS)


async def test_runs_that_share_a_client_each_hear_of_repeated_requests(openai_server):
    own, lines = [], {"one": [], "two": []}
    client = vf.as_client(vf.ClientConfig(api_base_url=openai_server.url))
    client.retry_delay_seconds = 0.001
    client.on_retry = lambda reason, wait: own.append(reason)
    second = asyncio.Event()

    class Waits(vf.SingleTurnEnv):
        async def setup_state(self, state):
            await second.wait()

    later = Waits(dataset=ROWS[:1], rubric=vf.Rubric())
    running = asyncio.create_task(later.evaluate(client, "m", on_log=lines["two"].append))
    await asyncio.sleep(0)
    openai_server.reply(error(500, "busy"), text("ok"), error(500, "busy"), text("ok"))
    await make().evaluate(client, "m", num_examples=1, on_log=lines["one"].append)
    second.set()
    await running
    await client.close()
    assert client.retries == len(own) == 2
    assert len(lines["one"]) == 1 and len(lines["two"]) == 2
    assert all("Asking the model again in" in line for line in (*lines["one"], *lines["two"]))


def test_sync_doors_tear_down_in_the_loop_they_used():
    class Held(vf.SingleTurnEnv):
        loops: list = []

        async def setup_state(self, state):
            self.loops.append(asyncio.get_running_loop())

        @vf.teardown
        async def release(self):
            self.loops.append(asyncio.get_running_loop())

    env = Held(dataset=ROWS[:1], rubric=vf.Rubric())
    assert len(env.evaluate_sync(EchoPolicy(), "m")["outputs"]) == 1
    assert len(env.loops) == 2 and env.loops[0] is env.loops[1]


async def test_scoring_switched_off():
    result = await make(score_rollouts=False).evaluate(EchoPolicy(), "m")
    assert [row["reward"] for row in result["outputs"]] == [0.0] * 4 and result["outputs"][0]["metrics"] == {}


async def test_a_half_recorded_group_is_played_again(tmp_path):
    def compare(states):
        return [float(len(states)) for _ in states]

    env = make(rubric=vf.Rubric(funcs=[compare]))
    await env.evaluate(EchoPolicy(), "m", num_examples=2, rollouts_per_example=2, results_path=tmp_path / "run")
    path = tmp_path / "run" / "attempts.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    client = Failing({})
    result = await env.evaluate(client, "m", num_examples=2, rollouts_per_example=2, results_path=tmp_path / "run")
    assert [row["reward"] for row in result["outputs"]] == [2.0] * 4 and len(set(client.asked)) == len(
        client.asked
    ) == 2


async def test_the_runner_says_where_it_stands():
    seen = []
    client = Failing({(0, 0): [vf.InfraError("x"), None]})
    options = RunOptions(max_retries=1, retry_delay_seconds=0.001)
    env = make()
    runner = Runner(env, env.get_dataset(), client, "m", None, options)
    runner.listener = lambda progress, new: seen.append((progress.finished, progress.retries, len(new)))
    await runner.run()
    assert seen[-1] == (4, 1, 1) and runner.progress.scored == 4 and runner.progress.running == 0


async def test_a_run_that_cannot_begin_lets_go_of_its_folder(tmp_path):
    env = make()
    with pytest.raises(ValueError, match="Unsupported client type: object") as refused:
        await env.evaluate(object(), "m", results_path=tmp_path / "run")
    result = await env.evaluate(EchoPolicy(), "m", results_path=tmp_path / "run")
    assert len(result["outputs"]) == len(ROWS), refused


async def test_a_run_that_is_in_vain_ends(tmp_path):
    def failing(message):
        return Failing({(e, r): [message(e * 5 + r)] for e in range(4) for r in range(5)})

    client = failing(lambda n: vf.ModelError(f"no model here (request {n}, id a{n}f)"))
    options = {"rollouts_per_example": 5, "max_concurrent": 1, "results_path": tmp_path / "run"}
    with pytest.raises(
        vf.RepeatedError, match=r"^Each of the first 3 rollouts ended with the same error, so the run was"
    ):
        await make().evaluate(client, "m", stop_after_same_errors=3, **options)
    assert len(client.asked) == 3 and len(read_run(tmp_path / "run").results) == 3
    result = await make().evaluate(Failing({}), "m", **options, retry="errored")
    assert [row["reward"] for row in result["outputs"]] == [1.0] * 20

    for kind in (vf.RateLimitError, vf.InfraError, vf.EmptyModelResponseError):
        client = failing(lambda n, kind=kind: kind("again"))
        await make().evaluate(client, "m", rollouts_per_example=5, stop_after_same_errors=3)
        assert len(client.asked) == 20, "time may heal it, or it says something of the model"
    client = failing(lambda n: vf.ModelError(str(["this", "that"][n % 2])))
    await make().evaluate(client, "m", rollouts_per_example=5, stop_after_same_errors=2)
    client = Failing({(0, 0): [None], **{(e, 0): [vf.ModelError("x")] for e in range(1, 4)}})
    await make().evaluate(client, "m", max_concurrent=1, stop_after_same_errors=2)
    assert len(client.asked) == 4, "not all from the first on"


async def test_what_is_no_answer_of_a_model_is_unscored(openai_server):
    openai_server.reply(Reply(body=b"<html>Welcome</html>", headers={"Content-Type": "text/html"}), text("word1"))
    client = vf.ClientConfig(api_base_url=openai_server.url)
    result = await make().evaluate(client, "m", num_examples=2, max_concurrent=1)
    assert [row["reward"] for row in result["outputs"]] == [None, 1.0]
    assert result["outputs"][0]["error"]["error"] == "UnreadableResponseError"
    openai_server.reply(Reply(body=b""), text("word0"))
    result = await make().evaluate(client, "m", num_examples=1, max_retries=1, retry_delay_seconds=0.001)
    assert [row["reward"] for row in result["outputs"]] == [1.0], "it may be in passing"


@pytest.mark.parametrize(("retry", "again"), [("errored", {(0, 0), (1, 0)}), ("unscored", {(0, 0)}), (None, set())])
async def test_only_what_is_asked_for_is_played_again(tmp_path, retry, again):
    client = Failing({(0, 0): [vf.ModelError("down"), None], (1, 0): [vf.EmptyModelResponseError("mute"), None]})
    first = await make().evaluate(client, "m", results_path=tmp_path / "run")
    assert [row["reward"] for row in first["outputs"]] == [None, 0.0, 1.0, 1.0]
    client.asked.clear()
    second = await make().evaluate(client, "m", results_path=tmp_path / "run", retry=retry)
    assert set(client.asked) == again
    wanted = {(0, 0): None, (1, 0): 0.0, (2, 0): 1.0, (3, 0): 1.0} | dict.fromkeys(again, 1.0)
    assert [row["reward"] for row in second["outputs"]] == list(wanted.values())
    run = read_run(tmp_path / "run")
    assert {key: one.output["reward"] for key, one in run.results.items()} == wanted
    numbers = [(one.key, one.attempt) for one in run.attempts]
    assert set(numbers) == {((e, 0), 1) for e in range(4)} | {(key, 2) for key in again} and len(numbers) == 4 + len(
        again
    )
    rows = [json.loads(line)["reward"] for line in (tmp_path / "run/results.jsonl").read_text().splitlines()]
    assert rows == list(wanted.values())


async def test_of_a_group_all_are_played_again_and_one_result_each_counts(tmp_path):
    def compare(states):
        return [float(len(states)) for _ in states]

    env = make(rubric=vf.Rubric(funcs=[compare]))
    options = {"num_examples": 2, "rollouts_per_example": 3, "results_path": tmp_path / "run"}
    client = Failing({(1, 2): [vf.ModelError("down"), None]})
    first = await env.evaluate(client, "m", **options)
    assert [row["reward"] for row in first["outputs"]] == [3.0] * 3 + [2.0, 2.0, None]
    client.asked.clear()
    second = await env.evaluate(client, "m", **options, retry="unscored")
    assert sorted(client.asked) == [(1, 0), (1, 1), (1, 2)]
    assert [row["reward"] for row in second["outputs"]] == [3.0] * 6
    with open_run(tmp_path / "run") as run:
        assert [one["attempt"] for one in run.attempts((1, 2))] == [1, 2] and run.counts.attempts == 9
        assert run.attempts((1, 2))[0]["output"]["error"]["message"] == "down"


async def test_of_a_group_that_was_cut_off_what_was_played_is_there_and_not_final(tmp_path):
    def compare(states):
        return [float(len(states)) for _ in states]

    reached = asyncio.Event()

    class Stuck(EchoPolicy):
        async def get_native_response(self, prompt, model, sampling_args, tools, state=None, **_):
            if state["rollout_index"] == 2:
                reached.set()
                await asyncio.Event().wait()
            return await super().get_native_response(prompt, model, sampling_args, tools, state=state)

    env = make(rubric=vf.Rubric(funcs=[compare]))
    options = {"num_examples": 1, "rollouts_per_example": 3, "max_concurrent": 1, "results_path": tmp_path / "run"}
    task = asyncio.create_task(env.evaluate(Stuck(), "m", **options))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    run = read_run(tmp_path / "run")
    assert [(one.key, one.attempt, one.final) for one in run.attempts] == [((0, 0), 1, False), ((0, 1), 1, False)]
    assert run.attempts[0].output["completion"] and not run.results
    await env.evaluate(Failing({}), "m", **options)
    finals = [(one.key, one.attempt) for one in read_run(tmp_path / "run").attempts if one.final]
    assert finals == [((0, 0), 2), ((0, 1), 2), ((0, 2), 1)]


async def test_finishing_ends_with_what_is_being_played(tmp_path):
    client = Failing({(1, 0): [vf.InfraError("x"), None]})
    options = RunOptions(max_retries=3, retry_delay_seconds=3600.0, max_concurrent=2)
    env = make()
    rows = env.get_dataset()
    store = open_store(env, number_rows(rows), "m", results_path=tmp_path / "run")
    runner = Runner(env, rows, client, "m", None, options, store)
    runner.listener = lambda progress, new: runner.finish() if progress.retries else None
    outputs = await asyncio.wait_for(runner.run(), 30)
    store.close()
    assert (1, 0) not in {(row["example_id"], row["rollout_index"]) for row in outputs}
    assert len(outputs) == len(client.asked) - 1 and client.asked.count((1, 0)) == 1
    assert [one.key for one in read_run(tmp_path / "run").attempts if not one.final] == [(1, 0)]


async def test_a_run_that_keeps_briefs_says_the_same(tmp_path):
    env = make(rubric=vf.Rubric(funcs=[right]))
    rows = [{**row, "rollout_index": index} for row in env.get_dataset() for index in range(2)]
    plan = {(1, 0): [vf.ModelError("down " * 900)], (2, 0): [vf.EmptyModelResponseError("mute")]}
    whole = Runner(env, rows, Failing(plan), "m")
    store = open_store(env, number_rows(rows), "m", results_path=tmp_path / "run")
    brief = Runner(env, rows, Failing(plan), "m", store=store, keep_outputs=False)
    alone = Runner(env, rows, Failing(plan), "m", keep_outputs=False)
    summaries = []
    for runner in (whole, brief, alone):
        await runner.run()
        summaries.append(summarize(runner.ordered(), 2))
    assert summaries[0] == summaries[1] == summaries[2]
    assert all(isinstance(one, Brief) for one in brief.ordered()) and len(brief.ordered()[2]["error"]["message"]) < 2000
    store.close()
    again = open_store(env, number_rows(rows), "m", results_path=tmp_path / "run")
    resumed = Runner(env, rows, Failing({}), "m", store=again, keep_outputs=False)
    await resumed.run()
    again.close()
    assert summarize(resumed.ordered(), 2) == summaries[0] and resumed.progress.resumed == 8


def test_an_unknown_retry_is_a_sentence():
    with pytest.raises(ValueError, match=r"^retry is 'errored' or 'unscored', not 'all'.$"):
        RunOptions(retry="all")
