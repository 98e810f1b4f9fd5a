"""Boxed maths and tools as one environment, each scored by its own rubric, one of which compares the rollouts."""

import boxed_maths
import tool_user

import verifiers as vf


def longest(completions) -> list[float]:
    sizes = [sum(len(str(message["content"])) for message in completion) for completion in completions]
    return [float(size == max(sizes)) for size in sizes]


def load_environment(style="dict"):
    maths = boxed_maths.load_environment(style)
    maths.add_rubric(vf.Rubric(funcs=[longest], weights=[0.5]))
    return vf.EnvGroup([maths, tool_user.load_environment(style)], env_names=["maths", "tools"])
