"""The contract: what /schema says, what the project declares, and what the server does."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any

from prime_core.checks.report import Verdict, failed, passed, skipped, warned
from verifiers.checking.case import Blocked, Case
from verifiers.checking.playing import REFUSED, Moment, take
from verifiers.openenv.schema import contract_of, schema_problem
from verifiers.utils.json_schema import first, sample
from verifiers.utils.json_schema_check import accepts

SEEDS = (1, 2, 3, 4)
MOST_TOOLS = 20
# On the wire these stand beside the observation, or nowhere.
LIFTED = frozenset({"done", "reward", "metadata"})


async def schema_invalid(case: Case) -> Verdict:
    schema = (await case.schema())["action"]
    try:
        first(schema)
    except ValueError as error:
        return failed(
            "schema-invalid",
            f"No action can be made from the schema: {error}",
            f"{case.where}, GET /schema",
            "Correct the action's schema so that something satisfies it.",
        )
    return passed()


async def contract_mismatch(case: Case) -> Verdict:
    found = contract_of((await case.schema())["action"])
    if not case.target.declared:
        return skipped("Nothing here declares a contract.", contract=found)
    for said, where in case.target.declared:
        if said != found:
            looks = "has tool_name and arguments" if found == "mcp" else "has no tool_name and arguments"
            return failed(
                "contract-mismatch",
                f"The project declares '{said}', but the running server's action schema {looks}, which is '{found}'.",
                where,
                "Run vf-build, which writes what the server speaks."
                if where.endswith(".build.json")
                else f"Correct {where}, or write 'contract: {found}' into proj/openenv.yaml.",
            )
    return passed(contract=found)


async def tools_unusable(case: Case) -> Verdict:
    moves = await case.moves()
    if moves.contract != "mcp":
        return skipped("It is a gym environment: a reply is an action, there are no tools.")
    for tool in moves.tools:
        problem = schema_problem(tool.parameters, "inputSchema")
        if problem is not None:
            return failed(
                "tools-unusable",
                f"The tool {tool.name} has no valid JSON Schema: {problem}",
                f"{case.where}, tool {tool.name}",
                "Correct the tool's inputSchema.",
            )
    for tool in moves.tools[:MOST_TOOLS]:
        async with case.playing(SEEDS[0]) as (session, episode):
            arguments = sample({"type": "object", **tool.parameters}, Random(tool.name), ())
            call = {"type": "call_tool", "tool_name": tool.name, "arguments": arguments}
            problem = _tool_problem(await take(session, episode, call, case.limits.request))
        if problem is not None:
            return failed(
                "tools-unusable",
                f"The tool {tool.name} is listed, but a call with valid arguments gives: {problem}",
                f"{case.where}, tool {tool.name}",
                "Take what the tool's inputSchema allows, or say in the schema what is taken.",
            )
    return passed(tools=len(moves.tools))


def _tool_problem(moment: Moment) -> str | None:
    if moment.code in REFUSED:
        return f"{moment.code}: {moment.text[:200]}"
    error = moment.observation.get("error") if isinstance(moment.observation, Mapping) else None
    if isinstance(error, Mapping) and error.get("error_type") in ("tool_not_found", "invalid_args", "transport_error"):
        return f"{error['error_type']}: {str(error.get('message'))[:200]}"
    return None


async def schema_lies(case: Case) -> Verdict:
    moves = await case.moves()
    if moves.contract == "mcp" and not moves.tools:
        raise Blocked("It lists no tools.")
    taken = 0
    for policy in ("first", "random"):
        for seed in SEEDS:
            episode = await case.episode(seed, policy)
            for action, moment in zip(episode.actions, episode.moments[1:], strict=True):
                taken += 1
                if moment.code in REFUSED:
                    return failed(
                        "schema-lies",
                        f"The server refuses an action that its own schema allows: {json.dumps(action)[:200]} "
                        f"({moment.code}: {moment.text[:200]})",
                        f"{case.where}, GET /schema and step",
                        "Let /schema be made from the class that step takes (Action.model_json_schema()), limits included.",
                    )
    return passed(valid_actions_taken=taken)


async def observation_unlike_schema(case: Case) -> Verdict:
    schema = await case.schema()
    later = schema.get("observation")
    if not isinstance(later, dict):
        return skipped("/schema says nothing about observations.")
    begins = schema.get("reset_observation", later)
    gym = contract_of(schema["action"]) == "gym"
    for seed in SEEDS:
        episode = await case.episode(seed)
        # The first observation of an MCP environment is no tool's, and its schema is that of tools' answers.
        for number, moment in enumerate(episode.moments):
            if moment.code is not None or (number == 0 and not gym):
                continue
            wanted = begins if number == 0 else later
            if not accepts(_on_the_wire(wanted), moment.observation, wanted):
                return warned(
                    "observation-unlike-schema",
                    f"An observation is not as its schema says: {json.dumps(moment.observation)[:200]}",
                    f"{case.where}, {'reset' if number == 0 else 'step'}",
                    "Give the observation's class the fields that are sent, with their types.",
                )
    return passed()


def _on_the_wire(schema: dict[str, Any]) -> dict[str, Any]:
    required = schema.get("required")
    if not isinstance(required, list):
        return schema
    return {**schema, "required": [name for name in required if name not in LIFTED]}


CHECKS: dict[str, Callable[[Case], Awaitable[Verdict]]] = {
    "schema-invalid": schema_invalid,
    "contract-mismatch": contract_mismatch,
    "tools-unusable": tools_unusable,
    "schema-lies": schema_lies,
    "observation-unlike-schema": observation_unlike_schema,
}
