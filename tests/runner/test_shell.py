"""RUN lines as the runner reads them, and start commands as it changes them."""

from pathlib import Path

import pytest

from prime_hub.runner.building.shell import AndOr, If, Not, Pipe, Sequence, ShellError, Simple, expand, parse
from prime_hub.runner.building.store import VenvImage
from prime_hub.runner.runtimes.base import StartError
from prime_hub.runner.runtimes.commands import named_ports, plan
from prime_hub.runner.runtimes.paths import PathMap
from prime_hub.runner.runtimes.values import Image, ImageConfig


def words(text: str, **env: str) -> list[str]:
    command = parse(text)
    assert isinstance(command, Simple)
    return [item for word in command.words for item in expand(word, env)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pip install  -r requirements.txt", ["pip", "install", "-r", "requirements.txt"]),
        ("pip install 'a>=1' \"b<2\" c\\ d", ["pip", "install", "a>=1", "b<2", "c d"]),
        ("x $LIST \"$LIST\" '$LIST' ${NONE:-y} $NONE", ["x", "1", "2", "1 2", "$LIST", "y"]),
        ('x pre"$LIST"post ""', ["x", "pre1 2post", ""]),
        ('x "a\\"b" a#b # comment', ["x", 'a"b', "a#b"]),
        ("x \\\n  y", ["x", "y"]),
        ("A=1 B='2 3' x > /dev/null 2>&1", ["x"]),
    ],
)
def test_words(text, expected):
    assert words(text, LIST="1 2") == expected


def test_structure():
    assert isinstance(parse("a && b || c"), AndOr)
    assert isinstance(parse("a; b"), Sequence)
    assert isinstance(parse("! a | b"), Not)
    assert isinstance(parse("a | b"), Pipe)
    branch = parse("if [ -f x ]; then a; elif b; then c && d; else { e; }; fi")
    assert isinstance(branch, If)
    assert len(branch.branches) == 2
    assert branch.otherwise is not None
    command = parse("A=1 x >> out.txt")
    assert isinstance(command, Simple)
    assert [name for name, _ in command.assigns] == ["A"]
    assert [operator for operator, _ in command.redirects] == [">>"]


@pytest.mark.parametrize(
    "text",
    ["a &", "echo `date`", 'echo "$(date)"', "while true; do a; done", "if a; then b", "'open", '"open', "a &&", "a )"],
)
def test_what_is_not_read(text):
    with pytest.raises(ShellError):
        parse(text)


@pytest.fixture
def paths(tmp_path: Path) -> PathMap:
    root = tmp_path / "with space" / "root"
    (root / "app" / "env").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc" / "own.conf").touch()
    config = ImageConfig(workdir="/app")
    (tmp_path / "image" / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "image" / "venv" / "bin" / "uvicorn").touch()
    image = VenvImage(Image("sha256:0", config, 0), tmp_path / "image", ["/app/.venv"], ["/app", "/app/env"])
    return PathMap(image, root)


def ports():
    free = iter(range(30001, 30010))
    return lambda: next(free)


def test_the_seeds_start_command(paths, tmp_path):
    command = 'sh -lc "cd /app/env && /app/.venv/bin/uvicorn server.app:app --host 0.0.0.0 --port 8000"'
    start = plan(command, {}, 8000, paths, ports())
    assert start.argv[:2] == ["sh", "-c"]
    venv = tmp_path / "image" / "venv"
    assert start.argv[2] == (
        f"cd '{paths.root}/app/env' && {venv}/bin/uvicorn server.app:app --host 127.0.0.1 --port 30001"
    )
    assert (start.ports, start.host_rewritten, start.fixed) == ({8000: 30001}, True, None)


@pytest.mark.parametrize(
    ("command", "argv", "mapped"),
    [
        (
            "uvicorn server:app --host 0.0.0.0 --port 8000",
            "uvicorn server:app --host 127.0.0.1 --port 30001",
            {8000: 30001},
        ),
        ("gunicorn -b 0.0.0.0:8000 app", "gunicorn -b 127.0.0.1:30001 app", {8000: 30001}),
        ("gunicorn -b :8000 app", "gunicorn -b :30001 app", {8000: 30001}),
        ("hypercorn --bind [::]:8000 app", "hypercorn --bind 127.0.0.1:30001 app", {8000: 30001}),
        ("uvicorn a:b --host :: --port=8000", "uvicorn a:b --host 127.0.0.1 --port=30001", {8000: 30001}),
        ("server 8000 8000x", "server 30001 8000x", {8000: 30001}),
        ("uvicorn a:b --port 9000", "uvicorn a:b --port 30002", {8000: 30001, 9000: 30002}),
        ("python server.py", "python server.py", {8000: 8000}),
        ("/usr/local/bin/uvicorn a:b --port 8000", "{venv}/bin/uvicorn a:b --port 30001", {8000: 30001}),
        (
            "uvicorn --config /etc/own.conf --port 8000",
            "uvicorn --config {root}/etc/own.conf --port 30001",
            {8000: 30001},
        ),
        (
            "uvicorn --config /etc/other.conf --port 8000",
            "uvicorn --config /etc/other.conf --port 30001",
            {8000: 30001},
        ),
    ],
)
def test_programs(paths, tmp_path, command, argv, mapped):
    start = plan(command, {}, 8000, paths, ports())
    expected = [word.format(venv=tmp_path / "image" / "venv", root=paths.root) for word in argv.split()]
    assert start.argv == expected
    assert start.ports == mapped
    assert start.fixed == (8000 if mapped == {8000: 8000} else None)
    assert plan(command.split(), {}, 8000, paths, ports()).argv == expected


def test_scripts_and_variables(paths):
    command = "PORT=8000 exec env URL=http://localhost:8000/app/x uvicorn a:b --port $PORT --root '/app/env'"
    start = plan(command, {"PORT": "8000", "UVICORN_HOST": "0.0.0.0", "P": "/app/env:/usr/lib"}, 8000, paths, ports())
    assert start.argv[2] == (
        f"PORT=30001 exec env URL=http://localhost:30001/app/x uvicorn a:b --port $PORT --root '{paths.root}/app/env'"
    )
    assert start.env == {"PORT": "30001", "UVICORN_HOST": "127.0.0.1", "P": f"{paths.root}/app/env:/usr/lib"}
    assert start.host_rewritten is True
    assert plan("/bin/sh -ec 'exit 3'", {}, None, paths, ports()).argv == ["/bin/sh", "-ec", "exit 3"]
    assert plan(["bash", "--login", "-c", "echo $1", "x", "y"], {}, None, paths, ports()).argv[0] == "bash"


def test_shell_arguments_are_kept(paths):
    start = plan(["sh", "-c", "echo $1 $0", "zero", "one two"], {}, None, paths, ports())
    assert start.argv == ["sh", "-c", "echo $1 $0", "zero", "one two"]


@pytest.mark.parametrize("command", ["", "   ", "echo 'open", []])
def test_no_command(paths, command):
    with pytest.raises(StartError):
        plan(command, {}, None, paths, ports())


def test_which_ports_a_command_names():
    assert named_ports("a --port 1 --port=22 -b 0.0.0.0:333 b:44444 http://x:5555/") == {1, 22, 333}
    assert named_ports("PORT=80 x ${PORT:-81} --http-port 82 --report 83 --port x") == {80, 81, 82}
