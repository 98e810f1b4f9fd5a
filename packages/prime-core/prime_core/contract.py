"""Which contract an OpenEnv server speaks, read from its source without running it.

openenv-core servers are made by one of FACTORIES, given the action and observation classes: the MCP ones are
CallToolAction and CallToolObservation, or have `tool_name` and `arguments` of their own. Plain FastAPI servers (the form
the seed shows) are MCP when they answer POST /mcp, or take `tool_name` in /step. Names are followed through the files of
the project. The running server has the last word: what is read here is checked against its /schema.
"""

from __future__ import annotations

import ast
from pathlib import Path

from prime_core.errors import ProjectError
from prime_core.sources import Source, Sources

FACTORIES = frozenset({"create_app", "create_fastapi_app", "create_web_interface_app", "HTTPEnvServer"})
MCP_CLASSES = frozenset({"CallToolAction", "CallToolObservation", "ListToolsAction", "ListToolsObservation"})
CALL = frozenset({"tool_name", "arguments"})
Handler = tuple[Source, ast.AST]


def detect(app_file: Path, root: Path | None = None) -> str:
    """`gym` or `mcp`; `root` is the project's folder (default: the file's). Raises ProjectError when the file cannot be
    parsed or shows neither kind of server.
    """
    sources = Sources(root or app_file.parent)
    reachable = sources.reachable(sources.open(app_file))
    for source in reachable:
        calls = [
            node
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Call)
            and (sources.names(source, node.func) | sources.names(source, node)) & FACTORIES
        ]
        if calls:
            return "mcp" if any(_given_tools(sources, source, call) for call in calls) else "gym"
    routes: dict[str, list[Handler]] = {}
    for source in reachable:
        for path, handler in _post_routes(sources, source):
            routes.setdefault(path, []).append(handler)
    if "/mcp" in routes or any(_takes_tools(sources, *handler) for handler in routes.get("/step", [])):
        return "mcp"
    if "/step" in routes:
        return "gym"
    raise ProjectError(
        f"Could not detect OpenEnv contract: {app_file} neither calls create_app(...) or create_fastapi_app(...) "
        "nor answers POST /step.",
        "Write the server there, or name the contract in openenv.yaml ('contract: gym' or 'contract: mcp').",
    )


def _given_tools(sources: Sources, source: Source, call: ast.Call) -> bool:
    """Whether a factory is given the classes of tool calls."""
    given = [*call.args, *(item.value for item in call.keywords)]
    action = next((item.value for item in call.keywords if item.arg == "action_cls"), None)
    action = action or (call.args[1] if len(call.args) > 1 else None)
    return any(sources.names(source, argument) & MCP_CLASSES for argument in given) or _is_call(sources, source, action)


def _is_call(sources: Sources, source: Source, node: ast.AST | None, depth: int = 0) -> bool:
    """Whether a class has the fields of a tool call, or a field whose class has."""
    if isinstance(node, ast.BinOp):  # A | B
        return _is_call(sources, source, node.left, depth) or _is_call(sources, source, node.right, depth)
    fields = sources.fields(source, node)
    if fields.keys() >= CALL or sources.names(source, node) & MCP_CLASSES:
        return True
    return depth < 2 and any(_is_call(sources, place, part, depth + 1) for place, part in fields.values())


def _takes_tools(sources: Sources, source: Source, handler: ast.AST) -> bool:
    """Whether a function reads `tool_name`, or takes something that has it."""
    if _mentions(handler, "tool_name"):
        return True
    if not isinstance(handler, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    arguments = (*handler.args.posonlyargs, *handler.args.args, *handler.args.kwonlyargs)
    return any(_is_call(sources, source, argument.annotation) for argument in arguments)


def _post_routes(sources: Sources, source: Source) -> list[tuple[str, Handler]]:
    """(path, function) of `@anything.post("/path")`, `@anything.api_route("/path", methods=["POST"])`, and the calls
    `add_api_route("/path", function)`, `Route("/path", function)` and `mount("/path", app)`.
    """
    found: list[tuple[str, Handler]] = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute):
                    name = decorator.func.attr
                    if name == "post" or (name in ("api_route", "route") and _posts(decorator)):
                        found += [(path, (source, node)) for path in _paths(decorator)]
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name == "mount" or (name in ("add_api_route", "add_route", "Route", "APIRoute") and _posts(node)):
                handler = sources.function(source, node.args[1]) if len(node.args) > 1 else None
                found += [(path, handler or (source, node)) for path in _paths(node)]
    return found


def _paths(call: ast.Call) -> list[str]:
    given = [*call.args[:1], *(item.value for item in call.keywords if item.arg == "path")]
    return [item.value.rstrip("/") for item in given if isinstance(item, ast.Constant) and isinstance(item.value, str)]


def _posts(call: ast.Call) -> bool:
    """Whether the methods that a route names include POST."""
    return any(item.arg == "methods" and _mentions(item.value, "POST") for item in call.keywords)


def _mentions(node: ast.AST, text: str) -> bool:
    """Whether the string `text` or an attribute or argument of that name occurs in `node`."""
    return any(
        (isinstance(item, ast.Constant) and item.value == text)
        or (isinstance(item, ast.Attribute) and item.attr == text)
        or (isinstance(item, ast.arg) and item.arg == text)
        for item in ast.walk(node)
    )
