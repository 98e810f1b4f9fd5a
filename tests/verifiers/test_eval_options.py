"""Every option of vf-eval changes something: each is given to the real command, and what it changes is looked at."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from eval_world import World
from openai_server import OpenAIServer, Reply, completion, error, text

from verifiers.cli.eval_arguments import parser
from verifiers.cli.eval_options import FULL_COMMAND

ECHO = ("-m", "baseline/echo")
FEW = ("-n", "1", "-r", "1")

Check = Callable[["World"], None]
SHOWN: dict[str, Check] = {}
ELSEWHERE = {
    "--help": "tests/cli/test_eval.py",
    "--python": "tests/cli/test_eval.py",
    "--yes": "tests/cli/test_eval_places.py",
    "--only": "tests/cli/test_eval_places.py",
    "--summary-to": "tests/cli/test_eval_places.py",
    "--server": "tests/openenv/test_eval_server.py",
    "--push": "tests/cli/test_eval_hub.py",
}
"""Options that need more than a model: where each is tried."""


def shows(*options: str) -> Callable[[Check], Check]:
    """The function shows what these options change."""

    def note(check: Check) -> Check:
        SHOWN.update(dict.fromkeys(options, check))
        return check

    return note


@pytest.fixture
def world(tmp_path: Path, openai_server: OpenAIServer) -> World:
    return World(tmp_path, openai_server)


# What each option changes


@shows("--env-args", "--extra-env-kwargs")
def what_the_environment_is_given(world: World) -> None:
    data = world.data(*ECHO, *FEW, "-a", '{"word": "w"}', "-x", '{"max_turns": 3}', "-o", "out")
    assert data["env_args"] == {"word": "w"} and data["avg_metrics"]["num_turns"] == 3
    done = world.run("my-talk", *ECHO, *FEW, "--no-save", "-x", '{"max_turn": 3}')
    assert "Note: 'my-talk' has no attribute 'max_turn', meant is perhaps 'max_turns'; it is set all the" in done.stderr


@shows("--env-dir-path")
def where_environments_lie(world: World) -> None:
    (world.folder / "environments").rename(world.folder / "mine")
    assert "or name that with --env-dir-path" in world.run("my-talk", *ECHO, code=1).stderr
    world.run("my-talk", *ECHO, *FEW, "--env-dir-path", "mine")


@shows("--model", "--api-base-url", "--provider", "--api-key-var")
def who_answers(world: World) -> None:
    world.run("my-talk", *world.model, *FEW, "-k", "OTHER_KEY", "--no-save", OTHER_KEY="sk-other")
    asked = world.server.requests[-1]
    assert asked["model"] == "m" and asked["headers"]["Authorization"] == "Bearer sk-other"
    provided = ["-m", "deepseek/v3", "-b", world.server.url, "-p", "deepseek"]
    world.run("my-talk", *provided, *FEW, "--no-save", DEEPSEEK_API_KEY="sk-deep")
    asked = world.server.requests[-1]
    assert asked["model"] == "v3" and asked["headers"]["Authorization"] == "Bearer sk-deep"


@shows("--api-client-type", "--header", "--header-from-state")
def how_it_is_asked(world: World) -> None:
    from model_replies import response, said

    world.server.reply(response(said("word0")))
    kind = ("--api-client-type", "openai_responses", "--header", "X-A: b", "--header-from-state", "X-T: example_id")
    world.run("my-talk", *world.model, *FEW, "--no-save", *kind)
    asked = world.server.requests[-1]
    assert asked["path"] == "/v1/responses" and (asked["headers"]["X-A"], asked["headers"]["X-T"]) == ("b", "0")


@shows("--endpoints-path")
def another_registry(world: World) -> None:
    world.endpoints(file="other/mine.toml")
    world.run("my-talk", "-m", "mine", "-e", "other/mine.toml", *FEW, "--no-save", MY_KEY="sk")
    assert world.server.requests[-1]["model"] == "big"


@shows("--max-tokens", "--temperature", "--sampling-args")
def how_it_is_sampled(world: World) -> None:
    data = world.data(*world.model, *FEW, "-t", "7", "-T", "0.5", "-S", '{"top_p": 0.1, "temperature": 1}', "--no-save")
    asked = world.server.requests[-1]
    assert (asked["max_completion_tokens"], asked["temperature"], asked["top_p"]) == (7, 1, 0.1)
    assert data["sampling_args"] == {"max_tokens": 7, "temperature": 1, "top_p": 0.1}


@shows("--num-examples", "--rollouts-per-example")
def how_much(world: World) -> None:
    data = world.data(*ECHO, "-n", "2", "-r", "4", "--no-save")
    assert (data["num_examples"], data["rollouts_per_example"], data["num_rollouts"]) == (2, 4, 8)
    assert world.data(*ECHO, "-n", "-1", "--no-save")["num_examples"] == 6


@shows("--max-concurrent")
def how_many_at_once(world: World) -> None:
    gate = threading.Event()

    def answer(request: dict[str, Any]) -> Reply:
        if world.server.running == 3:
            gate.set()
        return Reply(text("x").status, text("x").body, wait=gate)

    world.server.reply(answer)
    world.run("my-talk", *world.model, "-n", "6", "-r", "2", "-c", "3", "--no-save")
    assert world.server.most_at_once == 3


@shows("--max-retries")
def attempts(world: World) -> None:
    empty = completion({"content": None})
    world.server.reply(empty, text("word0"))
    data = world.data(*world.model, *FEW, "--no-save")
    assert data["errors"]["EmptyModelResponseError"]["count"] == 1
    world.server.reply(empty, text("word0"))
    assert world.data(*world.model, *FEW, "--max-retries", "1", "--no-save")["errors"] == {}


@shows("--timeout")
def time_limit(world: World) -> None:
    data = world.data(*ECHO, *FEW, "-a", '{"pause": 60}', "--timeout", "0.2", "--no-save", code=1)
    assert data["stop_conditions"] == {"timeout_reached": 1}


@shows("--max-cost")
def limit_of_cost(world: World) -> None:
    # 11 tokens in and 5 out a call: 0.016 dollars.
    prices = "input_price = 1000\noutput_price = 1000\n"
    world.endpoints()
    few = ("my-talk", "-m", "mine", "-r", "1", "-c", "1", "-n", "6", "-o", "out")
    said = world.run(*few, "--max-cost", "0.04", code=1, MY_KEY="k").stderr
    assert said.startswith("Error: --max-cost needs to know what 'mine' costs: give its entries in ./configs/endpoints")
    assert "costs nothing: leave --max-cost out" in world.run("my-talk", *ECHO, "--max-cost", "1", code=1).stderr
    world.endpoints(prices)
    done = world.run(*few, "--max-cost", "0.04", code=3, MY_KEY="k")
    assert "The limit of $0.04 is reached: $0.0480 are spent. 3 of 6 rollouts are done and recorded." in done.stderr
    assert "Continue with the same command and --resume out/evals/my-talk--big/" in done.stderr
    assert "3 scored of 6 total (3 not played)" in done.stdout and len(world.server.requests) == 3
    # What an earlier command has spent does not count; and what is just enough is no early end.
    done = world.run(*few, "--max-cost", "0.04", "--resume", MY_KEY="k")
    assert "6 scored of 6 total" in done.stdout and len(world.server.requests) == 6


@shows("--max-tokens-total")
def limit_of_tokens(world: World) -> None:
    # Of three calls a rollout: the second rollout is cut in the middle, and is played again by the next command.
    few = ("my-talk", *world.model, "-a", '{"turns": 3}', "-r", "1", "-c", "1", "-n", "3", "-o", "out")
    done = world.run(*few, "--max-tokens-total", "60", code=3)
    assert "The limit of 60 tokens is reached: 64 are used. 1 of 3 rollouts are done and recorded." in done.stderr
    assert len(world.server.requests) == 4
    done = world.run(*few, "--resume")
    assert "3 scored of 3 total" in done.stdout and len(world.server.requests) == 10
    assert "uses no tokens" in world.run("my-talk", *ECHO, "--max-tokens-total", "1", code=1).stderr


@shows("--independent-scoring")
def one_by_one(world: World) -> None:
    grouped = (*ECHO, "-n", "1", "-r", "2", "-a", '{"grouped": true}', "--no-save")
    assert world.data(*grouped)["avg_reward"] == 0.5
    assert world.data(*grouped, "-i")["avg_reward"] == 1.0


@shows("--dry-run")
def nothing_is_played(world: World) -> None:
    done = world.run("my-talk", *world.model, "-n", "4", "-r", "2", "-c", "3", "--dry-run")
    assert "my-talk 0.1.0 (./environments/my_talk) · m · 4 examples × 2 rollouts = 8 rollouts, 3 at once" in done.stderr
    assert not world.server.requests and not list(world.folder.rglob("outputs"))


@shows("--output-dir", "--save-results", "--no-save")
def where_results_go(world: World) -> None:
    world.run("my-talk", *ECHO, *FEW)
    assert list((world.folder / "environments/my_talk/outputs").rglob("results.jsonl"))
    world.run("my-talk", *ECHO, *FEW, "--no-save", "-s", "-o", "here")
    assert list((world.folder / "here").rglob("results.jsonl"))
    assert world.data(*ECHO, *FEW, "-o", "there", "--no-save")["results_path"] is None
    assert not (world.folder / "there").exists()


@shows("--resume")
def going_on(world: World) -> None:
    first = world.data(*ECHO, "-n", "2", "-r", "1", "-o", "out")["results_path"]
    more = world.run("my-talk", *ECHO, "-n", "3", "-r", "1", "-o", "out", "--resume", first)
    assert "3/3 rollouts" in more.stderr and "2 from before" in more.stderr


@shows("--retry", "--stop-after")
def what_is_played_again(world: World) -> None:
    world.server.reply(error(400, "no such parameter"))
    few = ("my-talk", *world.model, "-r", "1", "-c", "1", "-n", "6", "-o", "out")
    done = world.run(*few, "--stop-after", "2", code=1)
    assert "Each of the first 2 rollouts ended with the same error" in done.stderr and len(world.server.requests) == 2
    world.server.reply(lambda request: text(request["messages"][-1]["content"]))
    assert "4 scored of 6 total" in world.run(*few, "--resume").stdout
    assert "6 scored of 6 total" in world.run(*few, "--resume", "--retry", "errored").stdout
    assert len(world.server.requests) == 8


@shows("--state-columns")
def more_columns(world: World) -> None:
    path = Path(world.data(*ECHO, *FEW, "-o", "out", "-C", "colour, trajectory_id")["results_path"])
    row = json.loads((world.folder / path / "results.jsonl").read_text())
    assert row["colour"] == "green" and row["trajectory_id"]


@shows("--output")
def how_it_is_printed(world: World) -> None:
    lines = world.run("my-talk", *ECHO, *FEW, "--no-save", "--output", "plain").stdout.splitlines()
    assert lines[0].startswith("evaluation\tmy-talk 0.1.0 ")
    assert lines[1].startswith("reward\t1 (0.") and lines[1].endswith(" to 1)   1 scored of 1 total")
    assert world.data(*ECHO, *FEW, "--no-save")["avg_reward"] == 1


@shows("--abbreviated-summary")
def a_short_end(world: World) -> None:
    done = world.run("my-talk", *ECHO, *FEW, "-o", "out", "-A")
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == ["reward", "results"]


@shows("--disable-tui")
def plain_lines_on_a_terminal(world: World) -> None:
    import pty

    shown = []
    for option in ([], ["-d"]):
        ours, theirs = pty.openpty()
        child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "verifiers.cli.eval",
                "my-talk",
                *ECHO,
                "-a",
                '{"pause": 0.3}',
                "--no-save",
                *option,
            ],
            cwd=world.folder,
            env={**os.environ, "TERM": "xterm"},
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)
        said = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:
                break
            if not piece:
                break
            said += piece
        os.close(ours)
        assert child.wait(60) == 0
        shown.append(said)
    assert b"\x1b[" in shown[0] and b"\x1b[" not in shown[1] and b"15/15 rollouts" in shown[1]


@shows("--heartbeat-url")
def a_sign_of_life(world: World) -> None:
    beats: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            beats.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with served(Handler) as url:
        world.run("my-talk", *ECHO, *FEW, "-a", '{"pause": 1}', "--no-save", "--heartbeat-url", f"{url}/beat")
    assert beats == ["/beat"]
    args = ("my-talk", *ECHO, *FEW, "-a", '{"pause": 1}', "--no-save")
    assert f"Note: no heartbeat reached {url}/beat: " in world.run(*args, "--heartbeat-url", f"{url}/beat").stderr
    assert "--heartbeat-url must be an address" in world.run(*args, "--heartbeat-url", "beat", code=2).stderr


@shows("--verbose")
def a_log(world: World) -> None:
    world.server.reply(error(429, "slow down", {"Retry-After": "0"}), text("word0"))
    done = world.run("my-talk", *world.model, *FEW, "--no-save", "-v")
    assert "Asking the model again in 0.0 s: " in done.stderr and "httpx" in done.stderr


@shows("--no-interleave-scoring", "--disable-env-server", "--num-workers")
def options_of_the_official_command(world: World) -> None:
    done = world.run("my-talk", *ECHO, *FEW, "--no-save", "-N", "--disable-env-server", "-w", "4")
    assert [
        line.partition(" changes nothing")[0] for line in done.stderr.splitlines() if "changes nothing" in line
    ] == [
        "Note: -N",
        "Note: --disable-env-server",
        "Note: -w",
    ]


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """An HTTP server on a free port; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# The table


def options() -> set[str]:
    """The first long name of every option, with --no-… of those that switch something off."""
    found = set()
    for action in parser(FULL_COMMAND)._actions:
        long = [name for name in action.option_strings if name.startswith("--")]
        found |= set(long[:1])
    return found


def test_every_option_is_tried():
    assert options() == set(SHOWN) | set(ELSEWHERE)
    for option, file in ELSEWHERE.items():
        assert option in (Path(__file__).parents[2] / file).read_text(), f"{option} is not tried in {file}"


def test_every_option_has_help():
    silent = {"--no-interleave-scoring", "--disable-env-server", "--num-workers", "--only", "--summary-to"}
    hidden = {action.option_strings[-1] for action in parser(FULL_COMMAND)._actions if action.help == argparse.SUPPRESS}
    assert hidden == silent
    assert all(action.help for action in parser(FULL_COMMAND)._actions)


@pytest.mark.parametrize("check", dict.fromkeys(SHOWN.values()), ids=lambda check: check.__name__)
def test_an_option_changes(check: Check, world: World):
    check(world)
