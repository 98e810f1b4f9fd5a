"""The attempt store: append, resume, kill, a full disk."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from prime_evals import (
    Attempt,
    AttemptStore,
    NotARun,
    RecordingFailed,
    ResumeMismatch,
    RunIdentity,
    RunInUse,
    RunSettings,
    derive,
    find_runs,
    new_run_path,
    read_run,
)

IDENTITY = RunIdentity("my-env", "m", "0.1.0", {"level": 2}, {"temperature": 1})
SETTINGS = RunSettings(3, 2, details={"base_url": "http://127.0.0.1:1/v1"})


def output(example, index, reward=1.0, **fields):
    return {"example_id": example, "rollout_index": index, "reward": reward, "metrics": {"x": 1.0}, **fields}


def attempt(example, index, reward=1.0, **fields):
    return Attempt(example, index, output(example, index, reward), **fields)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "evals" / "run"


def test_what_is_appended_is_read_and_derived(folder):
    with AttemptStore(folder, IDENTITY, SETTINGS) as store:
        store.append([attempt(2, 0, None, final=False), attempt(10, 1, 0.5)])
        store.append([attempt(2, 0, 1.0, attempt=2), attempt(2, 1, 0.0)])
        assert set(store.recorded) == {(10, 1), (2, 0), (2, 1)}
    run = read_run(folder)
    assert (run.identity, run.settings) == (IDENTITY, SETTINGS) and not run.is_complete
    assert [one.attempt for one in run.attempts] == [1, 1, 2, 1]
    metadata = derive(folder)
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [(row["example_id"], row["rollout_index"], row["reward"]) for row in rows] == [
        (2, 0, 1.0),
        (2, 1, 0.0),
        (10, 1, 0.5),
    ]
    assert metadata == json.loads((folder / "metadata.json").read_text())
    assert metadata["avg_reward"] == 0.5 and metadata["num_scored"] == 3 and metadata["env_args"] == {"level": 2}
    assert metadata["base_url"] == "http://127.0.0.1:1/v1" and metadata["rollouts_per_example"] == 2


def test_a_run_is_continued_and_may_grow(folder):
    with AttemptStore(folder, IDENTITY, SETTINGS) as store:
        store.append([attempt(0, 0)])
    elsewhere = RunSettings(5, 2, details={"base_url": "http://127.0.0.1:2/v1"})
    with AttemptStore(folder, IDENTITY, elsewhere) as store:
        assert set(store.recorded) == {(0, 0)}, "another address is not another run"
        store.append([attempt(1, 0)])
    run = read_run(folder)
    assert run.settings == elsewhere and len(run.results) == 2


@pytest.mark.parametrize(
    ("identity", "settings", "difference"),
    [
        (RunIdentity("my-env", "other", "0.1.0", {"level": 2}, {"temperature": 1}), SETTINGS, "model: 'm' != 'other'"),
        (
            RunIdentity("my-env", "m", "0.2.0", {"level": 2}, {"temperature": 1}),
            SETTINGS,
            "env_version: '0.1.0' != '0.2.0'",
        ),
        (RunIdentity("my-env", "m", "0.1.0", {}, {"temperature": 1}), SETTINGS, "env_args: {'level': 2} != {}"),
        (IDENTITY, RunSettings(3, 4), "rollouts_per_example: 2 != 4"),
        (IDENTITY, RunSettings(2, 2), "num_examples: 3 != 2"),
    ],
)
def test_another_run_is_refused_and_untouched(folder, identity, settings, difference):
    AttemptStore(folder, IDENTITY, SETTINGS).close()
    before = (folder / "attempts.jsonl").read_bytes()
    with pytest.raises(ResumeMismatch) as raised:
        AttemptStore(folder, identity, settings)
    assert str(raised.value) == (
        f"Cannot resume from {folder}: metadata mismatch ({difference}). "
        "Use matching evaluation settings or provide a new results path."
    )
    assert (folder / "attempts.jsonl").read_bytes() == before


@pytest.mark.parametrize("torn", [b'{"kind": "att', b'{"kind": "attempt", "output": {"a": "\xc3'])
def test_a_torn_last_line_is_dropped(folder, torn):
    with AttemptStore(folder, IDENTITY, SETTINGS) as store:
        store.append([attempt(0, 0)])
    whole = (folder / "attempts.jsonl").read_bytes()
    (folder / "attempts.jsonl").write_bytes(whole + torn)
    assert set(read_run(folder).results) == {(0, 0)}
    with AttemptStore(folder, IDENTITY, SETTINGS) as store:
        store.append([attempt(0, 1)])
    assert (folder / "attempts.jsonl").read_bytes().startswith(whole + b'{"kind": "attempt"')
    assert set(read_run(folder).results) == {(0, 0), (0, 1)}


def test_a_line_that_lacks_only_its_newline_is_kept(folder):
    with AttemptStore(folder, IDENTITY, SETTINGS) as store:
        store.append([attempt(0, 0)])
    path = folder / "attempts.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    with AttemptStore(folder, IDENTITY, SETTINGS) as store:
        assert set(store.recorded) == {(0, 0)}
        store.append([attempt(0, 1)])
    assert set(read_run(folder).results) == {(0, 0), (0, 1)}


def test_a_broken_line_in_the_middle_is_not_passed_over(folder):
    with AttemptStore(folder, IDENTITY, SETTINGS) as store:
        store.append([attempt(0, 0)])
    path = folder / "attempts.jsonl"
    path.write_bytes(b"rubbish\n" + path.read_bytes())
    with pytest.raises(NotARun, match=r"^Line 1 of .* is not JSON"):
        read_run(folder)


def test_no_run_at_all(folder):
    with pytest.raises(NotARun, match=r"attempts.jsonl is missing"):
        read_run(folder)
    folder.mkdir(parents=True)
    (folder / "attempts.jsonl").write_text("")
    with pytest.raises(NotARun, match="no description"):
        read_run(folder)


def test_one_writer_at_a_time(folder):
    with AttemptStore(folder, IDENTITY, SETTINGS), pytest.raises(RunInUse, match="Another process is recording into"):
        AttemptStore(folder, IDENTITY, SETTINGS)
    AttemptStore(folder, IDENTITY, SETTINGS).close()


WRITER = """
import sys
from prime_evals import Attempt, AttemptStore, RecordingFailed, RunIdentity, RunSettings
folder, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = AttemptStore(folder, RunIdentity("my-env", "m"), RunSettings(count, 1))
if size:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
for example in range(count):
    if (example, 0) not in store.recorded:
        try:
            store.append([Attempt(example, 0, {"example_id": example, "reward": 1.0, "text": "x" * 300})])
        except RecordingFailed as error:
            print(error)
            sys.exit(7)
    print(example, flush=True)
"""


def test_what_was_recorded_survives_sigkill(folder):
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), "100000", "0"], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    said = [child.stdout.readline() for _ in range(25)]
    os.kill(child.pid, signal.SIGKILL)
    said += child.stdout.readlines()
    child.wait()
    child.stdout.close()
    acknowledged = {int(line) for line in said if line.endswith("\n")}
    assert acknowledged <= {example for example, _ in read_run(folder).results}
    with AttemptStore(folder, RunIdentity("my-env", "m"), RunSettings(100000, 1)) as store:
        assert acknowledged <= {example for example, _ in store.recorded}


def test_a_full_disk_ends_in_one_sentence_and_keeps_the_rest(folder):
    done = subprocess.run([sys.executable, "-c", WRITER, str(folder), "50", "4000"], capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    *recorded, sentence = done.stdout.splitlines()
    assert sentence == (
        f"Could not record results in {folder}: the disk is full. {len(recorded)} rollouts are recorded. "
        f"Make room and continue with --resume {folder}, or write elsewhere with -o."
    )
    assert len(read_run(folder).results) == len(recorded) > 0
    assert (folder / "attempts.jsonl").read_bytes().endswith(b"\n")
    done = subprocess.run([sys.executable, "-c", WRITER, str(folder), "50", "0"], capture_output=True, text=True)
    assert done.returncode == 0 and len(read_run(folder).results) == 50


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingFailed, match=r"^Could not record results in "):
        AttemptStore(tmp_path / "file" / "run", IDENTITY, SETTINGS)


def test_runs_are_found_nearest_first(tmp_path):
    paths = []
    for complete in (False, False, True):
        path = new_run_path(tmp_path, "my-env", "org/m")
        identity = RunIdentity("my-env", "org/m")
        with AttemptStore(path, identity, RunSettings(1, 1)) as store:
            if complete:
                store.append([attempt(0, 0)])
        os.utime(path / "attempts.jsonl", (time.time(), time.time() + len(paths)))
        paths.append(path)
    assert paths[0].parent == tmp_path / "evals" / "my-env--org--m" and len(paths[0].name) == 8
    found = find_runs(tmp_path, identity, RunSettings(1, 1))
    assert [one.directory for one in found] == [paths[1], paths[0], paths[2]] and found[2].is_complete
    nearest = find_runs(tmp_path, RunIdentity("my-env", "org/m", "0.2"), RunSettings(1, 1))[0]
    assert str(nearest) == f"{paths[1]}, which has 0 of 1 rollouts (env_version: None != '0.2')"


def test_half_an_emoji_is_recorded_and_derived(folder):
    with AttemptStore(folder, IDENTITY, SETTINGS) as store:
        store.append([Attempt(0, 0, output(0, 0, completion="oh \ud83d"))])
    derive(folder)
    for name in ("attempts.jsonl", "results.jsonl"):
        last = (folder / name).read_text(encoding="utf-8").splitlines()[-1]
        assert (json.loads(last).get("output") or json.loads(last))["completion"] == "oh \ud83d"
    assert read_run(folder).results[(0, 0)].output["completion"] == "oh \ud83d"


@pytest.mark.parametrize("line", ["5", '{"kind": "run"}', '{"kind": "attempt", "example_id": 0}'])
def test_a_file_of_something_else_is_a_sentence_and_disturbs_no_search(tmp_path, line):
    folder = new_run_path(tmp_path, IDENTITY.env_id, IDENTITY.model)
    folder.mkdir(parents=True)
    (folder / "attempts.jsonl").write_text(line + "\n")
    with pytest.raises(NotARun, match=r"attempts\.jsonl (is not a JSON object|lacks a field)"):
        read_run(folder)
    assert find_runs(tmp_path, IDENTITY, SETTINGS) == []
