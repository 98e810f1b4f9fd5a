"""Taking final answers out of texts."""

from __future__ import annotations


def extract_boxed_answer(text: str, strict: bool = False) -> str:
    r"""The content of the last `\boxed{…}`, braces balanced; without one the text itself, or "" when strict."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return "" if strict else text
    depth, begin = 1, start + len("\\boxed{")
    for position in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[begin:position]
    return "" if strict else text


def extract_hash_answer(text: str) -> str:
    """What follows the last `####`, as grade-school maths writes its answers; the text itself without one."""
    return text.rpartition("####")[2].strip() if "####" in text else text
