"""Ending a run, continuing it, and what keeps it from being continued: the command as a person meets it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading

from openai_server import OpenAIServer, error, text
from words_env import ECHO, PROJECT, folder_of

import verifiers as vf
from verifiers.evaluation.policies import EchoPolicy


def test_ctrl_c_once_finishes_what_is_in_flight(command, work, openai_server):
    stuck, release = threading.Event(), threading.Event()

    def answer(request):
        said = request["messages"][-1]["content"]
        if said == "word2" and not release.is_set():
            stuck.set()
            release.wait(30)
        return text(said)

    openai_server.reply(answer)
    args = ["my-words", "-m", "m", "-b", openai_server.url, "-r", "1", "-c", "1"]
    child = subprocess.Popen(
        [sys.executable, "-m", "verifiers.cli.eval", *args],
        cwd=work,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert stuck.wait(30) and child.stderr is not None
    child.send_signal(signal.SIGINT)
    assert next(line for line in child.stderr if line.startswith("Ending: "))
    release.set()
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130 and "3 scored of 4 total (1 not played)" in out and "torn down" in out
    assert "Interrupted: 3 of 4 rollouts are done and recorded. Continue with the same command and --resume " in err
    openai_server.requests.clear()
    assert "4 scored of 4 total" in command(*args, "--resume").stdout
    assert [request["messages"][-1]["content"] for request in openai_server.requests] == ["word3"]


def test_the_same_error_again_and_again_ends_the_run(command, work, openai_server):
    openai_server.reply(error(404, "no such model"))
    args = ["my-words", "-m", "m", "-b", openai_server.url, "-n", "8", "-r", "2", "-c", "1"]
    done = command(*args, code=1)
    assert len(openai_server.requests) == 8
    folder = folder_of(work, model="m").relative_to(work)
    assert (
        "Error: Each of the first 8 rollouts ended with the same error, so the run was ended: ModelError: "
        in done.stderr
    )
    assert (
        f"no such model (HTTP 404) Mend that, and then continue with --resume {folder} --retry errored; " in done.stderr
    )
    assert "0 scored of 16 total (8 not played)" in done.stdout
    command(*args[:-4], "-r", "2", "-c", "1", "--stop-after", "0", code=1)
    assert len(openai_server.requests) == 8 + 16
    openai_server.reply(lambda request: text(request["messages"][-1]["content"]))
    again = command(*args, "--resume", str(folder), "--retry", "errored")
    assert "16 scored of 16 total" in again.stdout and len(openai_server.requests) == 8 + 16 + 16
    metadata = json.loads((work / folder / "metadata.json").read_text())
    assert metadata["num_scored"] == metadata["num_rollouts"] == 16 and metadata["avg_error"] == 0.0


def test_what_differs_is_said_when_nothing_can_be_continued(command, work, openai_server):
    args = ["my-words", "-m", ECHO, "-n", "2", "-r", "2"]
    command(*args)
    folder = folder_of(work).relative_to(work)
    none = "Error: There is no incomplete run with these settings under environments/my_words/outputs; leave --resume out to "
    done = command("my-words", "-m", ECHO, "-n", "4", "-r", "2", "--resume", code=1)
    nearest = f"{none}start one. The nearest is {folder}, which is complete (num_examples: 2 != 4).\n"
    assert done.stderr == nearest
    done = command(*args, "--resume", code=1)
    assert f"The nearest is {folder}, which is complete.\n" in done.stderr
    done = command(*args, "-T", "1", "--resume", code=1)
    assert "(sampling_args: {} != {'temperature': 1.0})" in done.stderr
    for changed, words in (
        (["-m", "baseline/first"], "model: 'baseline/echo' != 'baseline/first'"),
        (["-r", "3"], "rollouts_per_example: 2 != 3"),
        (["-n", "1"], "num_examples: 2 != 1"),
        (["-a", '{"count": 7}'], "env_args: {} != {'count': 7}"),
        (["-S", '{"top_p": 0.5}'], "sampling_args: {} != {'top_p': 0.5}"),
        (["-x", '{"max_turns": 3}'], "extra_env_kwargs: {} != {'max_turns': 3}"),
    ):
        done = command(*args, *changed, "--resume", str(folder), code=1)
        assert f"Error: Cannot resume from {folder}: metadata mismatch ({words}). Use matching" in done.stderr
    project = work / "environments/my_words/pyproject.toml"
    project.write_text(PROJECT.replace("0.1.0", "0.2.0"))
    done = command(*args, "--resume", str(folder), code=1)
    assert "metadata mismatch (env_version: '0.1.0' != '0.2.0')" in done.stderr


def test_another_port_folder_and_place_is_the_same_run(command, work, openai_server):
    openai_server.reply(text("word0"), error(401, "Incorrect API key provided"))
    args = ["my-words", "-m", "m", "-n", "4", "-r", "1", "-c", "1"]
    command(*args, "-b", openai_server.url, code=1)
    moved = work / "elsewhere"
    folder_of(work, model="m").rename(moved)
    other = OpenAIServer()
    try:
        other.reply(lambda request: text(request["messages"][-1]["content"]))
        hub = {"PRIME_BASE_URL": "http://127.0.0.1:9"}
        (work / "environments").rename(work / "mine")
        done = command(*args, "-b", other.url, "--env-dir-path", "mine", "--resume", str(moved), **hub)
    finally:
        other.close()
    assert "4 scored of 4 total" in done.stdout and len(other.requests) == 3
    assert json.loads((moved / "metadata.json").read_text())["base_url"] == other.url


async def test_where_a_server_listens_makes_no_run_another_one(tmp_path):
    def env(url):
        args = {"server_url": url, "level": 2}
        return vf.SingleTurnEnv(dataset=[{"question": "a"}], rubric=vf.Rubric(), env_id="words", env_args=args)

    await env("http://me:secret@127.0.0.1:8000").evaluate(EchoPolicy(), "m", results_path=tmp_path)
    again = await env("http://127.0.0.1:9000").evaluate(EchoPolicy(), "m", results_path=tmp_path)
    assert len(again["outputs"]) == 1 and b"secret" not in (tmp_path / "attempts.jsonl").read_bytes()
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    assert metadata["env_args"] == {"level": 2} and metadata["server_url"] == "http://127.0.0.1:9000"
