"""Run a reservoir for a year: share water between a town and its farms, before the drought and the flood."""

from typing import Any

import verifiers as vf
from verifiers.envs.integrations.openenv_env import OpenEnvEnv

SYSTEM_PROMPT = """You run a reservoir for a year, month by month. Water is counted in million cubic metres.

Each month its inflow reaches the reservoir first. Then your water goes out: to the town, then to the farms. What would \
stand above the dam after that is lost and floods the valley. You see this month and the two after it exactly as they \
will be, and nothing of what follows; summers are dry and their farms thirsty, springs are wet.

A month is worth up to 1/12: 60 % of it for the town and 40 % for the farms, each by the share of the need that you meet; \
more than the need counts nothing. Of what a month was worth, 5 % is lost for every unit that floods the valley.

Answer with a JSON object: {"town": 8, "farms": 12}, whole numbers from 0 to 40. Think first if you like; the JSON object \
comes last, in a code block."""


def render(observation: dict[str, Any], **kwargs: Any) -> list[dict[str, str]]:
    """The report on the last month and the numbers of the next three, as one user message."""
    seen = observation
    lines = [seen["report"]] if seen["report"] else []
    lines.append(f"It is {seen['month']}. The reservoir holds {seen['level']} of {seen['capacity']}.")
    for name, numbers in (("Inflow", "inflow"), ("Need of the town", "town"), ("Need of the farms", "farms")):
        if seen[numbers]:
            now, *later = map(str, seen[numbers])
            lines.append(f"{name}: {now}" + (f", then {', '.join(later)}" if later else "") + ".")
    return [{"role": "user", "content": "\n".join(lines)}]


def load_environment(
    num_train_examples: int = 100,
    num_eval_examples: int = 50,
    seed: int = 0,
    max_turns: int = 16,
    **kwargs: Any,
) -> vf.Environment:
    """Build the environment; further arguments go to OpenEnvEnv."""
    return OpenEnvEnv(
        openenv_project="./proj",
        prompt_renderer=render,
        num_train_examples=num_train_examples,
        num_eval_examples=num_eval_examples,
        seed=seed,
        max_turns=max_turns,
        system_prompt=SYSTEM_PROMPT,
        **kwargs,
    )
