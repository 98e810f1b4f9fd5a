"""OpenEnvEnv: chat messages on one side, an OpenEnv session on the other."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from verifiers.data import RowTable
from verifiers.decorators import cleanup, stop, teardown
from verifiers.envs.integrations.openenv_chat import (
    Renderer,
    UnparseableAction,
    parse_action,
    read_arguments,
    tool_answer,
)
from verifiers.envs.multiturn_env import MultiTurnEnv
from verifiers.errors import Error
from verifiers.openenv.edited import edited_since_build
from verifiers.openenv.errors import ActionRejected, ContractMismatch, SessionLost
from verifiers.openenv.pool import Lease, Pool, PoolOptions
from verifiers.openenv.probe import fetch_schema
from verifiers.openenv.sandbox import Patience, SandboxSource, require_sandboxes
from verifiers.openenv.schema import contract_of
from verifiers.openenv.source import ServerSource, URLSource
from verifiers.openenv.wire import JSON, RPCError, StepResult
from verifiers.rubrics.rubric import Rubric
from verifiers.types import Messages, Response, State, TimeSpan, Tool, ToolMessage, TrajectoryStep, UserMessage
from verifiers.utils.message_utils import content_text

if TYPE_CHECKING:
    from prime_core.manifest import Manifest

EPISODE_OVER = "Not called: the episode was over before."
logger = logging.getLogger("verifiers.openenv")


def sum_step_rewards(state: State) -> float:
    """The rewards of all steps of the episode, added up."""
    return float(sum(step.get("reward") or 0.0 for step in state.get("trajectory", [])))


def openenv_action_errors(state: State) -> float:
    """How many of the model's actions the server refused or nobody could read."""
    return float(state.get("openenv_action_errors", 0))


class OpenEnvEpisodicSumRubric(Rubric):
    """The default: the sum of the step rewards, as metric `sum_step_rewards` too."""

    def __init__(self, weight: float = 1.0, **kwargs: Any) -> None:
        super().__init__(funcs=[sum_step_rewards], weights=[weight], **kwargs)


class OpenEnvEnv(MultiTurnEnv):
    """Plays episodes of an OpenEnv server, gym (a reply is an action) or MCP (a tool call is an action).

    Constructing it reads the project's manifest and starts nothing. A rollout leases a session on a server of the
    project's image, resets it with the row's seed and renders the first observation; each reply is stepped at once,
    the last one included, and nothing is asked of the model after done.

    openenv_project: the project folder, relative to the calling module, else to the working directory; default: `proj`
        beside the calling module.
    prompt_renderer: required; turns an observation into chat messages, see `openenv_chat.Renderer`.
    num_train_examples, num_eval_examples, seed: rows hold the seeds seed, seed+1, …: first train, then eval.
    rubric: default OpenEnvEpisodicSumRubric.
    startup_timeout_seconds: for a server to become healthy, from the start of its process.
    startup_poll_interval_seconds: the longest pause between two health checks.
    health_request_timeout_seconds, schema_request_timeout_seconds: for one GET /health, one GET /schema.
    wait_for_creation_max_attempts, max_retries, base_delay, backoff_factor, max_backoff_seconds, jitter: how patiently
        a sandbox is asked for (seconds).
    request_timeout_seconds: for one reset or step; a session that does not answer is lost.
    reset_timeout_seconds: for one reset, where that takes longer than a step.
    reset_arguments: sent with every reset beside the seed, as JSON; servers take what their `reset` names.
    max_action_errors: this many actions in a row that the server refused or nobody could read end the episode.
    keep_state: the server's own state at the end of each episode goes into `state["openenv_state"]`.
    max_servers: never run more; what their machine bears is respected in any case.
    isolation: "session", rollouts share servers; "sandbox", every rollout gets a sandbox of its own.
    server_url: play on this server, which somebody else runs, instead of starting sandboxes.

    Raises ValueError and RuntimeError (prime_core's ProjectError), one sentence each.
    """

    def __init__(
        self,
        openenv_project: str | Path | None = None,
        num_train_examples: int = 100,
        num_eval_examples: int = 50,
        seed: int = 0,
        prompt_renderer: Callable[..., Any] | None = None,
        max_turns: int = -1,
        rubric: Rubric | None = None,
        startup_timeout_seconds: float = 30.0,
        startup_poll_interval_seconds: float = 1.0,
        health_request_timeout_seconds: float = 2.0,
        schema_request_timeout_seconds: float = 5.0,
        wait_for_creation_max_attempts: int = 20,
        max_retries: int = 5,
        base_delay: float = 0.5,
        backoff_factor: float = 2.0,
        max_backoff_seconds: float = 30.0,
        jitter: float = 1e-3,
        request_timeout_seconds: float = 60.0,
        isolation: Literal["session", "sandbox"] = "session",
        server_url: str | None = None,
        reset_timeout_seconds: float | None = None,
        reset_arguments: Mapping[str, Any] | None = None,
        max_action_errors: int = 10,
        keep_state: bool = False,
        max_servers: int | None = None,
        **kwargs: Any,
    ) -> None:
        if server_url is None:
            require_sandboxes()
        self._render = Renderer(prompt_renderer)
        if isolation not in ("session", "sandbox"):
            raise ValueError(f"isolation must be 'session' or 'sandbox', not {isolation!r}.")
        if isolation == "sandbox" and server_url is not None:
            raise ValueError("isolation='sandbox' starts servers of its own, so it does not go with server_url.")
        if num_train_examples < 0 or num_eval_examples < 0 or num_train_examples + num_eval_examples == 0:
            raise ValueError("OpenEnvEnv needs num_train_examples or num_eval_examples above 0, and neither below.")
        if "seed" in (reset_arguments or {}):
            raise ValueError("reset_arguments cannot hold `seed`: each row of the dataset has its own.")
        if max_servers is not None and max_servers < 1:
            raise ValueError(f"max_servers must be 1 or more, not {max_servers}.")
        self.reset_arguments = dict(reset_arguments or {})
        self.max_action_errors = max_action_errors
        self.keep_state = keep_state
        self._reset_timeout = None if reset_timeout_seconds is None else float(reset_timeout_seconds)
        self.openenv_project = _find_project(openenv_project, required=server_url is None)
        self.isolation = isolation
        self.contract: str | None = None
        self.action_schema: JSON | None = None
        self._manifest = _manifest(self.openenv_project, required=server_url is None)
        if self._manifest is not None:
            self.contract = self._manifest.contract
        self._server_url = None
        self._pool: Pool | None = None
        self._compared = False
        self._tools: list[Tool] | None = None
        self._options = PoolOptions(
            isolation=isolation,
            max_servers=max_servers,
            startup_timeout=float(startup_timeout_seconds),
            poll_interval=float(startup_poll_interval_seconds),
            health_timeout=float(health_request_timeout_seconds),
            request_timeout=float(request_timeout_seconds),
        )
        self._schema_timeout = float(schema_request_timeout_seconds)
        self._patience = Patience(
            wait_attempts=wait_for_creation_max_attempts,
            retries=max_retries,
            base_delay=base_delay,
            backoff_factor=backoff_factor,
            max_backoff=max_backoff_seconds,
            jitter=jitter,
        )
        train, held_out = seed + num_train_examples, seed + num_train_examples + num_eval_examples
        super().__init__(
            dataset=(lambda: _rows(seed, train)) if num_train_examples else None,
            eval_dataset=(lambda: _rows(train, held_out)) if num_eval_examples else None,
            max_turns=max_turns,
            rubric=rubric or OpenEnvEpisodicSumRubric(),
            **kwargs,
        )
        self.add_rubric(Rubric(funcs=[openenv_action_errors], weights=[0.0]))
        if server_url is not None:
            self.set_server_url(server_url)

    def set_server_url(self, url: str) -> None:
        """Play on the server at `url` from now on. Raises ValueError when that is no http address."""
        if self._pool is not None:
            raise RuntimeError("server_url can only be set before the first rollout, or after teardown.")
        URLSource(url)
        self._server_url = url
        self._tools = None
        if self._manifest is None:
            self.contract = None

    # Servers

    def server_source(self) -> ServerSource:
        """Where servers come from; override it to start them elsewhere."""
        if self._server_url is not None:
            return URLSource(self._server_url)
        assert self._manifest is not None
        return SandboxSource(self._manifest, self._patience, project=self.openenv_project)

    async def _get_pool(self) -> Pool:
        if self._pool is not None and self._pool.loop not in (None, asyncio.get_running_loop()):
            await self.stop_servers()
        if self._pool is None:
            self._pool = Pool(self.server_source(), self._options, self._check_contract)
        return self._pool

    async def _check_contract(self, url: str, client: Any) -> None:
        """The manifest's contract against what the running server says. Raises: ContractMismatch, SessionLost."""
        await self._warn_when_edited()
        schema = (await fetch_schema(client, url, self._schema_timeout))["action"]
        found = contract_of(schema)
        if self.contract is None:
            self.contract = found
        elif self.contract != found:
            what = (
                "manifest contract is 'mcp' but action schema does not match MCP tool action shape."
                if self.contract == "mcp"
                else "manifest contract is 'gym' but action schema looks like MCP."
            )
            raise ContractMismatch(
                f"OpenEnv contract mismatch: {what} Run: vf-build {self._name()} to build the image of this project "
                "and to write the contract that its server speaks."
            )
        self.action_schema = schema

    async def _warn_when_edited(self) -> None:
        """Say once when the image is not of the project as it lies here now; never fails."""
        manifest = getattr(self._pool and self._pool.source, "manifest", self._manifest)
        if self._compared or self._server_url is not None or self.openenv_project is None or manifest is None:
            return
        self._compared = True
        try:
            sentence = await asyncio.to_thread(edited_since_build, self.openenv_project, manifest)
        except Exception as error:
            logger.debug("Whether %s was edited since its build cannot be told: %s", self.openenv_project, error)
        else:
            if sentence:
                logger.warning("%s", sentence)

    def _name(self) -> str:
        from prime_core.manifest import environment_id_of

        return "<env-id>" if self.openenv_project is None else environment_id_of(self.openenv_project)

    @teardown
    async def stop_servers(self) -> None:
        """Stop every server and sandbox; the next rollout starts anew."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    # A rollout

    async def setup_state(self, state: State, **kwargs: Any) -> State:
        """Lease a session, reset it with the row's seed, render the first observation."""
        seed = state["info"].get("seed")
        pool = await self._get_pool()
        lease = await pool.begin(seed, self.reset_arguments, self._reset_timeout)
        state["openenv_lease"] = lease
        state["openenv_server"] = lease.session.shown
        state["openenv_contract"] = self.contract
        state["openenv_action_schema"] = self.action_schema
        state["openenv_action_errors"] = state["openenv_errors_in_a_row"] = 0
        state["openenv_done"] = lease.first.done
        if self.contract == "mcp":
            state["tool_defs"] = await self._list_tools(lease)
        state["prompt"] = [*state["prompt"], *await self._rendered(lease.first.observation, "reset", state, seed)]
        return state

    async def _list_tools(self, lease: Lease) -> list[Tool]:
        if self._tools is None:
            try:
                listed = await lease.session.list_tools()
            except RPCError as error:
                raise SessionLost(f"The OpenEnv server lists no tools: {error}") from error
            self._tools = [Tool(tool.name, tool.description, tool.parameters) for tool in listed]
        return list(self._tools)

    async def _rendered(self, observation: Any, context: str, state: State, seed: int | None = None) -> Messages:
        contract = state["openenv_contract"]
        return await self._render(
            observation,
            may_be_empty=context == "step" and contract == "mcp",
            context=context,
            action_schema=state["openenv_action_schema"],
            contract=contract,
            seed=seed,
        )

    async def add_model_response(self, state: State, prompt_messages: Messages, response: Response) -> None:
        """Step at once, so that the last reply within max_turns counts like every other."""
        await super().add_model_response(state, prompt_messages, response)
        step = state["trajectory"][-1]
        step["reward"] = 0.0
        lease: Lease = state["openenv_lease"]
        span = TimeSpan(start=time.time())
        state["timing"].env.spans.append(span)
        try:
            play = self._play_tools if state["openenv_contract"] == "mcp" else self._play_action
            state["openenv_next"] = await play(lease, state, step, response)
        except SessionLost as error:
            raise await lease.pool.explain(lease, error) from error
        finally:
            span.end = time.time()

    async def _play_action(self, lease: Lease, state: State, step: TrajectoryStep, response: Response) -> Messages:
        try:
            action = parse_action(content_text(response.message.get("content")), state["openenv_action_schema"])
            result = await lease.session.step(action)
        except (UnparseableAction, ActionRejected) as error:
            return [UserMessage(_refused(state, step, error))]
        _record(state, step, result)
        return await self._rendered(result.observation, "step", state)

    async def _play_tools(self, lease: Lease, state: State, step: TrajectoryStep, response: Response) -> Messages:
        answers: Messages = []
        pictures: list[JSON] = []
        last: StepResult | None = None
        for call in response.message.get("tool_calls") or ():
            text = EPISODE_OVER
            if not state["openenv_done"]:
                try:
                    last = await lease.session.step(
                        {"type": "call_tool", "tool_name": call.name, "arguments": read_arguments(call.arguments)}
                    )
                    _record(state, step, last)
                    text, shown = tool_answer(last.observation)
                    pictures += shown
                except (UnparseableAction, ActionRejected) as error:
                    text = _refused(state, step, error)
            answers.append(ToolMessage(text, tool_call_id=call.id))
        if pictures:
            answers.append(UserMessage(pictures))
        return answers if last is None else [*answers, *await self._rendered(last.observation, "step", state)]

    async def env_response(self, messages: Messages, state: State, **kwargs: Any) -> Messages:
        """What the step that was already taken has shown."""
        return state.pop("openenv_next", [])

    @stop(priority=10)
    async def openenv_done(self, state: State) -> bool:
        """The episode is over."""
        return bool(state.get("openenv_done", False))

    @stop
    async def too_many_action_errors(self, state: State) -> bool:
        """The model does not find back to valid actions."""
        return state.get("openenv_errors_in_a_row", 0) >= self.max_action_errors > 0

    @stop
    async def mcp_no_tool_calls(self, state: State) -> bool:
        """The model has called no tool, so nothing more will happen."""
        if state.get("openenv_contract") != "mcp" or not state["trajectory"]:
            return False
        return not state["trajectory"][-1]["completion"][-1].get("tool_calls")

    @cleanup(priority=200)
    async def keep_last_observation(self, state: State) -> None:
        """What the last step has shown belongs to the conversation although no model call follows."""
        shown = state.pop("openenv_next", None)
        if shown and state.get("final_env_response") is None:
            state["final_env_response"] = shown

    def _nothing_in_time(self, state: State) -> Error:
        """A rollout whose time was over before its episode had begun says nothing about the model."""
        if state["timing"].setup.end:
            return super()._nothing_in_time(state)
        return SessionLost(
            f"No episode had begun after {self.timeout_seconds:g} s (timeout_seconds): its server was still starting or "
            "resetting, or every server was full. Run fewer rollouts at once, or allow more time."
        )

    @cleanup(priority=50)
    async def keep_server_state(self, state: State) -> None:
        """With keep_state, what the server knows at the end, for rubrics."""
        if self.keep_state:
            state["openenv_state"] = await self.server_state(state)

    async def server_state(self, state: State) -> JSON | None:
        """The server's state of the running episode, as it serialises it; None when there is none to be had."""
        lease = state.get("openenv_lease")
        if lease is None or lease.session.lost:
            return None
        try:
            return await lease.session.state()
        except (ActionRejected, SessionLost) as error:
            logger.warning("The server's state could not be had: %s", error)
            return None

    @cleanup
    async def release_session(self, state: State) -> None:
        """Give the session back."""
        lease = state.pop("openenv_lease", None)
        if lease is not None:
            await lease.pool.end(lease)


def _rows(start: int, end: int) -> RowTable:
    return RowTable({"info": {"seed": seed}} for seed in range(start, end))


def _record(state: State, step: TrajectoryStep, result: StepResult) -> None:
    """Take a result up: the reward as a number (several tool calls add up), everything as sent in the extras."""
    step["reward"] = (step["reward"] or 0.0) + float(result.reward or 0.0)
    sent = {"reward": result.reward, "done": result.done, "metadata": result.metadata, "info": result.info}
    step["extras"].setdefault("openenv", []).append(sent)
    state["openenv_done"] = result.done
    state["openenv_errors_in_a_row"] = 0


def _refused(state: State, step: TrajectoryStep, error: UnparseableAction | ActionRejected) -> str:
    """Count the model's mistake; the text for the model."""
    state["openenv_action_errors"] += 1
    state["openenv_errors_in_a_row"] += 1
    code = error.code if isinstance(error, ActionRejected) else "UNPARSEABLE"
    step["extras"].setdefault("openenv", []).append({"error": str(error), "code": code})
    if code.startswith("HTTP_"):
        return f"Error: The action was not taken (HTTP {code.removeprefix('HTTP_')}): {error}"
    return f"Error: {error}"


def _find_project(given: str | Path | None, *, required: bool) -> Path | None:
    """The project folder: absolute as given, else beside the calling module, else in the working directory."""
    wanted = Path("proj" if given is None else given).expanduser()
    places = [wanted] if wanted.is_absolute() else [place / wanted for place in (*_caller_folders(), Path.cwd())]
    for place in places:
        if place.is_dir():
            return place.resolve()
    if required or given is not None:
        raise ValueError(f"OpenEnvEnv requires a local OpenEnv project directory. Got: {places[0]}")
    return None


def _caller_folders() -> list[Path]:
    """The folder of the module that constructs the environment, and the one that holds its package; nothing for code
    typed at a prompt."""
    frame = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith("verifiers."):
        frame = frame.f_back
    name = None if frame is None else frame.f_globals.get("__file__")
    if not name:
        return []
    folder = Path(name).resolve().parent
    return [folder, folder.parent] if (folder / "__init__.py").is_file() else [folder]


def _manifest(project: Path | None, *, required: bool) -> Manifest | None:
    from prime_core.manifest import load_manifest, manifest_path

    if project is None or (not required and not manifest_path(project).exists()):
        return None
    return load_manifest(project)
