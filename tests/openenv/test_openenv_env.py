"""OpenEnvEnv's rollouts against real servers: the seed's own, verbatim, and one that speaks openenv-core's protocol."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import verifiers as vf
from prime_core.context import context_digest
from verifiers.envs.integrations.openenv_env import OpenEnvEnv
from verifiers.evaluation.policies import Policy
from verifiers.openenv.errors import ContractMismatch, SessionLost

HERE = Path(__file__).parent
RENDERERS: dict[str, Any] = {}
exec((HERE / "seed" / "renderers.txt").read_text(), RENDERERS)  # the seed's three renderers, verbatim


class Script(Policy):
    """A model that says what it is told to, turn by turn: text, or (tool, arguments) pairs."""

    def __init__(self, *turns: Any) -> None:
        super().__init__()
        self.turns = list(turns)
        self.asked: list[Any] = []
        self.tools: Sequence[vf.Tool] = ()

    def answer(self, prompt, tools, action_schema, rng) -> vf.AssistantMessage:
        turn = self.turns[len(self.asked) % len(self.turns)]
        self.asked.append(list(prompt))
        self.tools = tools
        if isinstance(turn, str):
            return vf.AssistantMessage(turn)
        calls = [
            vf.ToolCall(f"call_{number}", name, arguments if isinstance(arguments, str) else json.dumps(arguments))
            for number, (name, arguments) in enumerate(turn)
        ]
        return vf.AssistantMessage(None, tool_calls=calls)


def takes_nothing():
    return []


def as_text(observation, **kwargs):
    return [{"role": "user", "content": json.dumps(observation)}]


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """A project folder with a manifest, as `vf-build` leaves it."""

    def make(contract: str = "gym", **changes: Any) -> Path:
        folder = tmp_path / "environments" / "my_game" / "proj"
        folder.mkdir(parents=True, exist_ok=True)
        manifest = {
            "image": "registry.prime.box/my-game:latest",
            "port": 8000,
            "start_command": "x",
            "contract": contract,
        }
        (folder / ".build.json").write_text(json.dumps({**manifest, **changes}))
        return folder

    return make


@pytest.fixture
async def environment(serve, project):
    """`environment("counter", "gym", …)`: an OpenEnvEnv whose servers are children of the test."""
    made = []

    def make(server: str, contract: str = "gym", prompt_renderer: Any = as_text, isolation="session", **options: Any):
        env_vars = {key: options.pop(key) for key in ("CAPACITY", "MCP") if key in options}
        source = serve(server, **env_vars)

        class Here(OpenEnvEnv):
            def server_source(self):
                return source

        changes = {key: options.pop(key) for key in ("context_digest",) if key in options}
        env = Here(project(contract, **changes), prompt_renderer=prompt_renderer, isolation=isolation, **options)
        env.source = source
        made.append(env)
        return env

    yield make
    for env in made:
        await env._teardown()
        assert not env.source.alive


async def play(env: OpenEnvEnv, client: Policy, seed: int = 1, **row: Any) -> vf.State:
    state = await env.rollout({"info": {"seed": seed}, "example_id": seed, "prompt": [], **row}, client, "scripted")
    await env.score([state])
    return state


def contents(messages) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages]


async def test_a_gym_episode_is_played_to_its_end(environment):
    env = environment("counter")
    model = Script('{"move": "up"}', '```json\n{"move": "up"}\n```', 'Let me see.\n```json\n{"move": "up"}\n```')
    state = await play(env, model, seed=7)
    assert contents(state["prompt"]) == [("user", '{"seed": 7, "count": 0}')]
    assert state["error"] is None and state["reward"] == 3.0 and state["stop_condition"] == "openenv_done"
    assert state["metrics"] == {"sum_step_rewards": 3.0, "num_turns": 3.0, "openenv_action_errors": 0.0}
    assert len(model.asked) == 3, "no model call after done"
    assert contents(state["completion"])[-1] == ("user", '{"seed": 7, "count": 3}')
    assert [role for role, _ in contents(state["completion"])] == ["assistant", "user"] * 3
    first = state["trajectory"][0]
    assert len(state["timing"].env.spans) >= 3 and state["timing"].env.duration > 0
    assert first["reward"] == 1.0 and first["extras"]["openenv"][0]["metadata"]["pid"]


async def test_the_last_action_within_max_turns_counts(environment):
    env = environment("counter", max_turns=2)
    state = await play(env, model := Script('{"move": "up"}'))
    assert len(model.asked) == 2 and state["reward"] == 2.0
    assert state["stop_condition"] == "max_turns_reached"
    assert contents(state["completion"])[-1] == ("user", '{"seed": 1, "count": 2}')


async def test_a_bare_text_is_the_one_string_field(environment):
    env = environment("counter", max_turns=1)
    state = await play(env, Script("  up "))
    assert state["reward"] == 1.0


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ('{"move": "sideways"}', "Error: move: 'sideways' is not a move"),
        ('{"move": "crash"}', "Error: the abacus fell over"),
        ("", "Error: Failed to parse action JSON. Provide a JSON object matching the action schema. Action schema: {"),
    ],
)
async def test_a_bad_action_is_the_models_turn(environment, reply, told):
    env = environment("counter", max_turns=2)
    state = await play(env, model := Script(reply, '{"move": "up"}'))
    assert state["error"] is None and state["reward"] == 1.0 and state["metrics"]["openenv_action_errors"] == 1.0
    role, text = contents(model.asked[1])[-1]
    assert role == "user" and text.startswith(told)
    assert [step["reward"] for step in state["trajectory"]] == [0.0, 1.0]


async def test_http_500_is_the_models_turn(environment):
    env = environment("seed_gym", prompt_renderer=RENDERERS["render_gym_prompt"], max_turns=2)
    state = await play(env, model := Script("left", "1"))
    assert contents(model.asked[1])[-1] == ("user", "Error: The action was not taken (HTTP 500): Internal Server Error")
    assert state["reward"] == 1.0 and state["metrics"]["openenv_action_errors"] == 1.0


@pytest.mark.parametrize("move", ["die", "nonsense", "hang"])
async def test_a_lost_session_is_unscored_and_the_others_go_on(environment, move):
    env = environment("counter", CAPACITY="1", request_timeout_seconds=0.5)
    bad, good = await asyncio.gather(
        play(env, Script(json.dumps({"move": move})), 1), play(env, Script('{"move": "up"}'), 2)
    )
    assert isinstance(bad["error"], SessionLost) and isinstance(bad["error"], vf.SandboxError)
    assert bad["reward"] is None and good["reward"] == 3.0
    if move == "die":
        assert "somebody pulled the plug" in str(bad["error"]) and "exit code 9" in str(bad["error"])
    again = await play(env, Script('{"move": "up"}'), 1)
    assert again["reward"] == 3.0


async def test_a_timeout_ends_the_rollout_and_frees_the_session(environment):
    env = environment("counter", timeout_seconds=20.0)
    await play(env, Script('{"move": "up"}'))
    env.timeout_seconds = 1.0
    state = await play(env, Script('{"move": "hang"}'))
    assert state["stop_condition"] == "timeout_reached" and state["error"] is None
    env.timeout_seconds = 20.0
    assert (await play(env, Script('{"move": "up"}'), 5))["reward"] == 3.0
    assert len(env.source.children) == 1


async def test_the_seeds_gym_server_and_renderers(environment):
    for name in ("render_prompt", "render_gym_prompt"):
        env = environment("seed_gym", prompt_renderer=RENDERERS[name])
        one, two = await play(env, Script("0"), 3), await play(env, Script("1"), 3)
        assert one["prompt"] == two["prompt"] != (await play(env, Script("1"), 4))["prompt"]
        assert 6 <= two["reward"] <= 12 and two["stop_condition"] == "openenv_done"
        assert len(env.source.children) == 1


async def test_the_seeds_mcp_server_and_renderer(environment):
    env = environment("seed_mcp", "mcp", prompt_renderer=RENDERERS["render_mcp_prompt"])
    model = Script([("make_move", {"move": "3"})], [("make_move", {"move": "2"}), ("make_move", {"move": "1"})])
    state = await play(env, model, seed=2)
    assert state["error"] is None and state["reward"] == 1.0 and state["stop_condition"] == "openenv_done"
    assert contents(state["prompt"]) == [
        ("user", "Game started. State: {'total': 2, 'goal': 7, 'moves': ['1', '2', '3']}")
    ]
    assert [tool.name for tool in model.tools] == ["make_move"]
    assert model.tools[0].parameters["required"] == ["move"]
    assert [role for role, _ in contents(state["completion"])] == ["assistant", "tool", "assistant", "tool", "tool"]
    assert contents(state["completion"])[-1] == ("tool", "Not called: the episode was over before.")
    assert json.loads(contents(state["completion"])[1][1]) == {"total": 5, "reward": 0.0, "game_over": False}


async def test_mcp_over_websocket(environment):
    env = environment("counter", "mcp", MCP="1", prompt_renderer=RENDERERS["render_mcp_prompt"])
    model = Script([("count", {"move": "up"}), ("count", {"move": "up"})], [("no_such", {})], "I have had enough.")
    state = await play(env, model, seed=4)
    assert state["error"] is None and state["stop_condition"] == "mcp_no_tool_calls"
    assert state["reward"] == 2.0 and [step["reward"] for step in state["trajectory"]] == [2.0, 0.0, 0.0]
    tools = [text for role, text in contents(state["completion"]) if role == "tool"]
    assert tools == ['{"seed": 4, "count": 1}', '{"seed": 4, "count": 2}', "Error: no such tool"]
    assert [message["tool_call_id"] for message in state["completion"] if message["role"] == "tool"][:2] == [
        "call_0",
        "call_1",
    ]


async def test_bad_arguments_of_a_tool_call_are_the_models_turn(environment):
    env = environment("counter", "mcp", MCP="1", prompt_renderer=RENDERERS["render_mcp_prompt"], max_turns=3)
    state = await play(env, Script([("count", "{not json")], [("count", "[1]")], [("count", {"move": "crash"})]))
    tools = [text for role, text in contents(state["completion"]) if role == "tool"]
    assert tools[0].startswith("Error: The tool call's arguments are not valid JSON")
    assert tools[1:] == ["Error: The tool call's arguments must be a JSON object.", "Error: the abacus fell over"]
    assert state["error"] is None and state["metrics"]["openenv_action_errors"] == 3.0


async def test_a_renderer_of_messages_on_mcp_steps(environment):
    env = environment("counter", "mcp", MCP="1", prompt_renderer=RENDERERS["render_prompt"], max_turns=1)
    state = await play(env, Script([("count", {"move": "up"})]))
    assert [role for role, _ in contents(state["completion"])] == ["assistant", "tool", "user"]


async def test_a_custom_rubric_sees_the_last_step(environment):
    async def final_score(state: vf.State) -> float:
        """Use only the final step reward."""
        trajectory = state.get("trajectory", [])
        if not trajectory:
            return 0.0
        return float(trajectory[-1].get("reward", 0.0))

    env = environment("counter", rubric=vf.Rubric(funcs=[final_score]))
    state = await play(env, Script('{"move": "up"}'))
    assert state["reward"] == 1.0 and state["metrics"]["openenv_action_errors"] == 0.0


async def test_the_renderer_gets_the_context_it_asks_for(environment):
    seen = []

    async def render(observation, *, context, action_schema, contract, seed):
        seen.append((context, action_schema["required"], contract, seed))
        return [{"role": "user", "content": str(observation)}]

    await play(environment("counter", prompt_renderer=render, max_turns=1), Script('{"move": "up"}'), seed=9)
    assert seen == [("reset", ["move"], "gym", 9), ("step", ["move"], "gym", None)]


async def test_a_system_prompt_comes_first(environment):
    env = environment("counter", system_prompt="Count.", max_turns=1, num_eval_examples=1)
    (row,) = env.get_eval_dataset()
    state = await env.rollout(row, Script('{"move": "up"}'), "scripted")
    assert contents(state["prompt"]) == [("system", "Count."), ("user", '{"seed": 100, "count": 0}')]


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (None, "OpenEnv prompt_renderer returned invalid output for reset: expected a non-empty chat messages list."),
        ("", "OpenEnv prompt_renderer returned invalid output for reset: expected a non-empty chat messages list."),
        ([], "OpenEnv prompt_renderer returned an empty messages list for reset."),
        (["hello"], "OpenEnv prompt_renderer returned unsupported message type for reset: str."),
        (
            [{"role": "user", "content": "a"}, {"role": "user", "content": None}],
            "OpenEnv prompt_renderer returned a message with null content for reset at index 1.",
        ),
        ([{"content": "a"}], "OpenEnv prompt_renderer returned a message that is none for reset at index 0: "),
    ],
)
async def test_what_a_renderer_may_not_return(environment, returned, sentence):
    env = environment("counter", prompt_renderer=lambda observation: returned)
    state = await play(env, Script("up"))
    assert str(state["error"]).startswith(sentence)
    assert state["reward"] is None and not isinstance(state["error"], vf.InfraError)


async def test_a_renderer_that_fails_on_steps(environment):
    def render(observation, context, **kwargs):
        return [{"role": "user", "content": "go"}] if context == "reset" else []

    state = await play(environment("counter", prompt_renderer=render), Script('{"move": "up"}'))
    assert str(state["error"]) == "OpenEnv prompt_renderer returned an empty messages list for step."

    def broken(observation, context):
        return [{"role": "user", "content": observation["nothing" if context == "step" else "seed"]}]

    state = await play(environment("counter", prompt_renderer=broken), Script('{"move": "up"}'))
    assert (
        str(state["error"])
        == "OpenEnv prompt_renderer raised KeyError for step: 'nothing' (the observation has 'seed', 'count')"
    )
    assert state["reward"] is None


@pytest.mark.parametrize(
    ("renderer", "sentence"),
    [
        (None, "OpenEnvEnv requires `prompt_renderer`. Define a renderer in your environment module that converts"),
        ("text", "OpenEnvEnv requires `prompt_renderer` to be a function, not str"),
        (takes_nothing, "OpenEnvEnv `prompt_renderer` takes no observation"),
        (lambda context, seed: [], "OpenEnvEnv `prompt_renderer` takes no observation"),
        (lambda observation, board: [], "OpenEnvEnv `prompt_renderer` requires `board`, which it is not given"),
    ],
)
def test_renderers_that_can_never_work(project, renderer, sentence):
    with pytest.raises(ValueError) as caught:
        OpenEnvEnv(project(), prompt_renderer=renderer)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("server", "manifest", "sentence"),
    [
        ("seed_gym", "mcp", "contract is 'mcp' but action schema does not match MCP tool action shape."),
        ("seed_mcp", "gym", "contract is 'gym' but action schema looks like MCP."),
    ],
)
async def test_the_manifest_is_held_against_the_running_server(environment, server, manifest, sentence):
    env = environment(server, manifest)
    state = await play(env, Script("1"))
    assert isinstance(state["error"], ContractMismatch) and state["reward"] is None
    assert str(state["error"]).startswith(f"OpenEnv contract mismatch: manifest {sentence} Run: vf-build my-game ")


async def test_a_server_that_already_runs(running, project):
    url = running("seed_mcp")
    env = OpenEnvEnv(project("mcp").parent, prompt_renderer=RENDERERS["render_mcp_prompt"], server_url=url)
    state = await play(env, Script([("make_move", {"move": "3"})]), seed=4)
    assert env.contract == "mcp" and state["reward"] == 1.0 and state["openenv_server"] == url
    with pytest.raises(RuntimeError, match="before the first rollout"):
        env.set_server_url(url)
    await env._teardown()


def test_seeds_are_rows_and_nothing_is_started(project):
    env = OpenEnvEnv(project(), 3, 2, 10, as_text)
    assert [row["info"]["seed"] for row in env.get_dataset()] == [10, 11, 12]
    assert [row["info"]["seed"] for row in env.get_eval_dataset()] == [13, 14]
    only_train = OpenEnvEnv(project(), num_train_examples=2, num_eval_examples=0, prompt_renderer=as_text)
    assert [row["info"]["seed"] for row in only_train.get_eval_dataset()] == [0, 1]
    with pytest.raises(ValueError, match="num_train_examples or num_eval_examples above 0"):
        OpenEnvEnv(project(), num_train_examples=0, num_eval_examples=0, prompt_renderer=as_text)
    with pytest.raises(ValueError, match="isolation must be 'session' or 'sandbox', not 'none'"):
        OpenEnvEnv(project(), prompt_renderer=as_text, isolation="none")


def test_where_the_project_is_looked_for(project, tmp_path, monkeypatch):
    folder = project()
    module = folder.parent / "my_game.py"
    module.write_text(
        "from verifiers.envs.integrations.openenv_env import OpenEnvEnv\n"
        "def load(**kwargs):\n    return OpenEnvEnv(prompt_renderer=str, **kwargs)\n"
    )
    namespace = {"__name__": "my_game", "__file__": str(module)}
    exec(compile(module.read_text(), str(module), "exec"), namespace)
    for arguments in ({}, {"openenv_project": "./proj"}, {"openenv_project": folder}):
        assert namespace["load"](**arguments).openenv_project == folder
    monkeypatch.chdir(folder.parent)
    assert OpenEnvEnv("./proj", prompt_renderer=str).openenv_project == folder
    with pytest.raises(ValueError, match=r"OpenEnvEnv requires a local OpenEnv project directory\. Got: .*/nowhere"):
        namespace["load"](openenv_project="nowhere")
    (folder / ".build.json").unlink()
    with pytest.raises(RuntimeError, match=r"OpenEnv project is missing \.build\.json\. Run: vf-build my-game"):
        namespace["load"]()


@pytest.fixture
def built(project) -> Path:
    """A project as `vf-build` leaves it: sources, and a manifest that was written after them."""
    folder = project()
    (folder / "Dockerfile").write_text('FROM python:3.11-slim\nEXPOSE 8000\nCMD ["uvicorn", "server:app"]\n')
    (folder / "server.py").write_text("from fastapi import FastAPI\n\napp = FastAPI()\n")
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    return folder


async def played_on(env, caplog) -> list[str]:
    """The warnings of two whole episodes."""
    states = [await play(env, Script('{"move": "up"}'), seed) for seed in (1, 2)]
    assert [state["reward"] for state in states] == [3.0, 3.0]
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


async def test_an_edited_project_is_said_once_and_played(environment, built, caplog):
    env = environment("counter", context_digest=context_digest(built))
    (built / "server.py").write_text("edited = True\n")
    assert not caplog.records, "nothing is compared at construction"
    (said,) = await played_on(env, caplog)
    assert said == (
        f"The image of {built} was built before its last changes (server.py) and is played as it was; "
        "to play them: vf-build my-game"
    )
    await env._teardown()
    caplog.clear()
    assert await played_on(env, caplog) == [], "a second set of servers says nothing more"


@pytest.mark.parametrize("case", ["as built", "no digest", "cannot be read", "installed"])
async def test_nothing_is_said_and_nothing_fails(environment, built, caplog, case):
    digest = None if case == "no digest" else context_digest(built)
    env = environment("counter", **({"context_digest": digest} if digest else {}))
    if case != "as built":
        (built / "server.py").write_text("edited = True\n")
    if case == "cannot be read":
        (built / "Dockerfile").unlink()
    if case == "installed":
        copy = built.parents[2] / "lib" / "site-packages" / "my_game" / "proj"
        shutil.copytree(built, copy)
        env.openenv_project = copy
    assert await played_on(env, caplog) == []


async def test_reset_arguments_go_along_with_the_seed(environment):
    env = environment("counter", reset_arguments={"start": 2}, max_turns=1)
    state = await play(env, Script('{"move": "up"}'), seed=4)
    assert contents(state["prompt"]) == [("user", '{"seed": 4, "count": 2}')]
    with pytest.raises(ValueError, match="reset_arguments cannot hold `seed`"):
        environment("counter", reset_arguments={"seed": 1})


async def test_a_model_that_never_makes_sense_is_stopped(environment):
    env = environment("counter", max_action_errors=3)
    state = await play(env, model := Script('{"move": "up"}', "no", "no", '{"move": "up"}', "no", "no", "no", "no"))
    assert state["stop_condition"] == "too_many_action_errors" and len(model.asked) == 7
    assert state["reward"] == 2.0 and state["metrics"]["openenv_action_errors"] == 5.0


async def test_the_servers_state_at_the_end(environment):
    env = environment("counter", keep_state=True, max_turns=2)
    state = await play(env, Script('{"move": "up"}'))
    assert state["openenv_state"] == {"count": 2}
    lost = await play(env, Script('{"move": "die"}'))
    assert lost["openenv_state"] is None and lost["reward"] is None


async def test_a_reset_may_take_longer_than_a_step(environment):
    env = environment("counter", request_timeout_seconds=0.25, reset_timeout_seconds=20, max_turns=1)
    env.reset_arguments = {"pause": 0.5}
    state = await play(env, Script('{"move": "up"}'))
    assert state["error"] is None and state["reward"] == 1.0
    late = await play(env, Script('{"move": "slow"}'))
    assert "did not answer within 0.25 s" in str(late["error"])


async def test_a_server_of_somebody_elses_that_goes_away(serve, project, monkeypatch):
    child = serve("counter").spawn()
    url = child.url.replace("http://", "http://me:hidden@")
    env = OpenEnvEnv(project(), prompt_renderer=as_text, server_url=url)
    monkeypatch.setattr("verifiers.openenv.pool.AWAY", 30.0)
    try:
        first = await play(env, Script('{"move": "up"}'))
        assert first["reward"] == 3.0 and first["openenv_server"] == child.url
        monkeypatch.setattr("verifiers.openenv.pool.AWAY", 0.5)
        died = await play(env, Script('{"move": "die"}'))
        gone = await asyncio.gather(*(play(env, Script('{"move": "up"}'), seed) for seed in range(4)))
    finally:
        await env._teardown()
    for state in (died, *gone):
        assert state["reward"] is None and "hidden" not in str(state["error"])
    assert f"No OpenEnv server answers at {child.url}: " in str(gone[-1]["error"])
