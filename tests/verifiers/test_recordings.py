"""Recordings: which file is read, which rollout is found, what is said when a file is none."""

from __future__ import annotations

import json

import pytest

import verifiers as vf
from verifiers.errors import is_retriable, is_unscored
from verifiers.evaluation.models import resolve_model
from verifiers.evaluation.recordings import RecordingError, read_recordings
from verifiers.evaluation.replay import NotRecorded, ReplayPolicy

TOOL = vf.Tool("say", "says", {"type": "object", "properties": {"text": {"type": "string"}}})


@pytest.fixture
def written(tmp_path):
    """`written({...}, {...})`: the recordings of these lines."""

    def make(*lines, name="mine.jsonl"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
        return read_recordings(str(file))

    return make


def row(example, index, *said, seed=None, **more):
    """A row of results."""
    completion = [
        part for words in said for part in ({"role": "assistant", "content": words}, {"role": "user", "content": "so"})
    ]
    info = {} if seed is None else {"seed": seed}
    return {"example_id": example, "rollout_index": index, "completion": completion, "info": info, **more}


async def say(recordings, example=0, index=0, seed=None, turn=0, tools=None):
    info = {} if seed is None else {"seed": seed}
    state = vf.State(input={"info": info, "example_id": example}, rollout_index=index, trajectory=[None] * turn)
    response = await ReplayPolicy(recordings).get_response([vf.UserMessage("go")], "m", tools=tools, state=state)
    return response.message


async def test_actions_written_by_hand(written):
    call = {"tool": "say", "arguments": {"text": "hi"}}
    found = written({"seed": 3, "actions": [{"move": "up"}, "words", call, {"tool": "say"}]})
    assert [(await say(found, seed=3, turn=turn)).content for turn in range(3)] == [
        '{"move": "up"}',
        "words",
        json.dumps(call),
    ]
    (called,) = (await say(found, seed=3, turn=2, tools=[TOOL])).tool_calls
    assert (called.name, json.loads(called.arguments)) == ("say", {"text": "hi"})
    (called,) = (await say(found, seed=3, turn=3, tools=[TOOL])).tool_calls
    assert json.loads(called.arguments) == {}
    assert (await say(found, seed=3, turn=0, tools=[TOOL])).content == '{"move": "up"}'


async def test_the_recording_that_names_most_is_taken(written):
    found = written(
        {"seed": 1, "actions": ["any"]},
        {"seed": 1, "rollout_index": 1, "actions": ["second"]},
        {"example_id": 7, "actions": ["seventh"]},
        {"example_id": "x", "rollout_index": 0, "actions": ["named"]},
        "",
    )
    assert (await say(found, seed=1, index=0)).content == "any"
    assert (await say(found, seed=1, index=1)).content == "second"
    assert (await say(found, example=7, seed=99, index=5)).content == "seventh"
    assert (await say(found, example="x")).content == "named"
    with pytest.raises(NotRecorded, match=r"^Nothing is recorded for example x, rollout 1 in .*/mine.jsonl\.$"):
        await say(found, example="x", index=1)


async def test_rows_of_a_run_go_by_their_seed(written):
    found = written(row(0, 0, "a", "b", seed=10), row(0, 1, "c", seed=10), row(1, 0, "d", seed=11))
    assert (await say(found, example=5, seed=10, index=1)).content == "c", "rows may lie differently"
    assert (await say(found, example=0, seed=11)).content == "d"
    with pytest.raises(NotRecorded, match=r"Nothing is recorded for example 0, rollout 0 \(seed 12\)"):
        await say(found, example=0, seed=12)


async def test_where_rows_share_a_seed_the_example_counts(written):
    found = written(row(0, 0, "a", seed=10), row(1, 0, "b", seed=10))
    assert [(await say(found, example=number, seed=10)).content for number in (0, 1)] == ["a", "b"]
    with pytest.raises(NotRecorded):
        await say(found, example=2, seed=10)


async def test_results_of_others_are_numbered_as_they_come(written):
    rows = [row(0, 0, text) for text in ("a", "b")]
    for each in rows:
        del each["rollout_index"]
    found = written(*rows, {"example_id": 1, "completion": "all of it"})
    assert [(await say(found, index=number)).content for number in (0, 1)] == ["a", "b"]
    assert (await say(found, example=1)).content == "all of it"


async def test_an_episode_that_outlives_its_recording(written):
    found = written(row(0, 0, "a"), row(1, 0))
    with pytest.raises(NotRecorded) as raised:
        await say(found, turn=1)
    assert str(raised.value).startswith(
        "The recording of example 0, rollout 0 ends after turn 1 and the episode goes on: turn 2 is "
    )
    assert str(raised.value).endswith("/mine.jsonl.") and "in line 1 of" in str(raised.value)
    assert is_unscored(raised.value) and not is_retriable(raised.value)
    with pytest.raises(
        NotRecorded, match=r'turn 1 is missing in line 2 of .* A last action "done" would end an episode'
    ):
        await say(found, example=1, tools=[TOOL])


def attempt(output, final=True):
    return {"kind": "attempt", "example_id": 0, "rollout_index": 0, "output": output, "final": final}


async def test_attempts_count_when_they_are_final_and_the_last_one_wins(written, tmp_path):
    lines = [{"kind": "run"}, attempt(row(0, 0, "a"), final=False), attempt(row(0, 0, "b")), attempt(row(0, 0, "c"))]
    found = written(*lines, name="run/attempts.jsonl")
    assert (await say(found)).content == "c" and found.label.startswith("run-")
    torn = tmp_path / "run" / "attempts.jsonl"
    torn.write_text(torn.read_text() + '{"kind": "att')
    assert (await say(read_recordings(str(torn)))).content == "c"


async def test_a_folder_is_searched_for_its_run(written, tmp_path):
    written(row(0, 0, "from results"), name="evals/one/results.jsonl")
    for place in (tmp_path / "evals" / "one", tmp_path / "evals"):
        assert (await say(read_recordings(str(place)))).content == "from results"
    written(attempt(row(0, 0, "from attempts")), name="evals/one/attempts.jsonl")
    assert (await say(read_recordings(str(tmp_path / "evals")))).content == "from attempts"
    written(row(0, 0, "another"), name="evals/two/results.jsonl")
    with pytest.raises(RecordingError, match=r"There are 2 runs in .*; name one of them: .*/evals/one, .*/evals/two\."):
        read_recordings(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        RecordingError, match=r"There is no run in .*/empty: neither attempts\.jsonl nor results\.jsonl"
    ):
        read_recordings(str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], r"mine\.jsonl is empty: no rollout is recorded in it"),
        ([{"seed": 1, "actions": []}, "{bad"], r"^Line 2 of .*mine\.jsonl is not JSON: Expecting property name"),
        (["[1]"], r"^Line 1 of .* is not a JSON object such as \{\"seed\": 3"),
        ([{"seed": 1}], "^Line 1 of .* records nothing: it has neither `completion`"),
        ([{"actions": []}], "^Line 1 of .* does not say which row it is for: it needs `seed` or `example_id`"),
        ([{"seed": [1], "actions": []}], r"`seed` must be a number or a string, not \[1\]"),
        ([{"seed": 1, "rollout_index": -1, "actions": []}], "`rollout_index` must be a whole number from 0 up, not -1"),
        ([{"seed": 1, "actions": {}}], "`actions` must be a list, not dict"),
        ([{"seed": 1, "actions": ["a", 3]}], "action 2 is 3; an action is a JSON object, a string, or"),
        ([{"seed": 1, "actions": []}] * 2, "^Line 2 of .* is for the same rollout as line 1; keep one of them"),
        (
            [{"completion": [{"content": "x"}]}],
            "^Line 1 of .* holds a message that is none: A chat message needs a role",
        ),
    ],
)
def test_a_file_that_is_none(written, lines, sentence):
    with pytest.raises(RecordingError, match=sentence):
        written(*lines)


def rows_of(outputs):
    return [(output["reward"], output["completion"]) for output in outputs["outputs"]]


async def test_a_run_replayed_is_the_run(tmp_path):
    def length(completion):
        return float(len(completion[-1]["content"]))

    rows = [{"question": f"say something of word{number} and red", "info": {"seed": number}} for number in range(4)]
    env = vf.SingleTurnEnv(dataset=rows, rubric=vf.Rubric(funcs=[length]), env_id="talk")
    random = resolve_model("baseline/random", environ={}).client
    played = await env.evaluate(random, "random", rollouts_per_example=3, results_path=tmp_path / "run")
    replay = resolve_model(f"baseline/replay:{tmp_path / 'run'}", environ={}).client
    again = await env.evaluate(replay, "replay", rollouts_per_example=3)
    assert rows_of(again) == rows_of(played) and len({reward for reward, _ in rows_of(played)}) > 2
    more = await env.evaluate(replay, "replay", rollouts_per_example=4, max_retries=2)
    errors = [output["error"] for output in more["outputs"] if output["rollout_index"] == 3]
    assert {error["error"] for error in errors} == {"NotRecorded"} and len(errors) == 4
    assert more["metadata"]["num_scored"] == 12
