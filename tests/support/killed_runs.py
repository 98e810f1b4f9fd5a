"""The evaluation command, killed again and again, against a model server that fails in every way.

What the server answers is a function of the request, and so is how it fails: some requests always, others a few times
before they are answered. So a run that was killed and resumed has to come to exactly what an undisturbed one comes to.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

from openai_server import OpenAIServer, Reply, cut, error, text

from prime_evals import Run, open_run, read_run

ENVIRONMENT = """
import hashlib
import verifiers as vf

def said(completion):
    return float(int(hashlib.sha256(completion[-1]["content"].encode()).hexdigest(), 16) % 5) if completion else 0.0

def rank(states):
    return [float(sum(said(other["completion"]) < said(state["completion"]) for other in states)) for state in states]

class Talk(vf.MultiTurnEnv):
    async def env_response(self, messages, state, **kwargs):
        return [vf.UserMessage(f"And then, after {messages[-1]['content']}?")]

def load_environment(count=8, grouped=False):
    rows = [{"question": f"Tell of {n}.", "info": {"n": n}} for n in range(count)]
    return Talk(dataset=rows, max_turns=2, rubric=vf.Rubric(funcs=[said, rank] if grouped else [said]))
"""
EXAMPLES, ROLLOUTS, AT_ONCE = 8, 3, 8
TIMEOUT = 2.0
PASSING = ("429", "429 now", "429 date", "500", "cut", "web page", "nothing", "garbage", "error with 200")
FOR_EVER = ("overlong", "says nothing", "refused request")
_PAGE = {"Content-Type": "text/html"}
REPLIES = {
    "429": error(429, "slow down"),
    "429 now": error(429, "slow down", {"Retry-After": "0"}),
    "429 date": error(429, "slow down", {"Retry-After": formatdate(0, usegmt=True)}),
    "500": error(500, "on fire"),
    "cut": cut(),
    "web page": Reply(body=b"<!doctype html><html><body>Welcome</body></html>", headers=_PAGE),
    "nothing": Reply(body=b""),
    "garbage": Reply(body=b'{"choices": [{"mess'),
    "error with 200": Reply(body=b'{"error": {"code": 503, "message": "busy"}}'),
    "overlong": error(400, "This model's maximum context length is 10 tokens."),
    "says nothing": text(""),
    "refused request": error(422, "no such thing"),
}


class FaultyModel:
    """A model server, by `seed`. disturbed: whether it also fails in ways that pass."""

    def __init__(self, seed: int, disturbed: bool = True) -> None:
        self.seed = seed
        self.asked: list[tuple[int, int]] = []
        """(example, rollout) of every request, in order."""
        self.failed: Counter[str] = Counter()
        self._disturbed = disturbed
        self._left: dict[str, list[str]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._server = OpenAIServer()
        self._server.reply(self._answer)
        self._server.quiet()  # whoever asks is killed in the middle of it
        self.url = self._server.url

    def _answer(self, request: dict[str, Any]) -> Reply:
        example, rollout = int(request["headers"]["X-Example"]), int(request["headers"]["X-Rollout"])
        messages = [[message["role"], message["content"]] for message in request["messages"]]
        key = f"{self.seed} {rollout} {json.dumps(messages)}"
        rng = random.Random(key)
        always = rng.choice(FOR_EVER) if rng.random() < 0.08 else None
        # Three in a rollout at most: each may cost an attempt, and there are four.
        passing = rng.choices(PASSING, k=rng.choice((0, 0, 0, 0, 1, 2) if len(messages) == 1 else (0, 0, 0, 1)))
        if (example, rollout, len(messages)) == (self.seed % EXAMPLES, 0, 1):
            passing = ["timeout"]
        with self._lock:
            self.asked.append((example, rollout))
            left = self._left.setdefault(key, passing if self._disturbed else [])
            fault = left.pop() if left else always
            if fault is not None:
                self.failed[fault] += 1
        if fault == "timeout":
            return Reply(wait=self._closed, cut=True)
        if self._disturbed:
            time.sleep(rng.random() * 0.03)
        if fault is not None:
            return REPLIES[fault]
        return text(hashlib.sha256(key.encode()).hexdigest()[:12])

    def close(self) -> None:
        """Stop serving."""
        self._closed.set()
        self._server.close()


@dataclass(slots=True)
class Killed:
    """What a run went through: how often it was killed, and at which moments; the attempts that are recorded."""

    seed: int
    grouped: bool
    moments: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    failed_attempts: int = 0

    def __str__(self) -> str:
        how = ", ".join(self.moments) or "never"
        group = "scored in groups" if self.grouped else "scored one by one"
        return (
            f"seed {self.seed}, {group}, killed {how}; {self.attempts} attempts, {self.failed_attempts} of them failed, "
            f"{sum(self.faults.values())} faults"
        )


class KilledRun:
    """One run by `seed` in `folder`; `play` raises AssertionError with what is wrong, and the seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.story = Killed(seed, grouped=bool(seed % 2))
        self.model = FaultyModel(seed)
        environment = folder / "environments" / "killed_env"
        environment.mkdir(parents=True)
        (environment / "killed_env.py").write_text(ENVIRONMENT)
        (environment / "pyproject.toml").write_text('[project]\nname = "killed-env"\nversion = "1.0"\n')

    def play(self) -> Killed:
        """Start, kill, resume, until it is complete; then look at what is there."""
        try:
            for _ in range(self.rng.randint(2, 4)):
                if not self._killed_once():
                    break
                self._look()
            self._to_the_end()
            self._compare()
        except AssertionError as error:
            raise AssertionError(f"seed {self.story.seed}: {error}\n({self.story})") from error
        finally:
            self.model.close()
        self.story.faults = self.model.failed
        return self.story

    # Playing

    def _start(self, url: str, output: str, resume: Path | None) -> subprocess.Popen[str]:
        arguments = ["killed-env", "-m", "m", "-b", url, "-o", output, "-n", str(EXAMPLES), "-r", str(ROLLOUTS)]
        arguments += ["-a", json.dumps({"count": EXAMPLES, "grouped": self.story.grouped}), "-c", str(AT_ONCE)]
        arguments += ["--max-retries", "3", "-S", json.dumps({"timeout": TIMEOUT})]
        arguments += ["--header-from-state", "X-Example: example_id", "--header-from-state", "X-Rollout: rollout_index"]
        if resume is not None:
            arguments += ["--resume", str(resume)]
        return subprocess.Popen(
            [sys.executable, "-m", "verifiers.cli.eval", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _run_folder(self) -> Path | None:
        found = list((self.folder / "out").glob("evals/*/*/attempts.jsonl"))
        assert len(found) <= 1, f"more than one run: {found}"
        return found[0].parent if found else None

    def _results(self) -> set[tuple[int, int]]:
        run = self._recorded()
        return set() if run is None else set(run.results)

    def _recorded(self) -> Run | None:
        folder = self._run_folder()
        if folder is None or b"\n" not in (folder / "attempts.jsonl").read_bytes():
            return None
        return read_run(folder)

    def _killed_once(self) -> bool:
        """Start or resume it and kill it; False when it was faster."""
        finished, asked = self._results(), len(self.model.asked)
        lines = self._lines()
        child = self._start(self.model.url, "out", self._run_folder())
        moment = self.rng.choice(("requests", "records", "records", "time"))
        amount = self.rng.randint(1, 25)
        until = time.monotonic() + (self.rng.random() * 2 if moment == "time" else 60)
        while child.poll() is None and time.monotonic() < until:
            if moment == "requests" and len(self.model.asked) - asked >= amount:
                break
            if moment == "records" and self._lines() - lines >= amount:
                break
            time.sleep(0.002)
        time.sleep(self.rng.random() * 0.02)
        ended = child.poll() is not None
        child.kill()
        said, _ = child.communicate()
        assert not ended or child.returncode == 0, said
        if not ended:
            self.story.moments.append("by time" if moment == "time" else f"after {amount} {moment}")
        self._none_again(finished, asked)
        return not ended

    def _lines(self) -> int:
        folder = self._run_folder()
        return 0 if folder is None else (folder / "attempts.jsonl").read_bytes().count(b"\n")

    def _to_the_end(self) -> None:
        finished, asked = self._results(), len(self.model.asked)
        child = self._start(self.model.url, "out", self._run_folder())
        said, _ = child.communicate(timeout=120)
        assert child.returncode == 0, said
        self._none_again(finished, asked)

    # Looking

    def _none_again(self, finished: set[tuple[int, int]], asked: int) -> None:
        again = finished & set(self.model.asked[asked:])
        assert not again, f"played again although recorded: {sorted(again)}"

    def _look(self) -> None:
        """The index that the killed process left behind says what the file says."""
        run = self._recorded()
        if run is None:
            return
        with open_run(run.directory) as opened:
            indexed = {(brief.example_id, brief.rollout_index): brief.reward for brief in opened.briefs()}
            assert indexed == {key: one.output["reward"] for key, one in run.results.items()}, "the index is wrong"
            for key, one in run.results.items():
                assert opened.row(key) == one.output, f"the index leads astray: {key}"

    def _compare(self) -> None:
        self._look()
        run = self._recorded()
        assert run is not None
        planned = {(example, index) for example in range(EXAMPLES) for index in range(ROLLOUTS)}
        finals: dict[Any, list[int]] = defaultdict(list)
        tries: dict[Any, set[int]] = defaultdict(set)
        for one in run.attempts:
            tries[one.key].add(one.attempt)
            if one.final:
                finals[one.key].append(one.attempt)
        assert set(finals) == planned, f"without a result: {sorted(planned - set(finals))}"
        several = {key: numbers for key, numbers in finals.items() if len(numbers) != 1}
        assert not several, f"more than one result: {several}"
        late = {key: tries[key] for key, (number,) in finals.items() if number != max(tries[key])}
        assert not late, f"an attempt after the result: {late}"
        twice: dict[Any, list[Any]] = defaultdict(list)
        for one in run.attempts:
            twice[one.key, one.attempt].append(one)
        for key, records in twice.items():
            # A group's rollouts are recorded as they were played, and once more as they were scored.
            scored = self.story.grouped and [one.final for one in records] == [False, True]
            same = len({json.dumps(one.output["completion"]) for one in records}) == 1
            assert len(records) == 1 or (scored and same), f"two attempts with one number: {key}"
        self.story.attempts = sum(len(numbers) for numbers in tries.values())
        self.story.failed_attempts = len(
            {(one.key, one.attempt) for one in run.attempts if not one.final and one.output["error"]}
        )
        undisturbed = FaultyModel(self.story.seed, disturbed=False)
        try:
            child = self._start(undisturbed.url, "undisturbed", None)
            said, _ = child.communicate(timeout=120)
        finally:
            undisturbed.close()
        assert child.returncode == 0, said
        (other,) = (self.folder / "undisturbed").glob("evals/*/*")
        assert _essence(run.directory) == _essence(other), "other results than those of an undisturbed run"
        for name in ("avg_reward", "std_reward", "avg_metrics", "avg_error", "pass_at_k", "num_scored", "num_rollouts"):
            here, there = (json.loads((one / "metadata.json").read_text())[name] for one in (run.directory, other))
            assert here == there, f"{name}: {here} != {there}"


def _essence(folder: Path) -> list[Any]:
    """The rows of results.jsonl, without what differs from run to run: times, addresses, how often something was asked."""
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    kept = (
        "example_id",
        "rollout_index",
        "prompt",
        "completion",
        "reward",
        "metrics",
        "stop_condition",
        "is_truncated",
    )
    return [[*(row[name] for name in kept), (row["error"] or {}).get("error")] for row in rows]
