"""vf-eval as a person meets it: a child process, its output, its files, its exit code."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from openai_server import Reply, error, text
from words_env import ECHO, ENVIRONMENT, folder_of


@pytest.fixture
def installed(work: Path) -> dict[str, str]:
    """The same environment as an installed distribution of version 0.2; the variables with which it is found."""
    site = work / "lib" / "site-packages"
    (site / "my_words").mkdir(parents=True)
    (site / "my_words" / "__init__.py").write_text(ENVIRONMENT)
    (site / "my_words-0.2.0.dist-info").mkdir()
    (site / "my_words-0.2.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: my-words\nVersion: 0.2.0\n"
    )
    return {"PYTHONPATH": str(site)}


def test_a_baseline_from_start_to_files(command, work):
    done = command("my-words", "-m", "baseline/echo")
    lines = [line.split() for line in done.stdout.splitlines()]
    title = "my-words 0.1.0 (./environments/my_words) · baseline/echo · 4 examples × 2 rollouts"
    assert done.stdout.splitlines()[1] == title and "Note: " not in done.stderr
    reward = next(line for line in lines if line[:1] == ["reward"])
    assert (
        reward[1] == "1"
        and reward[2].startswith("(0.")
        and reward[3:] == ["to", "1)", "8", "scored", "of", "8", "total"]
    )
    assert re.search(r"^  time a rollout   \d+\.\d+ s mean, \d+\.\d+ to \d+\.\d+ s$", done.stdout, re.MULTILINE)
    assert ["right", "1"] in lines and ["pass@2", "1"] in lines
    assert done.stdout.startswith("torn down\n")
    assert "8/8 rollouts, reward 1" in done.stderr
    folder = folder_of(work)
    assert ["results", str(folder.relative_to(work))] in lines
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["env_id"] == "my-words" and metadata["model"] == "baseline/echo"
    assert metadata["num_examples"] == 4 and metadata["rollouts_per_example"] == 2
    assert metadata["version_info"] == {"vf_version": "0.1.100", "env_version": "0.1.0"}
    assert len((folder / "results.jsonl").read_text().splitlines()) == 8


def test_the_same_rewards_twice(command):
    runs = []
    for _ in range(2):
        done = command(
            "my_words", "-m", "baseline/random", "-n", "-1", "-r", "3", "-c", "3", "--no-save", "--output", "json"
        )
        data = json.loads(done.stdout.partition("torn down\n")[2])
        assert data["results_path"] is None and data["num_rollouts"] == 24
        runs.append((data["avg_reward"], data["avg_metrics"], data["std_reward"]))
    assert runs[0] == runs[1] and 0 < runs[0][0] < 1


def test_another_api_its_prices_and_what_it_repeats(command, work, openai_server):
    from model_replies import response, said

    busy = error(429, "slow down", {"Retry-After": "0"})
    openai_server.reply(busy, response(said("word0")))
    (work / "configs").mkdir()
    (work / "configs/endpoints.toml").write_text(
        '[[endpoint]]\nendpoint_id = "mine"\nmodel = "big"\nurl = "http://localhost:9/v1"\nkey = "K"\n'
        "input_price = 1000\noutput_price = 10000\n"
    )
    flags = ["-b", openai_server.url, "--api-client-type", "openai_responses", "--header-from-state", "X-T: example_id"]
    done = command("my-words", "-m", "mine", "-n", "1", "-r", "2", "-c", "1", "-v", *flags, K="sk-secret")
    request = openai_server.requests[-1]
    assert request["path"] == "/v1/responses" and request["headers"]["X-T"] == "0"
    assert "Asking the model again in 0.0 s: The model endpoint http://127.0.0.1:" in done.stderr
    assert "1 request asked again (in 0.0 s: " in done.stderr and "slow down (HTTP 429))" in done.stderr
    # 10 tokens in and 6 out, in each of two rollouts.
    assert re.search(r"^  cost +\$0\.1400, \$0\.0700 mean a rollout$", done.stdout, re.MULTILINE)
    folder = folder_of(work, model="big")
    assert json.loads((folder / "metadata.json").read_text())["usage"]["total_cost"] == pytest.approx(0.14)
    assert not any(b"sk-secret" in path.read_bytes() for path in folder.iterdir() if path.is_file())


def test_a_provider_by_name(command, openai_server):
    openai_server.reply(text("word0"))
    command("my-words", "-m", "deepseek/v3", "-p", "deepseek", "-n", "1", "-r", "1", "--no-save",
            "-b", openai_server.url, DEEPSEEK_API_KEY="sk-deep")  # fmt: skip
    (request,) = openai_server.requests
    assert request["model"] == "v3" and request["headers"]["Authorization"] == "Bearer sk-deep"
    assert request["headers"]["X-Session-Id"] == "0"
    done = command("my-words", "-p", "acme", code=2)
    assert "Argument -p/--provider: invalid choice: 'acme'" in done.stderr and "openrouter" in done.stderr


def test_a_real_endpoint(command, work, openai_server):
    openai_server.reply(lambda request: text(request["messages"][-1]["content"]))
    (work / "configs").mkdir()
    (work / "configs/endpoints.toml").write_text(
        f'[[endpoint]]\nendpoint_id = "mine"\nmodel = "org/big"\nurl = "{openai_server.url}"\nkey = "MY_KEY"\n'
    )
    command("my-words", "-m", "mine", "-n", "2", "-t", "7", "-T", "0.5", "-S", '{"top_p": 0.1}', "--header", "X-A: b",
            "-o", "out", MY_KEY="sk-secret")  # fmt: skip
    request = openai_server.requests[0]
    assert request["model"] == "org/big" and request["max_completion_tokens"] == 7
    assert (request["temperature"], request["top_p"]) == (0.5, 0.1)
    assert request["headers"]["Authorization"] == "Bearer sk-secret" and request["headers"]["X-A"] == "b"
    folder = folder_of(work, "out", "org--big")
    for file in folder.iterdir():
        assert b"sk-secret" not in file.read_bytes()
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["usage"]["input_tokens"] == 11 and metadata["base_url"] == openai_server.url
    for flag in ("-b", "--api-base-url", "--base-url"):
        command("my-words", "-m", "openai/other", flag, openai_server.url, "-n", "1", "-r", "1", "-o", "out2")
    assert openai_server.requests[-1]["model"] == "openai/other"


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (
            ["nothing", "-m", ECHO],
            "The environment 'nothing' is not installed and not in environments/nothing. Install",
        ),
        (["my-words"], "No endpoint for the model 'openai/gpt-4.1-mini': set OPENAI_API_KEY"),
        (["my-words", "-m", ECHO, "-a", '{"broken": true}'], "Failed to load environment 'my-words': 'words.txt'"),
        (["my-words", "-m", ECHO, "-a", '{"no": 1}'], "Failed to load environment 'my-words': load_environment() got"),
        (
            ["my-words", "-m", ECHO, "-a", '{"count": 0}'],
            "The environment 'my-words' has no rows to evaluate: its dataset",
        ),
        (["my-words", "-m", ECHO, "--resume", "nowhere"], "There is no run to resume in nowhere"),
        (
            ["my-words", "-m", "m", "-b", "notaurl"],
            "-b must be an address such as http://localhost:8000/v1, not 'notaurl'.",
        ),
        (["my-words", "-m", ECHO, "-b", "http://"], "-b must be an address such as"),
        (["my-words", "-m", ECHO, "--resume"], "There is no incomplete run with these settings under"),
        (["my-words", "-m", ECHO, "-C", "client"], "state_columns value for 'client' is not JSON-serializable"),
    ],
)
def test_mistakes_are_one_sentence(command, args, sentence):
    done = command(*args, code=1)
    assert [line for line in done.stderr.splitlines() if line.startswith(f"Error: {sentence}")], done.stderr


@pytest.mark.parametrize(("flag", "given"), [("-n", "-5"), ("-n", "0"), ("-n", "x"), ("-c", "-2")])
def test_an_amount_is_above_nothing_or_all(command, flag, given):
    done = command("my-words", "-m", ECHO, flag, given, code=2)
    assert done.stderr.splitlines()[0].endswith(f": expected a whole number above 0, or -1 for all, got {given!r}.")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["-a", "{"], "Argument -a/--env-args: not JSON (Expecting property name"),
        (["-n", "0"], "Argument -n/--num-examples: expected a whole number above 0"),
        (["-c", "x"], "Argument -c/--max-concurrent: expected a whole number above 0, or -1 for all, got 'x'."),
        (["--header", "X"], "Argument --header: expected 'Name: Value', got 'X'."),
        (["--resume", "--no-save"], "--resume needs the results it continues; leave --no-save out."),
        (["--retry", "errored"], "--retry needs the run that it continues: --resume, or --resume PATH."),
        (["--retry", "all", "--resume"], "Argument --retry: invalid choice: 'all' (choose from"),
        (["--nonsense"], "There is no option --nonsense.\n"),
        (["--num-example", "3"], "There is no option --num-example; did you mean --num-examples?\n"),
        (["-H"], "-H is not here: results stay in files. Upload the run's folder"),
        (["--hf-hub-dataset-name=me/it"], "--hf-hub-dataset-name is not here: "),
    ],
)
def test_a_wrong_command_line_is_one_sentence(command, args, sentence):
    done = command("my-words", *args, code=2)
    assert done.stderr.startswith(f"Error: {sentence}") and done.stdout == ""
    assert done.stderr.splitlines()[1:] == ["Run 'vf-eval --help' to see the options."]


def test_nothing_scored_is_a_failure(command, work, openai_server):
    openai_server.reply(error(400, "no such parameter"))
    done = command("my-words", "-m", "m", "-b", openai_server.url, "-n", "1", code=1)
    assert re.search(r"^  reward +–   0 scored of 2 total$", done.stdout, re.MULTILINE)
    assert "2 × ModelError: " in done.stdout and "no such parameter" in done.stdout
    assert "Error: No rollout could be scored; the errors above say why." in done.stderr


def test_a_refused_key_ends_the_run_with_one_sentence(command, work, openai_server):
    openai_server.reply(text("word0"), error(401, "Incorrect API key provided"))
    done = command("my-words", "-m", "m", "-b", openai_server.url, "-c", "1", code=1)
    assert "1 scored of 8 total (7 not played)" in done.stdout
    assert f"Error: The model endpoint {openai_server.url} refused the key: " in done.stderr
    openai_server.reply(lambda request: text(request["messages"][-1]["content"]))
    again = command("my-words", "-m", "m", "-b", openai_server.url, "--resume")
    assert "8 scored of 8 total" in again.stdout and re.search(r"^8/8 rollouts, .*1 from before$", again.stderr, re.M)


def test_a_full_disk_is_one_sentence(work, openai_server):
    import resource

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "verifiers.cli.eval",
            "my-words",
            "-m",
            "baseline/echo",
            "-n",
            "-1",
            "-r",
            "20",
            "-o",
            "out",
        ],
        cwd=work,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)),
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "Error: Could not record results in out/evals/my-words--baseline--echo/" in done.stderr
    assert "the disk is full." in done.stderr and "torn down" in done.stdout
    assert not list((work / "out").rglob(".*")), "no half-written file is left"
    again = subprocess.run(
        [
            sys.executable,
            "-m",
            "verifiers.cli.eval",
            "my-words",
            "-m",
            "baseline/echo",
            "-n",
            "-1",
            "-r",
            "20",
            "-o",
            "out",
            "--resume",
        ],
        cwd=work,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert again.returncode == 0 and "160 scored of 160 total" in again.stdout and "from before" in again.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_an_interrupted_run_is_continued_where_it_was(command, work, openai_server, number, code):
    stuck, release = threading.Event(), threading.Event()

    def answer(request):
        said = request["messages"][-1]["content"]
        if said == "word3" and not release.is_set():
            stuck.set()
            return Reply(wait=release, cut=True)
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
    assert stuck.wait(30)
    child.send_signal(number)
    if number == signal.SIGINT:  # the first one waits for what is in flight
        assert child.stderr is not None
        said = next(line for line in child.stderr if line.startswith("Ending: "))
        assert "the rollout in flight can end. Ctrl-C again stops now" in said
        child.send_signal(number)
    out, err = child.communicate(timeout=30)
    release.set()
    assert child.returncode == code, err
    assert "Traceback" not in err
    folder = folder_of(work, model="m")
    if number != signal.SIGKILL:
        assert "torn down" in out and "3 scored of 4 total (1 not played)" in out
        assert "Interrupted: 3 of 4 rollouts are done and recorded." in err
        assert f"Continue with the same command and --resume {folder.relative_to(work)}" in err
        assert len((folder / "results.jsonl").read_text().splitlines()) == 3
    openai_server.requests.clear()
    done = command(*args, "--resume", str(folder))
    assert [request["messages"][-1]["content"] for request in openai_server.requests] == ["word3"]
    assert "4 scored of 4 total" in done.stdout
    changed = command(*args, "--resume", str(folder), "-a", '{"count": 5}', code=1)
    assert "metadata mismatch (env_args: {} != {'count': 5})" in changed.stderr


@pytest.mark.parametrize("name", ["My-Words", "my.words", "owner/My_Words"])
def test_a_name_is_found_however_it_is_written(command, work, name):
    command(name, "-m", ECHO, "-n", "1", "-r", "1")
    assert (folder_of(work) / "results.jsonl").is_file()


def test_a_terminal_that_knows_little_gets_question_marks(command):
    done = command("my-words", "-m", ECHO, "-n", "1", "-r", "1", "--no-save", PYTHONIOENCODING="ascii")
    assert "(./environments/my_words) ? baseline/echo ? 1 example ? 1 rollout" in done.stdout


def test_another_version_than_the_one_asked_for_is_refused(command, installed):
    here = "Error: The environment 'my-words' is version 0.1.0 here (./environments/my_words), not 0.3; "
    fix = "install that with: prime env install {}/my-words@0.3\n"
    assert command("me/my-words@0.3", "-m", ECHO, code=1).stderr == here + fix.format("me")
    assert command("my-words@0.3", "-m", ECHO, code=1).stderr == here + fix.format("OWNER")
    done = command("me/my-words@0.3", "-m", ECHO, code=1, **installed)
    assert "Error: The environment 'my-words' is version 0.2.0 here (installed), not 0.3; install" in done.stderr
    few = ["-m", ECHO, "-n", "1", "-r", "1", "--no-save"]
    for version in ("0.1.0", "0.1", "latest"):
        command(f"me/my-words@{version}", *few)
    command("me/my-words@0.2", *few, **installed)


def test_it_is_said_which_copy_is_played(command, work, installed):
    few = ["my-words", "-m", ECHO, "-n", "1", "-r", "1"]
    done = command(*few, **installed)
    title, note = "my-words 0.2.0 (installed)", "not ./environments/my_words; to play that: prime env install my-words"
    assert f"{title} · baseline/echo · 1 example" in done.stdout
    assert f"Note: this plays {title}, {note}" in done.stderr.splitlines()
    assert folder_of(work).is_dir(), "results lie in the folder all the same"
    editable = {"PYTHONPATH": str(work / "environments" / "my_words")}
    done = command(*few, **editable)
    assert "my-words 0.1.0 (./environments/my_words) · " in done.stdout and "Note: " not in done.stderr
    (work / "environments").rename(work / "mine")
    done = command(*few, "--env-dir-path", "mine", **installed)
    assert done.stderr.startswith(f"Note: this plays {title}, not ./mine/my_words; to play that: prime env install ")
    assert "prime env install my-words --path mine\n" in done.stderr
    assert "Note: " not in command(*few, **installed).stderr
    done = command(*few, PYTHONPATH=str(work / "mine" / "my_words"))
    assert f"my-words 0.1.0 ({work}/mine/my_words) · " in done.stdout
