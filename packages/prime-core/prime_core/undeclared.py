"""What an environment's code imports and its wheel does not require, because the official `verifiers` brings it along.

Environments were written against a library that installs `datasets`, `math-verify` and dozens of others with itself, and
many rely on that. Ours leaves them to extras, so an installation looks at the code: what it imports is installed with it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from prime_core.unzipping import open_wheel

LIBRARY = "verifiers"
BY_MODULE = {
    "anthropic": "verifiers[anthropic]",
    "datasets": "verifiers[datasets]",
    "math_verify": "verifiers[math]",
    "mcp": "verifiers[mcp]",
    "prime_sandboxes": "verifiers[sandbox]",
    "reasoning_gym": "verifiers[reasoning-gym]",
    "textarena": "verifiers[textarena]",
    "agents": "openai-agents",
    "aiohttp": "aiohttp",
    "aiolimiter": "aiolimiter",
    "huggingface_hub": "huggingface-hub",
    "jinja2": "jinja2",
    "latex2sympy2_extended": "verifiers[math]",
    "msgpack": "msgpack",
    "nest_asyncio": "nest-asyncio",
    "nltk": "nltk",
    "numpy": "numpy",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "regex": "regex",
    "requests": "requests",
    "sympy": "sympy",
    "tenacity": "tenacity",
    "textual": "textual",
    "tqdm": "tqdm",
    "wget": "wget",
    "zmq": "pyzmq",
}
"""Top-level modules that come with the official library or with what it needs, and what brings them here."""
BY_NAME = {
    "AnthropicMessagesClient": "verifiers[anthropic]",
    "GymEnv": "verifiers[gym]",
    "MCPEnv": "verifiers[mcp]",
    "MathRubric": "verifiers[math]",
    "OpenEnvEnv": "verifiers[sandbox]",
    "PythonEnv": "verifiers[sandbox]",
    "ReasoningGymEnv": "verifiers[reasoning-gym]",
    "SandboxEnv": "verifiers[sandbox]",
    "TextArenaEnv": "verifiers[textarena]",
    "load_example_dataset": "verifiers[datasets]",
}
"""Names of the library that need one of its extras."""
MOST_BYTES = 4 << 20
"""Of code longer than that nothing is read."""


def undeclared(wheel: Path, requires: Iterable[str]) -> list[str]:
    """Requirements for what the wheel's code uses and `requires`, its Requires-Dist lines, leaves out; sorted.

    Nothing for a wheel that does not require `verifiers`. Imports that the code can do without (where ImportError is
    expected, or for type checkers) do not count, nor do modules that the wheel has itself, nor the server's project in
    `proj/`. Code that is no Python is left to whoever runs it.
    """
    named: dict[str, set[str]] = {}
    for line in requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        # What belongs to an extra is not installed with the environment.
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        named.setdefault(canonicalize_name(requirement.name), set()).update(requirement.extras)
    if LIBRARY not in named:
        return []
    wanted: set[str] = set()
    own = _modules(wheel)
    for code in _code(wheel):
        for module, name in _used(code):
            top, _, below = module.partition(".")
            if top in own:
                continue
            if top == LIBRARY:
                wanted |= {BY_NAME[word] for word in (name, *below.split(".")) if word in BY_NAME}
            elif top in BY_MODULE:
                wanted.add(BY_MODULE[top])
    return sorted(one for one in wanted if not _has(named, Requirement(one)))


ALSO = {"sandbox": ("openenv",), "textarena": ("ta",), "reasoning-gym": ("rg",)}
"""Other extras that bring what one brings."""
BEHIND = {"math": "math-verify", "sandbox": "prime-sandboxes", "gym": "gymnasium"}
"""The distribution that an extra brings, where it is not of the same name."""


def _has(named: dict[str, set[str]], wanted: Requirement) -> bool:
    """Whether it is required, or the distribution behind it, whose version is then the author's choice."""
    name = canonicalize_name(wanted.name)
    if not wanted.extras:
        return name in named
    (extra,) = wanted.extras
    there = {canonicalize_name(one) for one in named.get(name, ())}
    return bool(there & {extra, "all", *ALSO.get(extra, ())}) or BEHIND.get(extra, extra) in named


def _modules(wheel: Path) -> set[str]:
    """The top-level modules that the wheel brings."""
    with open_wheel(wheel) as archive:
        paths = [PurePosixPath(entry.filename) for entry in archive.infolist()]
    return {path.parts[0].removesuffix(".py") for path in paths if path.suffix == ".py"}


def _code(wheel: Path) -> Iterator[ast.Module]:
    with open_wheel(wheel) as archive:
        for entry in archive.infolist():
            path = PurePosixPath(entry.filename)
            if path.suffix != ".py" or "proj" in path.parts[:-1] or entry.file_size > MOST_BYTES:
                continue
            try:
                yield ast.parse(archive.read(entry))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue


def _used(code: ast.Module) -> Iterator[tuple[str, str]]:
    """Every import that the code needs, as (module, name or ""), and every attribute of `verifiers` that it reads."""
    aliases: set[str] = set()
    attributes: list[ast.Attribute] = []
    left: list[ast.AST] = [code]
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            for one in node.names:
                yield one.name, ""
                if one.name.partition(".")[0] == LIBRARY:
                    aliases.add(one.asname or LIBRARY)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for one in node.names:
                yield node.module, one.name
        elif isinstance(node, ast.Attribute):
            attributes.append(node)
        if isinstance(node, ast.Try | ast.TryStar) and any(_expects_import_error(handler) for handler in node.handlers):
            left += [*node.orelse, *node.finalbody, *node.handlers]
        elif isinstance(node, ast.With) and any(_suppresses_import_error(item.context_expr) for item in node.items):
            continue
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            left += node.orelse
        else:
            left += ast.iter_child_nodes(node)
    for attribute in attributes:
        if isinstance(attribute.value, ast.Name) and attribute.value.id in aliases:
            yield LIBRARY, attribute.attr


def _expects_import_error(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or _names_import_error(handler.type)


def _suppresses_import_error(manager: ast.expr) -> bool:
    return (
        isinstance(manager, ast.Call)
        and ast.unparse(manager.func) in ("suppress", "contextlib.suppress")
        and any(map(_names_import_error, manager.args))
    )


def _names_import_error(types: ast.expr) -> bool:
    return any(
        isinstance(node, ast.Name) and node.id in ("ImportError", "ModuleNotFoundError", "Exception")
        for node in ast.walk(types)
    )
