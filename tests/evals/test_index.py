"""A run by its index: what it gives without reading the outputs, and that it is never wrong."""

import json
import math
import shutil
import sqlite3

import pytest

from prime_evals import Attempt, AttemptStore, NotARun, Only, RunIdentity, RunSettings, derive, open_run, read_run

IDENTITY = RunIdentity("my-env", "m", "0.1.0")
SETTINGS = RunSettings(4, 2)
ERROR = {"error": "ModelError", "message": "down"}


def output(example, index, reward=1.0, **fields):
    usage = {"input_tokens": 10 * example, "output_tokens": 5}
    row = {"example_id": example, "rollout_index": index, "reward": reward, "metrics": {"x": 1.0, "num_turns": 2.0}}
    row |= {"token_usage": usage, "timing": {"total": example + index / 2}, "stop_condition": "max_turns_reached"}
    return {
        **row,
        "error": None,
        "is_truncated": False,
        "completion": [{"role": "assistant", "content": "ü" * 50}],
        **fields,
    }


def attempt(example, index, reward=1.0, attempt=1, final=True, **fields):
    return Attempt(example, index, output(example, index, reward, **fields), attempt, final)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "run"
    with AttemptStore(path, IDENTITY, SETTINGS) as store:
        store.append([attempt(2, 0, None, final=False, error=ERROR)])
        store.append([attempt(10, 1, 0.5)])
        store.append([attempt(2, 0, 0.25, attempt=2)])
        store.append([attempt(2, 1, None, error=ERROR)])
    return path


def results(folder):
    with open_run(folder) as run:
        return {(brief.example_id, brief.rollout_index): (brief.attempt, brief.reward) for brief in run.briefs()}


RESULTS = {(2, 0): (2, 0.25), (2, 1): (1, None), (10, 1): (1, 0.5)}


def test_header_counts_columns_and_rows(folder):
    with open_run(folder) as run:
        assert (run.identity, run.settings) == (IDENTITY, SETTINGS)
        counts = run.counts
        assert (counts.planned, counts.finished, counts.scored, counts.errored, counts.attempts) == (8, 3, 2, 1, 4)
        assert not counts.is_complete and run.started_at <= run.ended_at
        columns = run.columns()
        assert columns["example_id"] == [2, 2, 10] and list(columns["rollout_index"]) == [0, 1, 1]
        assert columns["reward"][0] == 0.25 and math.isnan(columns["reward"][1])
        assert columns["error"] == [None, "ModelError", None] and list(columns["attempt"]) == [2, 1, 1]
        assert list(columns["seconds"]) == [2.0, 2.5, 10.5] and list(columns["input_tokens"]) == [20.0, 20.0, 100.0]
        assert list(run.columns("seconds", only=Only(scored=True))["seconds"]) == [2.0, 10.5]
        with pytest.raises(ValueError, match=r"^A run has no column 'rewards'\.$"):
            run.columns("rewards")
        assert run.row((10, 1)) == output(10, 1, 0.5)
        with pytest.raises(KeyError):
            run.row((10, 0))
        tries = run.attempts((2, 0))
        assert [(one["attempt"], one["final"], one["output"]["reward"]) for one in tries] == [
            (1, False, None),
            (2, True, 0.25),
        ]
        assert run.attempts((9, 9)) == []


@pytest.mark.parametrize(
    ("only", "order", "wanted"),
    [
        ({}, {}, [2, 2, 10]),
        ({}, {"descending": True}, [10, 2, 2]),
        ({}, {"by": "reward"}, [2, 10, 2]),
        ({}, {"by": "reward", "descending": True}, [10, 2, 2]),
        ({}, {"by": "seconds", "descending": True, "limit": 2}, [10, 2]),
        ({}, {"skip": 2}, [10]),
        ({"errored": True}, {}, [2]),
        ({"scored": True}, {}, [2, 10]),
        ({"error": "ModelError"}, {}, [2]),
        ({"stop_condition": "other"}, {}, []),
        ({"example_id": 2}, {}, [2, 2]),
        ({"from_": 0.3}, {}, [10]),
        ({"below": 0.3}, {}, [2]),
    ],
)
def test_rows_filtered_and_sorted(folder, only, order, wanted):
    with open_run(folder) as run:
        assert [row["example_id"] for row in run.rows(Only(**only), **order)] == wanted


def test_it_follows_a_run_that_goes_on(folder):
    with open_run(folder) as run, AttemptStore(folder, IDENTITY, SETTINGS) as store:
        assert store.tried == {(2, 0): 2, (2, 1): 1, (10, 1): 1} and store.read((10, 1)) == output(10, 1, 0.5)
        store.append([attempt(2, 1, 1.0, attempt=2)])
        assert run.counts.attempts == 5, "the writer keeps it, too"
        run.refresh()
        assert run.counts.scored == 3 and run.row((2, 1))["reward"] == 1.0


def _truncate(path):
    path.write_bytes(path.read_bytes()[:5000])


def _scribble(path):
    data = bytearray(path.read_bytes())
    data[4096:12000] = b"x" * 7904
    path.write_bytes(data)


def _older(path):
    with sqlite3.connect(path) as db:
        db.execute("UPDATE state SET format = 0")
    db.close()


def _astray(path):
    with sqlite3.connect(path) as db:
        db.execute("UPDATE state SET read_to = read_to - 10")
    db.close()


def _of_another_run(path):
    other = path.parent.parent / "other"
    with AttemptStore(other, IDENTITY, SETTINGS) as store:
        store.append([attempt(1, 0, 0.0), attempt(1, 1, 0.0), attempt(2, 0, 0.0), attempt(2, 1, 0.0)])
    shutil.copy(other / "attempts.index", path)


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"no database" * 99),
        _truncate,
        _scribble,
        _older,
        _astray,
        _of_another_run,
    ],
    ids=["missing", "rubbish", "truncated", "scribbled", "older", "astray", "another's"],
)
def test_a_bad_index_is_made_anew(folder, harm):
    harm(folder / "attempts.index")
    assert results(folder) == RESULTS
    assert results(folder) == RESULTS
    with AttemptStore(folder, IDENTITY, SETTINGS) as store:
        assert set(store.recorded) == set(RESULTS)


def test_an_index_that_turns_out_to_be_damaged_later_is_made_anew_too(folder):
    with open_run(folder) as run:
        run._index.db.execute("DROP TABLE results")
        assert run.counts.finished == 3
        run._index.db.execute("DROP TABLE attempts")
        assert run.row((10, 1))["reward"] == 0.5
        briefs = run.briefs()
        next(briefs)
        run._index.db.execute("ALTER TABLE attempts RENAME TO gone")
        assert [brief.example_id for brief in run.briefs()] == [2, 2, 10]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE results SET offset = (SELECT max(offset) FROM results) WHERE number = 2 AND rollout = 0",
        "UPDATE attempts SET length = length - 1",
    ],
)
def test_a_place_that_is_wrong_never_gives_another_rollout(folder, damage):
    with open_run(folder) as run:
        run._index.db.execute(damage)
        assert run.row((2, 0))["reward"] == 0.25
        assert [one["reward"] for one in run.rows()] == [0.25, None, 0.5]
        run._index.db.execute("UPDATE attempts SET length = length - 1")
        assert [one["reward"] for one in run.rows()] == [0.25, None, 0.5]
        run._index.db.execute("UPDATE attempts SET length = length - 1")
        assert [one["attempt"] for one in run.attempts((2, 0))] == [1, 2]


def test_what_stays_unreadable_ends_with_a_sentence(folder, monkeypatch):
    with open_run(folder) as run:
        monkeypatch.setattr("prime_evals.opened.IN_ORDER", "no_such_column")
        with pytest.raises(NotARun, match="cannot be read, also after its index was made anew: no such column"):
            list(run.briefs())
        with pytest.raises(NotARun, match="cannot be read, also after its index was made anew: no such column"):
            run.columns("reward")


def test_another_file_in_its_place_is_noticed(folder):
    assert results(folder) == RESULTS
    with AttemptStore(folder.parent / "new", IDENTITY, SETTINGS) as store:
        store.append([attempt(example, 0, 0.0) for example in range(20)])
    shutil.copy(folder.parent / "new" / "attempts.jsonl", folder / "attempts.jsonl")
    assert len(results(folder)) == 20


def test_it_goes_on_where_it_ends(folder):
    """Only what is new is read: what was read before can no longer be read, and nobody notices."""
    path = folder / "attempts.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert results(folder) == RESULTS
    middle = b"#" * (len(lines[2]) - 1) + b"\n"
    more = json.dumps({"kind": "attempt", "example_id": 3, "rollout_index": 0, "output": output(3, 0)}).encode()
    path.write_bytes(b"".join([*lines[:2], middle, *lines[3:], more]))
    assert results(folder) == RESULTS | {(3, 0): (1, 1.0)}
    with path.open("ab") as file:
        file.write(b'\n{"kind": "attempt", "example_id": 3, "roll')
    assert results(folder) == RESULTS | {(3, 0): (1, 1.0)}, "a torn line is none"


def test_a_group_is_final_when_all_of_it_is_there(folder):
    path = folder / "attempts.jsonl"
    before = path.read_bytes()
    with AttemptStore(folder, IDENTITY, SETTINGS) as store:
        store.append([attempt(3, 0, final=False)], [attempt(3, 0), attempt(3, 1)])
    whole = path.read_bytes()
    added = whole[len(before) :].splitlines(keepends=True)
    assert json.loads(added[1])["of"] == [1, 2] and set(results(folder)) == {*RESULTS, (3, 0), (3, 1)}
    path.write_bytes(before + b"".join(added[:2]) + added[2][:40])
    assert results(folder) == RESULTS and set(read_run(folder).results) == set(RESULTS)
    with AttemptStore(folder, IDENTITY, SETTINGS) as store:
        assert set(store.recorded) == set(RESULTS) and store.tried[3, 0] == 1
        store.append([attempt(3, 0, 0.5, attempt=2), attempt(3, 1, 0.5)])
    assert results(folder) == RESULTS | {(3, 0): (2, 0.5), (3, 1): (1, 0.5)}
    assert set(read_run(folder).results) == set(results(folder))
    assert [one.final for one in read_run(folder).attempts if one.key == (3, 0)] == [False, False, True]


def test_a_folder_that_may_only_be_read_is_read(folder, monkeypatch):
    (folder / "attempts.index").unlink()
    connect = sqlite3.connect

    def refuse(path, **options):
        if str(path).startswith(str(folder)):
            raise sqlite3.OperationalError("unable to open database file")
        return connect(path, **options)

    monkeypatch.setattr("prime_evals.index.sqlite3.connect", refuse)
    monkeypatch.setattr("prime_evals.index.os.access", lambda *_: False)
    assert results(folder) == RESULTS
    assert not (folder / "attempts.index").exists()


@pytest.mark.parametrize("field", ["example_id", "rollout_index", "output"])
def test_a_record_that_lacks_a_field_is_a_sentence(folder, field):
    record = {"kind": "attempt", "example_id": 1, "rollout_index": 0, "output": output(1, 0)}
    del record[field]
    with (folder / "attempts.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    with pytest.raises(NotARun, match=r"a record of attempts\.jsonl lacks a field"):
        open_run(folder)
    with pytest.raises(NotARun, match=r"attempts\.jsonl is missing"):
        open_run(folder.parent)


def test_ids_that_are_words_and_half_an_emoji(tmp_path):
    with AttemptStore(tmp_path, IDENTITY, SETTINGS) as store:
        for example in ("b", 10, "a", 9, "ü", 2**70, "\ud83d"):
            store.append([attempt(0, 0)])
            store.append([Attempt(example, 0, {**output(1, 0), "example_id": example, "stop_condition": "\ud83d"})])
    with open_run(tmp_path) as run:
        assert run.columns("example_id")["example_id"] == [0, 9, 10, "\ud83d", "a", "b", "ü", 2**70]
        assert run.row(("ü", 0))["stop_condition"] == "\ud83d"
    derive(tmp_path)
    assert len((tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()) == 8
