"""Tools that get what the rollout's state holds, and that the model neither sees nor chooses."""

import pytest

import verifiers as vf
from tests.support.scripted import Scripted, said


async def look(shelf: int, library: str, closed: bool = False) -> str:
    """Looks at a shelf.

    Args:
        shelf: which one
        library: whose
    """
    if shelf > 9:
        raise vf.SandboxError(f"shelf {shelf} has fallen")
    return f"{library} {shelf}"


class Library(vf.StatefulToolEnv):
    def __init__(self, **options):
        super().__init__(dataset=[{"question": "q", "answer": "a"}], **options)
        self.add_tool(look, args_to_skip=["library", "closed"])

    async def setup_state(self, state, **kwargs):
        state["library"] = f"L{state['example_id']}"
        await super().setup_state(state, **kwargs)

    def update_tool_args(self, tool_name, tool_args, messages, state, **kwargs):
        assert messages[-1]["tool_calls"][0]["name"] == tool_name == "look"
        if tool_args.get("shelf") == 8:
            raise LookupError("no such shelf")
        return {**tool_args, "library": state["library"]}


class Asynchronous(Library):
    async def update_tool_args(self, tool_name, tool_args, messages, state, **kwargs):
        return {**tool_args, "library": "later"}


async def play(env, *turns):
    outputs = await env.generate(env.get_dataset(), Scripted(*turns), "scripted")
    return outputs["outputs"][0]


async def test_hidden_arguments_come_from_the_state():
    env = Library()
    [tool] = env.tool_defs
    assert tool.parameters["properties"] == {"shelf": {"type": "integer", "description": "which one"}}
    assert tool.parameters["required"] == ["shelf"] and tool.description == "Looks at a shelf."
    output = await play(env, [("look", {"shelf": 3}), ("look", {"shelf": 4})])
    assert said(output) == ["L0 3", "L0 4"] and output["look_calls"] == 2.0
    assert said(await play(Asynchronous(), [("look", {"shelf": 3})])) == ["later 3"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("[3]", "Expected tool arguments to be a dict, got list: [3]"),
        ({"shelf": 3, "library": "mine"}, "look() got an unexpected keyword argument 'library'"),
        ({"shelf": 8}, "no such shelf"),
        ({"shelf": 10}, "shelf 10 has fallen"),
    ],
)
async def test_what_fails_goes_back_to_the_model(given, words):
    output = await play(Library(), [("look", given)])
    assert said(output) == [words] and output["error"] is None and output["stop_condition"] == "no_tools_called"


async def test_stop_errors_end_the_rollout_scored_but_for_machines():
    rubric = vf.Rubric(funcs=[lambda completion: 0.25])
    output = await play(Library(stop_errors=[LookupError], rubric=rubric), [("look", {"shelf": 8})])
    assert (output["error"]["error"], output["reward"]) == ("ToolCallError", 0.25)
    output = await play(Library(stop_errors=[vf.InfraError], rubric=rubric), [("look", {"shelf": 10})])
    assert (output["error"]["error"], output["reward"]) == ("SandboxError", None)


async def test_a_tool_taken_away_is_forgotten():
    env = Library()
    env.remove_tool(look)
    assert env.tool_defs == [] and said(await play(env, [("look", {"library": "x"})])) == ["'look'"]
    env.add_tool(look)
    assert list(env.tool_defs[0].parameters["properties"]) == ["shelf", "library", "closed"]


def test_an_argument_that_is_not_there_cannot_be_hidden():
    sentence = (
        r"args_to_skip names 'lirbary', which is no argument of the tool 'look'; it has: shelf, library, closed\."
    )
    env = Library()
    env.remove_tool("look")
    with pytest.raises(ValueError, match=sentence):
        env.add_tool(look, args_to_skip=["lirbary"])
    assert env.tool_defs == []


def test_it_is_abstract():
    with pytest.raises(TypeError, match="update_tool_args"):
        vf.StatefulToolEnv(dataset=[{"question": "q"}])
