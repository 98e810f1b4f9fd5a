"""Row tables and the formatting of datasets."""

import sys

import pytest

import verifiers as vf
from verifiers.data import RowTable, as_table, decode_info, format_dataset

TABLE = RowTable.from_dict({"question": ["a", "b", "c"], "answer": ["1", "2", "3"]})


def test_a_table_has_the_methods_environments_use():
    assert len(TABLE) == 3 and TABLE.column_names == ["question", "answer"] and TABLE["answer"] == ["1", "2", "3"]
    assert TABLE[0] == {"question": "a", "answer": "1"} and TABLE[1:] == {"question": ["b", "c"], "answer": ["2", "3"]}
    assert TABLE.select(range(1))["question"] == ["a"] and len(TABLE.repeat(3)) == 9
    assert TABLE.shuffle(seed=1).to_list() == TABLE.shuffle(seed=1).to_list() != TABLE.to_list()
    assert TABLE.filter(lambda row: row["answer"] > "1")["question"] == ["b", "c"]
    mapped = TABLE.map(lambda row, index: {"n": index}, with_indices=True, remove_columns=["answer"])
    assert mapped[2] == {"question": "c", "n": 2}
    assert TABLE.rename_column("question", "q").remove_columns("answer").column_names == ["q"]
    TABLE[0]["question"] = "changed"
    assert TABLE[0]["question"] == "a"
    with pytest.raises(KeyError, match="Column 'nope' is not in the table"):
        TABLE["nope"]


def test_prompts_are_built_from_questions():
    (row, *_) = format_dataset(TABLE, "be brief", [{"role": "user", "content": "x"}, vf.AssistantMessage("y")])
    assert [message["role"] for message in row["prompt"]] == ["system", "user", "assistant", "user"]
    assert row["example_id"] == 0 and row["prompt"][-1]["content"] == "a"


def test_prompts_that_are_there_get_the_system_prompt_only_when_they_lack_one():
    rows = as_table(
        [{"prompt": "hi"}, {"prompt": [{"role": "system", "content": "own"}, {"role": "user", "content": "x"}]}]
    )
    first, second = format_dataset(rows, "mine")
    assert [message["content"] for message in first["prompt"]] == ["mine", "hi"]
    assert [message["content"] for message in second["prompt"]] == ["own", "x"]


def test_rows_may_have_no_prompt_yet():
    (row,) = format_dataset(as_table([{"info": {"seed": 4}}]))
    assert row["prompt"] == [] and row["info"] == {"seed": 4}


def test_example_ids():
    rows = format_dataset(as_table([{"example_id": "x", "question": "a", "env_id": "e"}]))
    assert rows[0]["example_id"] == 0 and rows[0]["src_id"] == "x" and "env_id" not in rows.column_names
    assert format_dataset(as_table([{"example_id": 7, "question": "a"}]))[0]["example_id"] == 7


def test_mistakes_are_sentences():
    with pytest.raises(TypeError, match=r"^A dataset is a list of dicts, .* got str\.$"):
        vf.SingleTurnEnv(dataset="gsm8k")
    with pytest.raises(ValueError, match="holds text that is not JSON"):
        decode_info("{")
    with pytest.raises(ValueError, match="must hold a dict"):
        decode_info("[1]")
    assert decode_info('{"a": 1}') == {"a": 1} and decode_info(None) == {}


def test_environments_shuffle_and_choose():
    env = vf.SingleTurnEnv(dataset=TABLE, eval_dataset=lambda: TABLE.select([2]))
    assert env.get_dataset(2)["question"] == ["a", "b"] and env.get_eval_dataset()["question"] == ["c"]
    shuffled = env.get_dataset(seed=1)["question"]
    assert env.get_dataset()["question"] == shuffled != ["a", "b", "c"], "a shuffled dataset stays shuffled"
    with pytest.raises(ValueError, match="no training dataset"):
        vf.SingleTurnEnv(eval_dataset=TABLE).get_dataset()


def test_example_datasets_say_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    sentence = r"^load_example_dataset\('gsm8k'\) needs the package datasets: pip install 'verifiers\[datasets\]'$"
    with pytest.raises(ImportError, match=sentence):
        vf.load_example_dataset()
    with pytest.raises(ValueError, match=r"^There is no example dataset 'x'\. There are aime2024, "):
        vf.load_example_dataset("x")
