"""Well-known datasets become questions and answers; rows of the `datasets` package go through environments.

The `datasets` package lives in an environment of its own, since nothing else needs it; the rows are small files with the
columns of the real ones.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.equivalence.conftest import HERE, our_path, our_python, run

GPQA = {"Question": "Which?", "Correct Answer": "right", "Incorrect Answer 1": "w1", "Incorrect Answer 2": "w2", "Incorrect Answer 3": "w3"}  # fmt: skip
RS = [{"problem": "easy?", "answer": "1", "level": "Easy", "solution": ""}, {"problem": "hard?", "answer": "2", "level": "Hard", "solution": ""}]  # fmt: skip
FOUR = "Question: q\n\nA: a\nB: b\nC: c\nD: d"
CASES: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str]]]] = {
    "aime2024": ([{"problem": "p", "answer": "033", "url": "u"}], [("p", "33")]),
    "aime2025": ([{"question": "p", "answer": "70"}], [("p", "70"), ("p", "70")]),
    "amc2023": ([{"problem": "p", "answer": 27, "id": 1}], [("p", "27")]),
    "gpqa_diamond": ([GPQA] * 12, []),
    "gpqa_main": ([GPQA], []),
    "gsm8k": ([{"question": f"q{n}", "answer": f"so\n#### {n},000"} for n in range(5)], [(f"q{n}", f"{n},000") for n in range(5)]),
    "math": ([{"problem": "p", "solution": r"thus \boxed{\frac{1}{2}}", "level": "Level 1", "type": "t"}], [("p", r"\frac{1}{2}")]),
    "math500": ([{"problem": "p", "answer": r"\pi", "solution": "s"}], [("p", r"\pi")]),
    "mmlu": ([{"question": "q", "choices": ["a", "b", "c", "d"], "answer": 2, "subject": "s"}], [(FOUR, "C")]),
    "mmlu_pro": ([{"question": "q", "options": ["a", "b", "c", "d"], "answer": "B", "answer_index": 1}], [(FOUR, "B")]),
    "openbookqa": (
        [{"question_stem": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A", "id": "1"}],
        [("Question: q\n\nChoices:\nA. a\nB. b", "A")],
    ),
    "openrs": (RS, [("easy?", "1"), ("hard?", "2")]),
    "openrs_easy": (RS, [("easy?", "1")]),
    "openrs_hard": (RS, [("hard?", "2")]),
    "prime_code": (
        [{"prompt": "p", "verification_info": '{"language": "python"}', "metadata": "{}"}],
        [("p", '{"language": "python"}')],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("home")
    (home / "cases.json").write_text(json.dumps({name: rows for name, (rows, _) in CASES.items()}))
    path = our_path()
    return json.loads(
        run(our_python(), HERE / "datasets_program.py", str(home / "cases.json"), home=home, PYTHONPATH=path)
    )


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("gpqa")])
def test_rows_become_questions_and_answers(said: dict[str, Any], name: str) -> None:
    assert said[name] == [{"question": question, "answer": answer} for question, answer in CASES[name][1]]


def test_the_right_choice_has_every_letter_the_same_each_time(said: dict[str, Any]) -> None:
    rows = said["gpqa_diamond"]
    assert rows[0] == said["gpqa_main"][0] and {row["answer"] for row in rows} == set("ABCD")
    for row in rows:
        assert row["question"].startswith("Question: Which?\n\nA: ") and f"{row['answer']}: right" in row["question"]
        assert all(f": w{number}" in row["question"] for number in (1, 2, 3))


def test_so_many_are_drawn_by_the_seed(said: dict[str, Any]) -> None:
    first, again, other = said["two"]
    assert first == again != other and len(first) == 2 and said["many"] == 5


def test_what_cannot_be_had_is_a_sentence(said: dict[str, Any]) -> None:
    kind, told = said["unknown"]
    assert kind == "ValueError" and told.startswith(
        "There is no example dataset 'gsm8'. Did you mean 'gsm8k'? There are aime2024,"
    )
    kind, told = said["split"]
    assert kind == "ValueError" and "has no split 'nope'" in told
    kind, told = said["offline"]
    assert kind == "ConnectionError" and "HuggingFaceH4/MATH-500 could not be had from the Hugging Face hub" in told


def test_progress_bars_are_off_for_a_while(said: dict[str, Any]) -> None:
    assert said["quiet"] and said["loud"]


def test_environments_keep_their_datasets(said: dict[str, Any]) -> None:
    envs = said["envs"]
    assert envs["alone"][:2] == ["Dataset", 2] and "prompt" in envs["alone"][2] and envs["table"] == "Dataset"
    assert envs["same"] == ["Dataset", [8.0, 7.0], ["env_0", "env_1"]]
    assert envs["other"] == ["RowTable", [8.0, 4.0], ["env_0", "env_1"]], "other columns do not leak into rows"
    assert envs["nested"] == ["RowTable", [8.0, 7.0, 8.0], [["inner", "env_0"], ["inner", "env_1"], "c"]]
