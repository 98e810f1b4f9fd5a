"""The walls of the house: arrows point down only, no cycles, no file holds two ideas (docs/architecture.md)."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "prime_core": "prime-core",
    "prime_evals": "prime-evals",
    "prime_sandboxes": "prime-sandboxes",
    "verifiers": "verifiers",
    "prime_hub": "prime-hub",
    "prime_cli": "prime",
}
MAY_IMPORT = {
    "prime_core": set(),
    "prime_evals": set(),
    "prime_sandboxes": {"prime_core"},
    "verifiers": {"prime_core", "prime_evals", "prime_sandboxes"},
    "prime_hub": {"prime_core", "prime_evals"},
    "prime_cli": {"prime_core", "prime_evals", "prime_sandboxes", "verifiers"},
}
# The SDK comes with the extras `openenv` and `sandbox` only, so only what needs a sandbox may name it.
SANDBOX_USERS = (
    "verifiers/openenv/",
    "verifiers/cli/build",
    "verifiers/cli/image",
    "verifiers/envs/sandbox_",
    "verifiers/envs/python_env",
)


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in PACKAGES.items():
        base = ROOT / "packages" / folder
        for file in (base / package).rglob("*.py"):
            parts = file.relative_to(base).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(file: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_package_is_looked_at():
    assert {path.name for path in (ROOT / "packages").iterdir() if path.is_dir()} == set(PACKAGES.values())
    assert set(modules()) >= set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_point_down(package: str):
    wrong = [
        f"{module} imports {name}"
        for module, file in modules().items()
        if module.split(".")[0] == package
        for name in imports(file)
        if name.split(".")[0] in PACKAGES and name.split(".")[0] not in MAY_IMPORT[package] | {package}
    ]
    assert not wrong


def test_the_library_names_the_sandbox_sdk_only_where_a_sandbox_is_needed():
    wrong = [
        module
        for module, file in modules().items()
        if module.startswith("verifiers")
        and any(name.split(".")[0] == "prime_sandboxes" for name in imports(file))
        and not module.replace(".", "/").startswith(SANDBOX_USERS)
    ]
    assert not wrong


def test_no_import_cycles():
    known = modules()
    edges = {}
    for module, file in known.items():
        # `from package import name` is an edge to package.name where that is a module, else to the package.
        targets = {name for name in imports(file, top_level_only=True) if name in known and name != module}
        edges[module] = {
            target for target in targets if not any(other.startswith(target + ".") for other in targets - {target})
        }
    finished: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, "import cycle: " + " -> ".join((*path[path.index(module) :], module))
        if module in finished:
            return
        for target in sorted(edges[module]):
            visit(target, (*path, module))
        finished.add(module)

    for module in sorted(edges):
        visit(module, ())


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def test_a_file_is_one_idea():
    long = {
        str(file.relative_to(ROOT)): lines
        for file in tracked()
        if file.suffix == ".py" and (lines := len(file.read_text(encoding="utf-8").splitlines())) > 500
    }
    assert not long


def test_no_index_host_is_named():
    hosts = re.compile(
        "|".join(["pyp" + r"i\.org", "python" + "hosted", "npm" + r"js\.", "deb\\." + "debian"]), re.IGNORECASE
    )
    named = []
    for file in tracked():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if hosts.search(text):
            named.append(str(file.relative_to(ROOT)))
    assert not named


def test_every_dependency_is_bounded():
    import tomllib

    loose = []
    for folder in PACKAGES.values():
        project = tomllib.loads((ROOT / "packages" / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = [line for lines in project.get("optional-dependencies", {}).values() for line in lines]
        loose += [
            f"{folder}: {line}" for line in [*project["dependencies"], *extras] if "<" not in line and "==" not in line
        ]
    assert not loose
