"""The environment's own side: its renderer in both contexts, and whole rollouts, scored by its rubric."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from prime_core.checks.report import Verdict, failed, passed, skipped
from verifiers.checking import loading
from verifiers.checking.case import Blocked, Case

PLACE = "prompt_renderer"
NO_RENDERER = "It is no OpenEnv environment, so it has no renderer."


async def renderer_reset(case: Case) -> Verdict:
    return await _rendered(case, "reset", "the first observation")


async def renderer_step(case: Case) -> Verdict:
    return await _rendered(case, "step", "an observation after a step")


async def _rendered(case: Case, context: str, shown: str) -> Verdict:
    if not case.target.has_project and (case.target.folder or case.target.module):
        return skipped(NO_RENDERER)
    played = (await loading.rollouts(case)).of("rollout")
    wrong = [item for item in played if _of_renderer(item, context)]
    if wrong:
        return failed(
            f"renderer-{context}",
            f"The renderer fails on {shown}: {wrong[0]['error']}",
            PLACE,
            'Return a list of messages, like [{"role": "user", "content": "…"}], for every observation that the server '
            f"sends; context is {context!r} here.",
        )
    if context == "step" and not any(item["turns"] and not item["kinds"] for item in played):
        raise Blocked("No rollout came as far as a step.")
    return passed()


def _of_renderer(item: dict[str, Any], context: str) -> bool:
    return "RendererError" in item["kinds"] and f" for {context}" in item["error"]


async def rollout_fails(case: Case) -> Verdict:
    told = await loading.rollouts(case)
    played = told.of("rollout")
    others = [item for item in played if item["kinds"] and "RendererError" not in item["kinds"]]
    faults = [item for item in others if not loading.NOT_ITS_FAULT.intersection(item["kinds"])]
    if faults:
        return failed(
            "rollout-fails",
            f"A rollout with baseline/{faults[0]['policy']} fails with {faults[0]['kinds'][0]}: {faults[0]['error']}",
            "the environment or its rubric",
            "Correct it; 'prime eval run NAME -m baseline/random -v' shows where it comes from.",
        )
    if others:
        raise Blocked(f"It could not be played here: {others[0]['kinds'][0]}: {others[0]['error']}")
    scored = [item for item in played if item["reward"] is not None]
    if not scored:
        raise Blocked(
            "No rollout was scored; the renderer's own checks say why."
            if played
            else f"No rollout came to its end ({told.ended})."
        )
    elsewhere = () if case.target.has_project else loading.unusable(told)  # told by reward-not-finite
    complaints = [item["error"] for item in told.of("rubric") if item["error"] not in elsewhere]
    if complaints:
        return failed(
            "rollout-fails",
            f"The rubric scores 0 where a reward function fails. {complaints[0]}",
            "the rubric",
            "Let every reward function bear any reply, and give a finite number.",
        )
    return passed(rollouts=len(scored))


CHECKS: dict[str, Callable[[Case], Awaitable[Verdict]]] = {
    "renderer-reset": renderer_reset,
    "renderer-step": renderer_step,
    "rollout-fails": rollout_fails,
}
