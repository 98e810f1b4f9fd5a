"""The Python sources of a project, read without running them: what a name stands for, across its files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from prime_core.errors import ProjectError

_DEEPEST = 20
_EITHER = frozenset({"Union", "Optional", "Annotated"})


@dataclass(eq=False)
class Source:
    """One file: its tree, and what its names are bound to, anywhere in it (a name may be bound several times)."""

    path: Path
    tree: ast.Module
    imports: dict[str, list[tuple[int, str, str | None]]] = field(default_factory=dict)
    """Name → (dots, module, name in it; None for the module itself)."""
    stars: list[tuple[int, str]] = field(default_factory=list)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = field(default_factory=dict)
    values: dict[str, list[ast.expr]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if alias.name == "*":
                        self.stars.append((node.level, node.module or ""))
                    else:
                        place = (node.level, node.module or "", alias.name)
                        self.imports.setdefault(alias.asname or alias.name, []).append(place)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.asname:
                        self.imports.setdefault(alias.asname, []).append((0, alias.name, None))
            elif isinstance(node, ast.ClassDef):
                self.classes[node.name] = node
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions[node.name] = node
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    self._bind(target, node.value)
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                self._bind(node.target, node.value)
            elif type(node).__name__ == "TypeAlias":  # `type A = B`, which Python 3.11 cannot read
                self._bind(getattr(node, "name", None), getattr(node, "value", None))

    def _bind(self, target: ast.AST | None, value: ast.expr | None) -> None:
        if isinstance(target, ast.Name) and value is not None:
            self.values.setdefault(target.id, []).append(value)


class Sources:
    """The files below `root`, each read once. What cannot be found or read there belongs to somebody else."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[Path, Source | None] = {}

    def open(self, path: Path) -> Source:
        """The source at `path`. Raises ProjectError: the line that is not Python."""
        try:
            found = Source(path, ast.parse(path.read_text(encoding="utf-8-sig")))
        except (OSError, UnicodeDecodeError) as error:
            raise ProjectError(f"{path} cannot be read: {error}.") from None
        except SyntaxError as error:
            raise ProjectError(f"{path}, line {error.lineno}: {error.msg}.") from None
        self._read[path] = found
        return found

    def reachable(self, start: Source) -> list[Source]:
        """`start` and every file of the project that it imports, directly or not, nearest first."""
        found = [start]
        for source in found:
            for target in self._targets(source):
                if target not in found:
                    found.append(target)
        return found

    def names(self, source: Source, node: ast.AST | None, depth: int = 0) -> set[str]:
        """The names that an expression stands for: its own, what it was imported or assigned from, and of a class those
        of the classes it derives from. A function of the project stands for nothing.
        """
        found: set[str] = set()
        for place, definition, name in self._definitions(source, node, depth):
            if isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            found.add(name)
            if isinstance(definition, ast.ClassDef) and depth < _DEEPEST:
                for base in definition.bases:
                    found |= self.names(place, base, depth + 1)
        return found

    def fields(self, source: Source, node: ast.AST | None, depth: int = 0) -> dict[str, tuple[Source, ast.expr]]:
        """The annotated fields of the class that an expression stands for, those it inherits included."""
        found: dict[str, tuple[Source, ast.expr]] = {}
        for place, definition, _ in self._definitions(source, node, depth):
            if isinstance(definition, ast.ClassDef) and depth < _DEEPEST:
                for base in definition.bases:
                    found |= self.fields(place, base, depth + 1)
                for part in definition.body:
                    if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                        found[part.target.id] = (place, part.annotation)
        return found

    def function(self, source: Source, node: ast.AST) -> tuple[Source, ast.FunctionDef | ast.AsyncFunctionDef] | None:
        """The function of the project that an expression stands for, and the file that it is in."""
        for place, definition, _ in self._definitions(source, node, 0):
            if isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
                return place, definition
        return None

    # Following names

    def _definitions(
        self, source: Source, node: ast.AST | None, depth: int
    ) -> Iterator[tuple[Source, ast.AST | None, str]]:
        """(file, class or function or nothing known, name) of everything that the expression may be."""
        if depth > _DEEPEST or node is None:
            return
        if isinstance(node, ast.Subscript):
            yield from self._definitions(source, node.value, depth)
            if getattr(node.value, "attr", getattr(node.value, "id", "")) in _EITHER:
                for part in node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]:
                    yield from self._definitions(source, part, depth + 1)
        elif isinstance(node, ast.IfExp):
            yield from self._definitions(source, node.body, depth + 1)
            yield from self._definitions(source, node.orelse, depth + 1)
        elif isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in ("partial", "functools.partial"):
            yield from self._definitions(source, node.args[0], depth + 1)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield from self._named(source, node.value, depth + 1)  # an annotation in quotes
        elif isinstance(node, ast.Name):
            yield from self._named(source, node.id, depth + 1)
        elif isinstance(node, ast.Attribute):
            yield source, None, node.attr
            for module in self._modules(source, node.value):
                yield from self._named(module, node.attr, depth + 1)

    def _named(self, source: Source, name: str, depth: int) -> Iterator[tuple[Source, ast.AST | None, str]]:
        if depth > _DEEPEST:
            return
        if name in source.functions:
            yield source, source.functions[name], name
            return
        yield source, source.classes.get(name), name
        for value in source.values.get(name, ()):
            yield from self._definitions(source, value, depth + 1)
        for dots, module, original in source.imports.get(name, ()):
            target = self._find(source, dots, module)
            if target is not None and original is not None:
                yield from self._named(target, original, depth + 1)
            elif original is not None:
                yield source, None, original
        if name not in source.classes and name not in source.values and name not in source.imports:
            for dots, module in source.stars:
                if (target := self._find(source, dots, module)) is not None:
                    yield from self._named(target, name, depth + 1)

    def _modules(self, source: Source, node: ast.AST) -> Iterator[Source]:
        """The files that `models`, `package.models` stand for as modules."""
        dotted = ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""
        if not re.fullmatch(r"[\w.]+", dotted):
            return
        head, _, rest = dotted.partition(".")
        places = [(0, dotted)]
        for dots, module, original in source.imports.get(head, ()):
            places.append((dots, ".".join(filter(None, (module, original, rest)))))
        for dots, module in places:
            if (target := self._find(source, dots, module)) is not None:
                yield target

    def _targets(self, source: Source) -> Iterator[Source]:
        places = list(source.stars)
        for found in source.imports.values():
            for dots, module, original in found:
                places.append((dots, module))
                if original is not None:
                    places.append((dots, f"{module}.{original}".strip(".")))
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Import):
                places += [(0, alias.name) for alias in node.names]
        for dots, module in places:
            if (target := self._find(source, dots, module)) is not None and target is not source:
                yield target

    def _find(self, source: Source, dots: int, module: str) -> Source | None:
        """The file of a module, as `source` names it."""
        parts = module.split(".") if module else []
        if dots:
            folders = [source.path.parent, *source.path.parent.parents][dots - 1 : dots]
            candidates = [folder.joinpath(*parts) for folder in folders]
        elif not parts:
            return None
        else:
            folders = [self.root, source.path.parent, self.root / "src"]
            candidates = [folder.joinpath(*parts) for folder in folders]
            if len(parts) > 1:  # the project's own package, which `openenv init` maps to the project's folder
                candidates.append(self.root.joinpath(*parts[1:]))
        for candidate in candidates:
            for path in (candidate.with_name(candidate.name + ".py"), candidate / "__init__.py"):
                if path.is_file() and path.resolve().is_relative_to(self.root.resolve()):
                    return self._known(path)
        return None

    def _known(self, path: Path) -> Source | None:
        if path not in self._read:
            self._read[path] = None
            try:
                self.open(path)
            except ProjectError:  # whoever runs it is told
                return None
        return self._read[path]
