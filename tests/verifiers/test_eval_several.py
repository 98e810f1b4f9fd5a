"""Several evaluations in one command: names, files of them, sweeps; what they share, and what each has alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from eval_world import World
from openai_server import OpenAIServer, Reply, text

from verifiers.cli import eval_file
from verifiers.cli.eval_arguments import parse
from verifiers.cli.eval_file import EvalFileError, read_file

BROKEN = "def load_environment():\n    raise KeyError('words.txt')\n"
OTHER = 'import my_talk\n\n\ndef load_environment(word="other", **kwargs):\n    return my_talk.load_environment(word, **kwargs)\n'


@pytest.fixture
def world(tmp_path: Path, openai_server: OpenAIServer) -> World:
    """With a second environment, which plays like the first, and one that cannot be loaded."""
    made = World(tmp_path, openai_server)
    for name, code in (("other_talk", OTHER), ("broken", BROKEN)):
        folder = tmp_path / "environments" / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(code)
        (folder / "pyproject.toml").write_text(f'[project]\nname = "{name.replace("_", "-")}"\nversion = "0.1.0"\n')
    return made


ECHO = ("-m", "baseline/echo")


def test_each_has_its_folder_and_all_have_a_table(world: World):
    done = world.run("my-talk", "other-talk", *ECHO, "-n", "2", "-r", "2", "-o", "out")
    assert done.stderr.startswith(
        "2 evaluations, 8 rollouts in all, 8 at once:\n  my-talk 0.1.0 (./environments/my_talk)"
    )
    assert (
        "\n  other-talk 0.1.0 (./environments/other_talk) · baseline/echo · 2 examples × 2 rollouts = 4\n"
        in done.stderr
    )
    assert "my-talk: 4/4 rollouts" in done.stderr and "other-talk: 4/4 rollouts" in done.stderr
    table = done.stdout.split("\n\n")[-1].splitlines()
    assert table[0].split() == ["environment", "model", "reward", "scored", "results"]
    folders = [Path(line.split()[-1]) for line in table[1:]]
    assert [folder.parent.name for folder in folders] == ["my-talk--baseline--echo", "other-talk--baseline--echo"]
    assert all(len((world.folder / one / "results.jsonl").read_text().splitlines()) == 4 for one in folders)


def test_json_is_a_list_then(world: World):
    done = world.run("my-talk", "other-talk", *ECHO, "-n", "1", "-r", "1", "--no-save", "--output", "json")
    assert [(one["env_id"], one["avg_reward"]) for one in json.loads(done.stdout)] == [
        ("my-talk", 1),
        ("other-talk", 1),
    ]


def test_one_number_of_slots_for_all(world: World):
    gate = threading.Event()

    def answer(request: dict[str, Any]) -> Reply:
        if world.server.running == 4:
            gate.set()
        reply = text(request["messages"][-1]["content"])
        return Reply(reply.status, reply.body, wait=gate)

    world.server.reply(answer)
    world.run("my-talk", "other-talk", *world.model, "-n", "3", "-r", "1", "-c", "4", "--no-save")
    assert world.server.most_at_once == 4 and len(world.server.requests) == 6
    # The first is finished first; what it leaves is used by the second.
    first = [request["messages"][0]["content"][:4] for request in world.server.requests]
    assert first[:4].count("word") == 3 and first.count("othe") == 3


def test_a_failing_one_does_not_end_the_others(world: World):
    args = ("broken", "my-talk", *ECHO, "-n", "1", "-r", "1", "--no-save")
    done = world.run(*args, code=1)
    assert "Error: Failed to load environment 'broken': 'words.txt'" in done.stderr
    assert "1 evaluation, 1 rollout in all, 1 at once, 1 cannot be played:" in done.stderr
    assert "Failed to load environment 'broken'" in done.stdout.split("\n\n")[-1] and "1 of 1" in done.stdout
    found = json.loads(world.run(*args, "--output", "json", code=1).stdout)
    assert [one["env_id"] for one in found] == ["broken", "my-talk"]
    assert found[0]["stopped"].startswith("Failed to load") and found[1]["avg_reward"] == 1


def test_what_is_missing_is_told_before_anything_is_played(world: World):
    done = world.run("my-talk", "nothing", "othertalk", *world.model, code=1)
    assert [line.partition(" is not")[0] for line in done.stderr.splitlines()] == [
        "Error: The environment 'nothing'",
        "Error: The environment 'othertalk'",
    ]
    assert done.stderr.rstrip().endswith("Did you mean other-talk?") and not world.server.requests


def test_a_limit_is_shared(world: World):
    args = ("my-talk", "other-talk", *world.model, "-n", "2", "-r", "1", "-c", "1", "-o", "out")
    done = world.run(*args, "--max-tokens-total", "40", code=3)
    assert "The limit of 40 tokens is reached: 48 are used. 3 of 4 rollouts are done and recorded." in done.stderr
    assert done.stderr.endswith("Continue with the same command and --resume\n")
    again = world.run(*args, "--resume", "--output", "json")
    assert len(world.server.requests) == 4 and [one["num_scored"] for one in json.loads(again.stdout)] == [2, 2]


def test_an_interrupted_one_goes_on_where_it_was(world: World):
    stuck, release = threading.Event(), threading.Event()

    def answer(request: dict[str, Any]) -> Reply:
        said = request["messages"][-1]["content"]
        if said == "other1" and not release.is_set():
            stuck.set()
            return Reply(wait=release, cut=True)
        return text(said)

    world.server.reply(answer)
    args = ["my-talk", "other-talk", *world.model, "-n", "2", "-r", "1", "-c", "1", "-o", "out"]
    child = start(world, *args)
    assert stuck.wait(30)
    child.send_signal(signal.SIGINT)
    said(child, "Ending: no rollout begins any more, and the rollout in flight can end.")
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    release.set()
    assert child.returncode == 130 and "Traceback" not in err, err
    assert "Interrupted: 3 of 4 rollouts are done and recorded. Continue with the same command and --resume\n" in err
    assert "2 of 2" in out and "1 of 2" in out
    world.server.requests.clear()
    done = world.run(*args, "--resume")
    assert [request["messages"][-1]["content"] for request in world.server.requests] == ["other1"]
    assert done.stdout.count("2 of 2") == 2


STUBBORN = """
import asyncio
import threading
import time
import verifiers as vf

class Stubborn(vf.SingleTurnEnv):
    async def setup_state(self, state, **kwargs):
        if state["example_id"] == 1:
            print("stuck", flush=True)
            {how}
        return state

    @vf.teardown
    async def slow(self):
        print("tearing down", flush=True)
        await asyncio.sleep({teardown})

def load_environment():
    rows = [{{"question": "a", "answer": "a"}}, {{"question": "b", "answer": "b"}}]
    return Stubborn(dataset=rows, rubric=vf.Rubric())
"""


@pytest.mark.parametrize(
    ("how", "teardown"),
    [
        ("await asyncio.sleep(100)", 100),
        ("time.sleep(100)", 0),
        ("await asyncio.to_thread(time.sleep, 100)", 0),
    ],
    ids=["a slow teardown", "a blocked loop", "a thread that does not end"],
)
def test_whatever_keeps_it_it_ends_and_nothing_is_lost(world: World, how: str, teardown: int):
    folder = world.folder / "environments" / "stubborn"
    folder.mkdir()
    (folder / "stubborn.py").write_text(STUBBORN.format(how=how, teardown=teardown))
    child = start(world, "stubborn", *ECHO, "-n", "2", "-r", "1", "-c", "1", "-o", "out")
    assert child.stdout is not None
    assert child.stdout.readline() == "stuck\n"
    child.send_signal(signal.SIGINT)
    if how.startswith("await"):
        said(child, "Ending: ")
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "tearing down\n"
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(1)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130 and "Traceback" not in err, err
    assert "Interrupted: 1 of 2 rollouts are done and recorded. Continue with the same command and --resume out/" in err
    (results,) = (world.folder / "out").rglob("results.jsonl")
    assert len(results.read_text().splitlines()) == 1 and "1 scored of 2 total" in out


def said(child: subprocess.Popen[str], beginning: str) -> None:
    """Wait until the command says a line that begins so."""
    assert child.stderr is not None
    assert any(line.startswith(beginning) for line in child.stderr)


def start(world: World, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "verifiers.cli.eval", *args],
        cwd=world.folder,
        env={**os.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# Files


FILE = """
model = "baseline/echo"
num_examples = 1
rollouts_per_example = 1
save_results = false
max_concurrent = 5
env_args = { count = 3 }

[[eval]]
id = "my-talk"

[[eval]]
env_id = "other-talk"
args = { word = "w" }
num_examples = 2

[[ablation]]
env_id = "my-talk"
[ablation.sweep]
temperature = [0.0, 1.0]
[ablation.sweep.env_args]
turns = [1, 2]
"""


def test_a_file_of_them(world: World):
    (world.folder / "evals.toml").write_text(FILE)
    runs = json.loads(world.run("evals.toml", "--output", "json").stdout)
    count = {"count": 3}
    assert [(one["env_id"], one["env_args"], one["sampling_args"], one["num_rollouts"]) for one in runs] == [
        ("my-talk", count, {}, 1),
        ("other-talk", {**count, "word": "w"}, {}, 2),
        *(
            ("my-talk", {**count, "turns": turns}, {"temperature": temperature}, 1)
            for temperature in (0.0, 1.0)
            for turns in (1, 2)
        ),
    ]
    # The command line lies over it, and names may stand beside it.
    done = world.run("evals.toml", "other-talk", "-n", "3", "-m", "baseline/first", "-T", "0.5", "--dry-run")
    lines = done.stderr.splitlines()
    assert lines[0] == "7 evaluations, 27 rollouts in all, 5 at once:" and all("3 examples" in one for one in lines[1:])
    assert all("baseline/first" in one and "temperature=0.5" in one for one in lines[1:])
    table = world.run("evals.toml", "--no-save").stdout.split("\n\n")[-1]
    assert "my-talk count=3 turns=2 temperature=1.0" not in table and "my-talk turns=2 temperature=1.0" in table


RUN_FIELDS: dict[str, tuple[Any, str, Any]] = {
    "env_id": ("other-talk", "env_id", "other-talk"),
    "id": ("other-talk", "env_id", "other-talk"),
    "env_args": ({"a": 1}, "env_args", {"a": 1}),
    "args": ({"a": 1}, "env_args", {"a": 1}),
    "extra_env_kwargs": ({"max_turns": 2}, "extra_env_kwargs", {"max_turns": 2}),
    "env_dir_path": ("mine", "env_dir_path", "mine"),
    "server": ("http://127.0.0.1:1", "server", "http://127.0.0.1:1"),
    "endpoints_path": ("e.toml", "endpoints_path", "e.toml"),
    "endpoint_id": ("mine", "endpoint_only", True),
    "model": ("m", "model", "m"),
    "provider": ("local", "provider", "local"),
    "api_client_type": ("openai_responses", "client_type", "openai_responses"),
    "api_key_var": ("K", "api_key_var", "K"),
    "api_base_url": ("http://127.0.0.1:1/v1", "base_url", "http://127.0.0.1:1/v1"),
    "header": ("X-A: b", "headers", {"X-A": "b"}),
    "headers": (["X-A: b", "X-C: d"], "headers", {"X-A": "b", "X-C": "d"}),
    "header_from_state": ("X-A: example_id", "headers_from_state", {"X-A": "example_id"}),
    "headers_from_state": ({"X-A": "example_id"}, "headers_from_state", {"X-A": "example_id"}),
    "sampling_args": ({"top_p": 0.1}, "sampling_args", {"top_p": 0.1}),
    "max_tokens": (7, "sampling_args", {"max_tokens": 7}),
    "temperature": (0.5, "sampling_args", {"temperature": 0.5}),
    "num_examples": (-1, "num_examples", -1),
    "rollouts_per_example": (4, "rollouts_per_example", 4),
    "max_concurrent": (3, "max_concurrent", 3),
    "max_retries": (2, "max_retries", 2),
    "stop_after": (0, "stop_after", 0),
    "timeout": (1.5, "timeout", 1.5),
    "independent_scoring": (True, "independent_scoring", True),
    "output_dir": ("out", "output_dir", "out"),
    "state_columns": (["a", "b"], "state_columns", ["a", "b"]),
    "save_results": (False, "save", False),
    "resume": (True, "resume", ""),
    "resume_path": ("here", "resume", "here"),
    "retry": ("errored", "retry", "errored"),
}
WHOLE_FIELDS: dict[str, Any] = {
    "max_concurrent": 7,
    "max_cost": 2.5,
    "max_tokens_total": 1000,
    "heartbeat_url": "http://127.0.0.1:1/beat",
    "abbreviated_summary": True,
    "disable_tui": True,
    "verbose": True,
}


def test_every_field_of_a_file_arrives(tmp_path: Path):
    assert set(RUN_FIELDS) == set(eval_file._RUN) and set(WHOLE_FIELDS) == set(eval_file._WHOLE)
    file = tmp_path / "evals.toml"
    for name, (value, target, expected) in RUN_FIELDS.items():
        named = "" if name in ("id", "env_id") else 'env_id = "my-talk"\n'
        named += "resume = true\n" if name == "retry" else ""
        file.write_text(f"[[eval]]\n{named}{name} = {toml(value)}\n")
        (run,) = parse([str(file)], "vf-eval").runs
        assert getattr(run, target) == expected, name
        if name not in ("id", "env_id", "retry", *WHOLE_FIELDS):  # and for all of them, at the top
            file.write_text(f'{name} = {toml(value)}\n[[eval]]\nenv_id = "my-talk"\n')
            (run,) = parse([str(file)], "vf-eval").runs
            assert getattr(run, target) == expected, name
    for name, value in WHOLE_FIELDS.items():
        file.write_text(f'{name} = {toml(value)}\n[[eval]]\nenv_id = "my-talk"\n')
        assert getattr(parse([str(file)], "vf-eval"), name) == value, name


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {toml(one)}" for name, one in value.items()) + " }"
    return json.dumps(value)


def test_a_run_may_have_a_limit_of_its_own(world: World):
    (world.folder / "evals.toml").write_text('[[eval]]\nenv_id = "my-talk"\nmax_concurrent = 1\nsave_results = false\n')
    world.run("evals.toml", *world.model, "-n", "4", "-r", "1", "-c", "8")
    assert world.server.most_at_once == 1 and len(world.server.requests) == 4


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ('[[eval]]\nenv_id = "a"\n[[eval]]\nenv_id = "b"\nmodle = "m"', "[[eval]] number 2 of F has an unknown field `modle` (line 5), meant is perhaps `model`."),
        ('[[evals]]\nenv_id = "a"', "F has an unknown field `evals` (line 1), meant is perhaps `eval`."),
        ('[[eval]]\nenv_id = "a"\nmax_cost = 3', "[[eval]] number 1 of F: `max_cost` concerns all runs (line 3); write it at the top of the file."),
        ('[[eval]]\nenv_id = "a"\nnum_examples = "3"', "[[eval]] number 1 of F: `num_examples` must be a whole number above 0, or -1 for all, not '3' (line 3)."),
        ('[[eval]]\nenv_id = "a"\nmodel = "m"\nendpoint_id = "e"', "[[eval]] number 1 of F has both `model` and `endpoint_id` (line 4); leave one of them out."),
        ('[[eval]]\nenv_id = "a"\ntaskset = {}', "[[eval]] number 1 of F: `taskset` belongs to the environments of tasksets and harnesses, which this library leaves alone (line 3)."),
        ("[[eval]]\nnum_examples = 3", "[[eval]] number 1 of F names no environment: add env_id."),
        ('model = "m"', "F has no evaluations: add an [[eval]] table with an env_id."),
        ('[[ablation]]\nenv_id = "a"', "[[ablation]] number 1 of F needs a table [ablation.sweep] with lists of values."),
        ('[[ablation]]\nenv_id = "a"\n[ablation.sweep]\ntemperature = 1', "[[ablation]] number 1 of F: `sweep.temperature` must be a list of values, not 1 (line 4)."),
        ('[[ablation]]\nenv_id = "a"\n[ablation.sweep]\ntemprature = [1]', "[[ablation]] number 1 of F has an unknown field `temprature` (line 4), meant is perhaps `temperature`."),
        ('[[ablation]]\nenv_id = "a"\n[ablation.sweep]\ntemperature = ["hot"]', "[[ablation]] number 1 of F: `temperature` must be a number, not 'hot' (line 4)."),
        ("[[eval]", "The file F cannot be read: "),
    ],
)  # fmt: skip
def test_mistakes_in_a_file_name_the_place(tmp_path: Path, written: str, sentence: str):
    file = tmp_path / "evals.toml"
    file.write_text(written)
    with pytest.raises(EvalFileError) as error:
        read_file(file)
    said = str(error.value).replace(str(file), "F")
    assert said == sentence or (sentence.endswith(": ") and said.startswith(sentence))


def test_mistakes_in_a_file_end_the_command(world: World):
    (world.folder / "evals.toml").write_text('[[eval]]\nenv_id = "my-talk"\nendpoint_id = "mne"\n')
    world.endpoints()
    done = world.run("evals.toml", code=1)
    assert (
        "[[eval]] number 1 of evals.toml: There is no endpoint 'mne' in ./configs/endpoints.toml, meant is"
        in done.stderr
    )
    assert world.run("nothing.toml", code=2).stderr == "Error: There is no file nothing.toml.\n"
    assert "One eval file at a time" in world.run("a.toml", "b.toml", code=2).stderr
    for option in (["--resume", "x"], ["--server", "http://127.0.0.1:1"]):
        assert f"Error: {option[0]}" in world.run("my-talk", "other-talk", *ECHO, *option, code=2).stderr
