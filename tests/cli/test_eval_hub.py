"""`prime eval push`, `list`, `get`, `samples`, `compare`, `delete` by the real command against a real Hub."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prime_cli.evaluations import push as push_module
from prime_cli.evaluations.hosted import added
from prime_cli.output import Output
from prime_core.errors import APIError
from prime_evals import Attempt, AttemptStore, RunIdentity, RunSettings, derive, open_run
from tests.cli.conftest import Prime
from tests.conftest import RunningHub
from tests.hub.checking import push_checkable
from tests.hub.pushing import push


def record(folder: Path, rewards: dict[tuple[Any, int], float | None], model: str = "m", text: str = "said") -> Path:
    """A run of ours in `folder`: an attempt that was retried first, and the files that are derived from all."""
    settings = RunSettings(len({key[0] for key in rewards}), 2, details={"version_info": {"env_version": "0.1.0"}})
    with AttemptStore(folder, RunIdentity("own-env", model, "0.1.0"), settings) as store:
        for (example, index), reward in rewards.items():
            output = {
                "example_id": example,
                "rollout_index": index,
                "prompt": [{"role": "user", "content": f"question {example} \ud83d"}],
                "completion": [{"role": "assistant", "content": f"{text} {example}"}],
                "reward": reward,
                "error": None if reward is not None else {"error": "Lost", "message": "it went away"},
                "metrics": {"exact": reward},
            }
            lost = {**output, "reward": None, "completion": "of the first try"}
            store.append([Attempt(example, index, lost, final=False), Attempt(example, index, output, 2)])
    derive(folder)
    return folder


REWARDS: dict[tuple[Any, int], float | None] = {(n, index): float(n % 3 == 0) for n in range(6) for index in range(2)}


@pytest.fixture
def run(author: Prime) -> Path:
    return record(author.cwd / "outputs" / "evals" / "own-env--m" / "1a2b3c4d", REWARDS | {(6, 0): None})


@pytest.fixture
def published(author: Prime, module_hub: RunningHub) -> str:
    """The environment that runs are of."""
    token = json.loads((author.home / ".prime" / "config.json").read_text())["api_key"]
    push(module_hub.client(token), "own-env")
    return f"{author.name}/own-env"


def pushed(author: Prime, *args: str | Path) -> str:
    return json.loads(author.ok("eval", "push", *args, "-o", "json"))["evaluation_id"]


def told(author: Prime, one: str) -> dict[str, Any]:
    return json.loads(author.ok("eval", "get", one, "-o", "json"))


def test_a_run_is_pushed_and_looked_up(author: Prime, run: Path, published: str) -> None:
    said = author.ok("eval", "push")
    assert "✓ Pushed 13 rollouts" in said and "/dashboard/evaluations/" in said and "12 scored of 13 rollouts" in said
    one = json.loads((run / ".prime-push.json").read_text())["evaluation_id"]
    found, metadata = told(author, one), json.loads((run / "metadata.json").read_text())
    assert found["summary"]["reward"]["value"] == pytest.approx(metadata["avg_reward"])
    assert found["summary"]["pass_at_k"]["2"]["value"] == pytest.approx(metadata["pass_at_k"]["2"])
    assert found["metrics"]["reward"] == metadata["avg_reward"] and found["metadata"]["num_examples"] == 7
    assert found["environments"][0]["version"] == "0.1.0" and found["environment_names"] == [published]
    assert found["is_public"] is False
    listed = author.ok("eval", "list", "--env", published)
    assert one in listed and published in listed and "0.333" in listed
    shown = author.ok("eval", "get", one)
    assert "pass@2" in shown and "0.333" in shown and "1 × Lost: it went away" in shown
    samples = author.ok("eval", "samples", one, "--only", "error")
    assert "it went away" in samples and len(samples.splitlines()) == 2
    page = json.loads(author.ok("eval", "samples", one, "-p", "2", "-n", "5", "-o", "json"))
    results = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    whole = [(row["completion"], row["metrics"], row["reward"]) for row in page["samples"]]
    assert page["total"] == 13 and whole == [
        (row["completion"], row["metrics"], row["reward"]) for row in results[5:10]
    ]
    assert "nobody to ask" in author.fails("eval", "delete", one)
    assert "Deleted evaluation" in author.ok("eval", "delete", one, "--yes")
    assert "There is no evaluation" in author.fails("eval", "get", one)
    assert "No evaluations found" in author("eval", "list", "--mine").stderr


def test_pushed_again_it_replaces(author: Prime, run: Path, published: str) -> None:
    one = pushed(author, run)
    again = author("eval", "push", run, "--name", "second", "--public")
    assert f"was pushed before, as evaluation {one}" in again.stderr
    other = json.loads((run / ".prime-push.json").read_text())["evaluation_id"]
    assert other != one and told(author, other)["is_public"] is True
    shutil.rmtree(run)
    record(run, dict.fromkeys(list(REWARDS)[:4], 1.0))
    assert pushed(author, run, "--eval", other) == other
    found = told(author, other)
    assert (found["total_samples"], found["avg_reward"], found["name"]) == (4, 1.0, "second")
    assert found["is_public"] is True, "what was not asked for stays"


def test_a_push_that_was_cut_goes_on(author: Prime, published: str, module_hub: RunningHub) -> None:
    """As a cut push leaves it, in the folder and on the Hub: the same command sends what is missing, into the same evaluation."""
    many = {(n, 0): 1.0 for n in range(40)}
    run = record(author.cwd / "run", many, text="x" * 300_000)
    one = pushed(author, run)
    note = json.loads((run / ".prime-push.json").read_text())
    assert note["finished"] is True and note["sent"] == 40
    # As it stands after the first batches of another one.
    first = json.loads(author.ok("eval", "samples", one, "-n", "13", "-o", "json"))["samples"]
    token = json.loads((author.home / ".prime" / "config.json").read_text())["api_key"]
    api = module_hub.client(token)
    cut = api.post("/evaluations/", json={"name": "cut", "model_name": "m"}).json()["evaluation_id"]
    assert api.post(f"/evaluations/{cut}/samples", json={"samples": first}).json()["total"] == 13
    note |= {"evaluation_id": cut, "sent": 13, "finished": False}
    (run / ".prime-push.json").write_text(json.dumps(note))
    done = author("eval", "push", run, "-o", "json")
    assert f"Going on with evaluation {cut}, which was cut after 13 rollouts" in done.stderr
    assert json.loads(done.stdout)["evaluation_id"] == cut and told(author, cut)["total_samples"] == 40
    # A file that has grown since is sent from its beginning, into the same one.
    cut = api.post("/evaluations/", json={"name": "cut", "model_name": "m", "metrics": {"old": 1.0}}).json()[
        "evaluation_id"
    ]
    note |= {"evaluation_id": cut}
    (run / ".prime-push.json").write_text(json.dumps(note | {"file": [1, 1]}))
    api.post(f"/evaluations/{cut}/samples", json={"samples": [first[0] | {"example_id": "gone"}]})
    assert pushed(author, run) == cut
    found = told(author, cut)
    assert found["total_samples"] == 40 and "old" not in found["metrics"], "it is described as the run is now"
    assert not list(run.glob("*.part"))


def test_a_run_that_goes_on_while_it_is_pushed(
    author: Prime, published: str, module_hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollout that was sent is played again meanwhile, so that it lies behind the others: cut and begun again, nothing is
    missing. And what is asked for the second time counts."""
    run = record(author.cwd / "run", {(n, 0): 0.0 for n in range(6)})
    token = json.loads((author.home / ".prime" / "config.json").read_text())["api_key"]
    for name, value in (("HOME", author.home), ("PRIME_API_KEY", token), ("PRIME_BASE_URL", module_hub.url)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(push_module, "BATCH_BYTES", 1)
    send, sent = push_module._send_batch, []

    def cut(client: Any, one: str, batch: list[dict[str, Any]]) -> None:
        if len(sent) == 3:
            raise APIError("The connection is gone.")
        if len(sent) == 1:
            with open_run(run) as opened:
                identity, settings = opened.identity, opened.settings
            with AttemptStore(run, identity, settings) as store:
                store.append([Attempt(0, 0, store.read((0, 0)) | {"reward": 1.0}, 3)])
        sent.append(batch)
        send(client, one, batch)

    monkeypatch.setattr(push_module, "_send_batch", cut)
    options = push_module.PushOptions(environment=published)
    with pytest.raises(APIError):
        push_module.push_run(run, options, Output())
    monkeypatch.setattr(push_module, "_send_batch", send)
    one = push_module.push_run(run, replace(options, name="later", public=True), Output()).evaluation_id
    found = told(author, one)
    assert (found["total_samples"], found["avg_reward"]) == (6, pytest.approx(1 / 6))
    assert (found["name"], found["is_public"]) == ("later", True)


def test_an_official_folder(author: Prime, published: str) -> None:
    """results.jsonl and metadata.json alone, as the official tools leave them."""
    folder = author.cwd / "official"
    folder.mkdir()
    (folder / "metadata.json").write_text(json.dumps({"env": published, "model": "m", "avg_reward": 0.5}))
    rows = [{"example_id": n, "prompt": "p", "completion": "c", "reward": n / 2, "acc": 1.0} for n in (0, 0, 1)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "results.jsonl").write_text(text + "not JSON\n\n")
    done = author("eval", "push", folder, "-o", "json")
    assert "Line 4 of" in done.stderr and "was left out" in done.stderr
    found = told(author, json.loads(done.stdout)["evaluation_id"])
    assert found["total_samples"] == 3 and found["avg_reward"] == pytest.approx(1 / 6)
    assert list(found["summary"]["metrics"]) == ["acc"]


def test_what_cannot_be_pushed(author: Prime, run: Path) -> None:
    said = author.fails("eval", "push", run)
    assert f"no environment {author.name}/own-env" in said and "prime env push own-env" in said
    assert "There is no environment" in author.fails("eval", "push", run, "--env", f"{author.name}/none")
    assert "There is no evaluation" in author.fails("eval", "push", run, "--eval", "0" * 24)
    assert "There is no evaluation run in" in author.fails("eval", "push", author.cwd / "environments")
    assert "There is no evaluation run here" in author.fails("eval", "push", cwd=author.cwd / "environments")
    (run / "attempts.jsonl").unlink()
    (run / "metadata.json").write_text("{")
    assert "is not JSON" in author.fails("eval", "push", run)
    (run / "metadata.json").write_text("{}")
    assert "does not say which environment" in author.fails("eval", "push", run)
    assert not (run / ".prime-push.json").exists()


def test_folders_and_evaluations_are_compared(author: Prime, run: Path, published: str) -> None:
    better = record(author.cwd / "better", {**dict.fromkeys(REWARDS, 1.0), (0, 0): 0.0, (0, 1): 0.0}, "m2")
    said = author.ok("eval", "compare", run, better)
    assert "6 scored in both" in said and "4 gained, 1 lost" in said and "+0.500" in said
    one = pushed(author, run)
    mixed = json.loads(author.ok("eval", "compare", one, better, "-o", "json"))
    local = json.loads(author.ok("eval", "compare", run, better, "-o", "json"))
    assert {**mixed, "first": ""} == {**local, "first": ""} and mixed["gained"] == ["1", "2", "4", "5"]
    assert "Zero lies within" in author.ok("eval", "compare", run, one) or "+0.000" in author.ok(
        "eval", "compare", run, one
    )
    strict = json.loads(author.ok("eval", "compare", run, better, "--threshold", "2", "-o", "json"))
    assert strict["gained"] == strict["lost"] == []
    assert "There is no evaluation run in ./none" in author.fails("eval", "compare", "./none", better)
    assert "There is no evaluation" in author.fails("eval", "compare", "0" * 24, better)


ECHO = """
import verifiers as vf

def load_environment():
    async def right(completion, answer):
        return float(completion[-1]["content"] == answer)

    rows = [{"question": f"word {n}", "answer": f"word {n}"} for n in range(4)]
    return vf.SingleTurnEnv(dataset=rows, rubric=vf.Rubric(funcs=[right]))
"""


def environment(author: Prime, name: str) -> None:
    folder = author.cwd / "environments" / name.replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{folder.name}.py").write_text(ECHO)
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{name}"\nversion = "0.1.0"\n')


def test_a_run_is_pushed_when_it_is_there(author: Prime, published: str) -> None:
    environment(author, "own-env")
    said = author.ok("eval", "run", "own-env", "-m", "baseline/echo", "-n", "3", "--push")
    assert "✓ Pushed own-env: http" in said and "reward" in said
    found = json.loads(
        author.ok("eval", "run", "own-env", "-m", "baseline/echo", "-n", "2", "-r", "1", "--push", "--output", "json")
    )
    shown = told(author, found["evaluation_id"])
    assert shown["total_samples"] == 2 and shown["viewer_url"] == found["viewer_url"] and shown["is_public"] is False
    refused = author.fails("eval", "run", "own-env", "-m", "baseline/echo", "--push", "--no-save", code=2)
    assert "--push sends the results that are recorded" in refused


def test_of_several_runs_each_is_pushed_that_can_be(author: Prime, published: str) -> None:
    environment(author, "own-env")
    environment(author, "unpublished-env")
    done = author(
        "eval",
        "run",
        "unpublished-env",
        "own-env",
        "-m",
        "baseline/echo",
        "-n",
        "2",
        "-r",
        "1",
        "--push",
        "--output",
        "json",
    )
    assert done.returncode == 1, done.stderr
    lost, kept = json.loads(done.stdout)
    assert "no environment" in lost["push_error"] and "evaluation_id" not in lost
    assert f"The run itself is safe in {lost['results_path']}" in done.stderr
    assert f"prime eval push {lost['results_path']}" in done.stderr and (author.cwd / lost["results_path"]).is_dir()
    assert told(author, kept["evaluation_id"])["total_samples"] == 2


def test_an_evaluation_that_the_hub_runs(author: Prime, module_hub: RunningHub) -> None:
    token = json.loads((author.home / ".prime" / "config.json").read_text())["api_key"]
    push_checkable(module_hub.client(token), "hosted-words")
    full = f"{author.name}/hosted-words"
    words = [
        "eval",
        "run",
        full,
        "--hosted",
        "-m",
        "baseline/echo",
        "-n",
        "2",
        "-r",
        "1",
        "-a",
        "{}",
        "--name",
        "by the Hub",
    ]
    done = author(*words, "--follow")
    assert done.returncode == 0 and "✓ Hosted evaluation started" in done.stdout + done.stderr, done.stderr
    assert "Status: COMPLETED" in done.stderr and "2 scored of 2 rollouts" in done.stdout, done.stdout
    found = json.loads(author.ok("eval", "list", "--env", full, "-o", "json"))["evaluations"][0]
    assert (found["name"], found["is_hosted"], found["total_samples"]) == ("by the Hub", True, 2)
    assert "Installing" in author.ok("eval", "logs", found["id"]) and "Installing" in author.ok(
        "eval", "logs", found["id"], "-f"
    )
    assert "has ended already: it is COMPLETED" in author.ok("eval", "stop", found["id"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["own-env", "--hosted"], "is not of the form OWNER/NAME"),
        (["a/own-env@0.1.0", "--hosted"], "The Hub runs the newest version"),
        (["a/own-env", "--hosted", "-n", "some"], "invalid int value: 'some'"),
        (["a/own-env", "--hosted", "-a", "[]"], "'[]' is not a JSON object"),
        (["a/own-env", "--hosted", "-b", "http://127.0.0.1"], "Unrecognized arguments: -b"),
    ],
)
def test_what_is_no_hosted_run(author: Prime, words: list[str], said: str) -> None:
    done = author("eval", "run", *words)
    assert done.returncode == 1 and said in done.stderr, done.stderr


def test_what_has_come_to_a_log() -> None:
    assert added("", "a\n") == "a\n" and added("a\n", "a\nb\n") == "b\n" and added("a\n", "a\n") == ""
    before = "".join(f"line {number}\n" for number in range(400))
    assert added(before, before[1000:] + "new\n") == "new\n"
    assert added(before, "all other\n") == "all other\n"
