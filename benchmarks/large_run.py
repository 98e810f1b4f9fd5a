"""A run of 100,000 rollouts, a gigabyte: how long it takes to open, to read a row, to resume, to derive; and the memory."""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from speed.cli import count, tell

IDENTITY: dict[str, Any] = {
    "env_id": "large",
    "model": "baseline/echo",
    "env_version": "1",
    "env_args": {},
    "sampling_args": {},
}
MISSING = 10
"""So many rollouts have no result yet."""
ENVIRONMENT = """
import verifiers as vf

def load_environment():
    rows = [{"question": "What comes next?", "info": {"seed": number}} for number in range(%d)]
    return vf.SingleTurnEnv(dataset=rows, rubric=vf.Rubric(funcs=[lambda completion: 1.0]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/bench large_run", description=__doc__)
    parser.add_argument("--rollouts", type=count, default=100_000, help="how many (default: %(default)s)")
    parser.add_argument("--bytes", type=count, default=10_000, help="of one rollout's row (default: %(default)s)")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step:
        return _child(chosen.step, Path(chosen.folder))
    with tempfile.TemporaryDirectory(prefix="prime-large-run-") as folder:
        tell("writing the run")
        write_run(Path(folder), chosen.rollouts, chosen.bytes)
        size = (Path(folder) / "attempts.jsonl").stat().st_size
        print(f"{chosen.rollouts} rollouts, attempts.jsonl {size / 1e9:.2f} GB")
        print("| | seconds | peak memory, MB |\n|---|---|---|")
        for step, name in STEPS.items():
            options = [sys.executable, __file__, "--step", step, "--folder", folder]
            options += ["--rollouts", str(chosen.rollouts)]
            seconds, peak = subprocess.run(options, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
            print(f"| {name} | {float(seconds):.3f} | {float(peak):.0f} |", flush=True)
        print(f"the index: {(Path(folder) / 'attempts.index').stat().st_size / 1e6:.0f} MB")
    return 0


STEPS = {
    "nothing": "import the package, and nothing else",
    "index": "make the missing index",
    "open": "open the run, its counts",
    "columns": "all columns as arrays",
    "row": "a hundred rows by key",
    "worst": "the ten lowest rewards, rows and all",
    "resume": "open it to be continued",
    "derive": "derive results.jsonl and metadata.json",
    "read_run": "for comparison: read everything (`read_run`)",
    "command": f"`vf-eval --resume` with {MISSING} rollouts missing, from start to end",
}


def write_run(folder: Path, rollouts: int, size: int) -> None:
    """As a run would, but without a wait for the disk after every line."""
    rng = random.Random(1)
    words = [f"word{number}" for number in range(5000)]
    settings = {"num_examples": rollouts // 4, "rollouts_per_example": 4, "pass_threshold": 0.5, "details": {}}
    head = {"kind": "run", "format": 1, "run": "0", "started_at": 1.0, "identity": IDENTITY, "settings": settings}
    with (folder / "attempts.jsonl").open("w") as file:
        file.write(json.dumps(head) + "\n")
        for number in range(rollouts - MISSING):
            failed = rng.random() < 0.05
            said = " ".join(rng.choices(words, k=size // 8))
            output = {
                "example_id": number // 4,
                "rollout_index": number % 4,
                "prompt": [{"role": "user", "content": "What comes next?"}],
                "completion": [{"role": "assistant", "content": said}],
                "answer": "",
                "info": {"seed": number // 4},
                "reward": None if failed else rng.random(),
                "error": {"error": "ModelError", "message": f"failed: {number % 50}"} if failed else None,
                "timing": {"total": rng.random() * 30, "generation": 1.0, "scoring": 0.1},
                "is_completed": True,
                "is_truncated": False,
                "stop_condition": "max_turns_reached",
                "metrics": {} if failed else {"right": 1.0, "num_turns": 4.0, "format": 0.5},
                "tool_defs": [],
                "token_usage": {"input_tokens": 900, "output_tokens": 1200, "cost": 0.001},
            }
            record = {"kind": "attempt", "run": "0", "example_id": number // 4, "rollout_index": number % 4}
            record |= {"attempt": 1, "final": True, "recorded_at": 1.0 + number, "output": output}
            file.write(json.dumps(record) + "\n")


def _child(step: str, folder: Path) -> int:
    from prime_evals import AttemptStore, RunIdentity, RunSettings, derive, open_run, read_run

    begun = time.perf_counter()
    if step == "command":
        environment = folder / "environments" / "large"
        environment.mkdir(parents=True)
        with open_run(folder) as run:
            (environment / "large.py").write_text(ENVIRONMENT % run.settings.num_examples)
        (environment / "pyproject.toml").write_text('[project]\nname = "large"\nversion = "1"\n')
        command = [sys.executable, "-m", "verifiers.cli.eval", "large", "-m", "baseline/echo", "-n", "-1", "-r", "4"]
        subprocess.run([*command, "--resume", str(folder)], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        with open_run(folder) as run:
            assert run.counts.is_complete
        print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
        return 0
    if step == "read_run":
        assert read_run(folder).results
    elif step == "derive":
        derive(folder)
    elif step == "resume":
        with open_run(folder) as run:
            settings = run.settings
        with AttemptStore(folder, RunIdentity(**IDENTITY), RunSettings(**settings.to_dict())) as store:
            assert store.recorded
    elif step != "nothing":
        with open_run(folder) as run:
            counts = run.counts
            assert counts.finished == counts.planned - MISSING
            if step == "columns":
                assert len(run.columns()["reward"]) == counts.finished
            elif step == "row":
                for number in range(100):
                    assert run.row((number * (counts.finished // 400), 3))
            elif step == "worst":
                assert len(list(run.rows(by="reward", limit=10))) == 10
    seconds = time.perf_counter() - begun
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    sys.exit(main())
