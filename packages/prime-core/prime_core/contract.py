"""Which contract an OpenEnv server speaks, read from its source without running it.

openenv-core servers are made by `create_app` or `create_fastapi_app`, given the action and observation classes: the
MCP ones are CallToolAction and CallToolObservation. Plain FastAPI servers (the form the seed shows) are MCP when they
answer POST /mcp or read `tool_name` in /step.
"""

from __future__ import annotations

import ast
from pathlib import Path

from prime_core.errors import ProjectError

FACTORIES = frozenset({"create_app", "create_fastapi_app"})
MCP_CLASSES = frozenset({"CallToolAction", "CallToolObservation"})


def detect(app_file: Path) -> str:
    """`gym` or `mcp`. Raises ProjectError when the file cannot be parsed or shows neither kind of server."""
    try:
        tree = ast.parse(app_file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"{app_file} cannot be read: {error}.") from None
    except SyntaxError as error:
        raise ProjectError(f"{app_file}, line {error.lineno}: {error.msg}.") from None
    origins = _origins(tree)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and origins(_name(node.func)) & FACTORIES]
    if calls:
        given = [argument for call in calls for argument in (*call.args, *(item.value for item in call.keywords))]
        return "mcp" if any(origins(_name(argument)) & MCP_CLASSES for argument in given) else "gym"
    routes = _post_routes(tree)
    if "/mcp" in routes or any(_mentions(function, "tool_name") for function in routes.get("/step", [])):
        return "mcp"
    if "/step" in routes:
        return "gym"
    raise ProjectError(
        f"Could not detect OpenEnv contract: {app_file} neither calls create_app(...) or create_fastapi_app(...) "
        "nor answers POST /step.",
        "Write the server there, or name the contract in openenv.yaml ('contract: gym' or 'contract: mcp').",
    )


def _name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


class _origins:
    """What a name of this file may stand for: itself, what it was imported as, and the classes it derives from."""

    def __init__(self, tree: ast.AST) -> None:
        self._parents: dict[str, set[str]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self._parents.setdefault(alias.asname or alias.name, set()).add(alias.name)
            elif isinstance(node, ast.ClassDef):
                bases = {name for base in node.bases if (name := _name(base))}
                self._parents.setdefault(node.name, set()).update(bases)
            elif isinstance(node, ast.Assign) and (value := _name(node.value)):
                for target in node.targets:
                    if name := _name(target):
                        self._parents.setdefault(name, set()).add(value)

    def __call__(self, name: str | None) -> set[str]:
        found: set[str] = set()
        left = [name] if name else []
        while left:
            current = left.pop()
            if current not in found:
                found.add(current)
                left.extend(self._parents.get(current, ()))
        return found


def _post_routes(tree: ast.AST) -> dict[str, list[ast.AST]]:
    """Path → functions, of `@anything.post("/path")` and `@anything.api_route("/path", methods=["POST"])`."""
    routes: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for decorator in node.decorator_list:
            if not isinstance(decorator, ast.Call) or not isinstance(decorator.func, ast.Attribute):
                continue
            posts = decorator.func.attr == "post" or (
                decorator.func.attr in ("api_route", "route")
                and any(_mentions(item.value, "POST") for item in decorator.keywords)
            )
            paths = [*decorator.args[:1], *(item.value for item in decorator.keywords if item.arg == "path")]
            for path in paths:
                if posts and isinstance(path, ast.Constant) and isinstance(path.value, str):
                    routes.setdefault(path.value.rstrip("/"), []).append(node)
    return routes


def _mentions(node: ast.AST, text: str) -> bool:
    """Whether the string `text` or an attribute or argument of that name occurs in `node`."""
    return any(
        (isinstance(item, ast.Constant) and item.value == text)
        or (isinstance(item, ast.Attribute) and item.attr == text)
        or (isinstance(item, ast.arg) and item.arg == text)
        for item in ast.walk(node)
    )
