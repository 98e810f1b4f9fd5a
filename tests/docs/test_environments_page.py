"""docs/environments.md: each environment on it loads and is played from its first row to its reward."""

from __future__ import annotations

from typing import Any

import pytest

import verifiers as vf
from tests.conftest import ROOT
from tests.support.libraries import folder_of
from tests.support.pages import blocks
from verifiers.evaluation.policies import Offline
from verifiers.types import AssistantMessage, ToolCall

PAGE = ROOT / "docs" / "environments.md"
PROGRAMS = [block.text for block in blocks(PAGE) if block.language == "python"]


class Script(Offline):
    """Says one line after the other; a pair is a call of a tool."""

    def __init__(self, lines: list[Any]) -> None:
        super().__init__(None)
        self.lines = lines

    def move(self, prompt: Any, tools: Any, state: Any) -> AssistantMessage:
        line = self.lines[len(state["trajectory"])]
        if isinstance(line, tuple):
            return AssistantMessage(None, tool_calls=[ToolCall(id="1", name=line[0], arguments=line[1])])
        return AssistantMessage(line)


def played(number: int, lines: list[Any]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(PROGRAMS[number], f"block {number}", "exec"), names)
    env: vf.Environment = names["load_environment"]()
    return env.evaluate_sync(Script(lines), "script", num_examples=1)["outputs"][0]


def test_there_are_five() -> None:
    assert len(PROGRAMS) == 5


def test_one_answer() -> None:
    output = played(0, ["<think>\nbackwards\n</think>\n<answer>\nenots\n</answer>"])
    assert output["reward"] == pytest.approx(1.1)
    assert "<answer>" in output["prompt"][0]["content"]
    assert played(0, ["enots"])["reward"] == pytest.approx(0.02)  # for the spacing of what is not there


def test_turns() -> None:
    output = played(1, ["8", "3", "5"])
    assert (output["reward"], output["tries"]) == (1.0, 3.0)
    assert [message["content"] for message in output["completion"]] == ["8", "Lower.", "3", "Higher.", "5", "Right."]
    lost = played(1, ["1"] * 10)
    assert (lost["reward"], lost["stop_condition"]) == (0.0, "out_of_tries")


def test_tools() -> None:
    output = played(2, [("population", '{"city": "Paris"}'), ("population", '{"city": "Rome"}'), "Paris"])
    assert output["reward"] == 1.0
    assert [message["content"] for message in output["completion"] if message["role"] == "tool"] == [
        "2100000",
        "'Rome'",
    ]
    assert output["tool_defs"][0]["parameters"]["properties"]["city"]["description"] == "its name, in English"


def test_a_judge() -> None:
    judged: list[str] = []

    class Judge(Offline):
        def move(self, prompt: Any, tools: Any, state: Any) -> AssistantMessage:
            judged.append(prompt[-1]["content"])
            return AssistantMessage("Yes.")

    names: dict[str, Any] = {}
    exec(compile(PROGRAMS[3], "block 3", "exec"), names)
    env = names["load_environment"](judge_client=Judge(None))
    output = env.evaluate_sync(Script(["Five to nine, sir."]), "script")["outputs"][0]
    assert (output["reward"], output["polite"]) == (1.0, 1.0)
    assert judged == ["Asked: What time is it?\nAnswered: Five to nine, sir.\nIs that polite? yes or no"]


@pytest.mark.index
@pytest.mark.slow
def test_a_group_with_maths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder_of("math-verify[antlr4-13-2]>=0.8,<1")))
    names: dict[str, Any] = {}
    exec(compile(PROGRAMS[4], "block 4", "exec"), names)

    class Pupil(Offline):
        def move(self, prompt: Any, tools: Any, state: Any) -> AssistantMessage:
            asked = prompt[-1]["content"]
            return AssistantMessage("hello" if "hello" in asked else "It is \\boxed{0.5}.")

    outputs = names["load_environment"]().generate_sync(names["load_environment"]().get_dataset(), Pupil(None), "pupil")
    told = [(output["info"]["env_id"], output["reward"]) for output in outputs["outputs"]]
    assert told == [("maths", 0.0), ("maths", 1.0), ("maths", 0.0), ("words", 1.0)]
