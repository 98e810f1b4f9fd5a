"""The runner against a box that lies, hangs or floods: it harms nobody but its own user."""

import array
import asyncio
import contextlib
import json
import marshal
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prime_hub.runner.runtimes import box_client, box_files
from prime_hub.runner.runtimes.base import ExecError, FileMissing
from prime_hub.runner.runtimes.box_client import BoxProcess, BoxSilent, Control, Question
from prime_hub.runner.runtimes.box_files import BoxFiles

Answer = Callable[[socket.socket, dict, list[int]], None]


class Liar:
    """A box's control socket that answers as a test wants."""

    def __init__(self, path: Path) -> None:
        self.control = Control(path)
        self._listener = box_client.listener(path)
        self._listener.setblocking(False)
        self._tasks: set[asyncio.Task[None]] = set()
        self._kept: list[socket.socket] = []

    def answer(self, how: Answer) -> None:
        task = asyncio.create_task(self._serve(how))
        self._tasks.add(task)

    async def _serve(self, how: Answer) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listener)
            self._kept.append(connection)
            connection.setblocking(True)
            data, ancillary, _, _ = await asyncio.to_thread(connection.recvmsg, 65536, 1024)
            descriptors = array.array("i")
            for _, _, content in ancillary:
                descriptors.frombytes(content)
            numbers = list(descriptors)
            content = data[1:] if data[:1] == b"I" else os.pread(numbers.pop(0), 1 << 24, 0)
            how(connection, marshal.loads(content), numbers)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for connection in self._kept:
            connection.close()
        self._listener.close()


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Liar]:
    made = Liar(tmp_path / "control.sock")
    yield made
    made.close()


def saying(*answers: bytes | dict) -> Answer:
    def how(connection: socket.socket, question: dict, descriptors: list[int]) -> None:
        for number in descriptors:
            os.close(number)
        for answer in answers:
            with contextlib.suppress(OSError):
                connection.send(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    return how


@pytest.fixture
def files(liar: Liar) -> BoxFiles:
    return BoxFiles(liar.control, "/app")


@pytest.mark.parametrize(
    "answer",
    [
        b"no json",
        b"[1]",
        b"[" * 60000,
        {},
        {"mode": "x", "size": 1, "modified": 1.0},
        {"mode": 0o100644, "size": -1, "modified": 1.0},
        {"mode": 0o100644, "size": 1 << 80, "modified": 1.0},
        {"mode": 0o100644, "size": True, "modified": 1.0},
        {"mode": 0o100644, "size": 1, "modified": 1e300},
        {"mode": 0o120777, "size": 1, "modified": 1.0, "target": 7},
        {"mode": 0o120777, "size": 1, "modified": 1.0, "target": "\ud800"},
        {"mode": 0o120777, "size": 1, "modified": 1.0, "target": "x" * 5000},
    ],
)
async def test_an_answer_that_is_none(liar, files, answer):
    liar.answer(saying(answer))
    with pytest.raises(BoxSilent, match="does not answer"):
        await files.stat("/x")


async def test_the_words_of_a_box_never_reach_a_sentence(liar, files):
    liar.answer(saying({"refused": "{path.__class__} <script>", "errno": "x"}))
    with pytest.raises(ExecError) as error:
        await files.stat("/x")
    assert str(error.value) == "The sandbox refused it for /x."


async def test_a_box_that_is_gone_or_hangs(liar, files, monkeypatch, tmp_path):
    with pytest.raises(BoxSilent):
        await BoxFiles(Control(tmp_path / "none.sock"), "/").stat("/x")
    monkeypatch.setattr(box_files, "PIPE_SECONDS", 0.2)
    liar.answer(lambda connection, question, descriptors: None)
    question = await Question.ask(liar.control, {"do": "life"})
    with pytest.raises(BoxSilent):
        await question.answer(0.2)
    question.close()


async def test_a_listing_without_end_or_with_paths_for_names(liar, files, monkeypatch):
    monkeypatch.setattr(box_files, "LIST_BYTES", 100_000)

    def endless(connection: socket.socket, question: dict, descriptors: list[int]) -> None:
        async def pour() -> None:
            with contextlib.suppress(OSError):
                while True:
                    await asyncio.to_thread(os.write, descriptors[0], b"x" * 65536)
            os.close(descriptors[0])

        liar._tasks.add(asyncio.create_task(pour()))

    liar.answer(endless)
    with pytest.raises(ExecError, match="holds too much"):
        await files.entries("/x")

    for name in ("../../etc/passwd", "", "a/b", 7, "a\0b"):
        with pytest.raises(BoxSilent):
            line = json.dumps({"name": name, "mode": 0o100644, "size": 1, "modified": 1.0})
            box_files._listed(line.encode(), "/x")
    with pytest.raises(BoxSilent):
        box_files._listed(b"[" * 100_000, "/x")


async def test_a_file_is_never_longer_than_was_said(liar, files):
    def how(connection: socket.socket, question: dict, descriptors: list[int]) -> None:
        connection.send(b'{"size": 5}')
        os.write(descriptors[0], b"0123456789")
        os.close(descriptors[0])

    liar.answer(how)
    window = await files.read("/x")
    assert (window.size, window.length) == (5, 5)
    assert b"".join([chunk async for chunk in window.chunks]) == b"01234"
    window = await files.read("/x", -2)
    assert b"".join([chunk async for chunk in window.chunks]) == b"01"


async def test_a_file_that_is_shorter_is_told(liar, files):
    def how(connection: socket.socket, question: dict, descriptors: list[int]) -> None:
        connection.send(b'{"size": 50}')
        os.write(descriptors[0], b"0123456789")
        os.close(descriptors[0])

    liar.answer(how)
    window = await files.read("/x")
    with pytest.raises(ExecError, match="shorter"):
        async for _ in window.chunks:
            pass


async def test_who_takes_no_content_is_given_up(liar, files, monkeypatch):
    async def content():
        while True:
            yield b"x" * 65536

    monkeypatch.setattr(box_files, "PIPE_SECONDS", 0.3)
    liar.answer(lambda connection, question, descriptors: connection.send(b'{"ready": true}') and None)
    with pytest.raises(BoxSilent):
        await files.write("/x", content())


async def test_descriptors_of_a_box_are_never_taken(liar):
    def how(connection: socket.socket, question: dict, descriptors: list[int]) -> None:
        with open("/dev/zero", "rb") as file:  # noqa: PTH123
            rights = array.array("i", [file.fileno()] * 20)
            connection.sendmsg([b'{"pid": 7}'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    liar.answer(how)
    question = await Question.ask(liar.control, {"do": "life"})
    assert await question.answer() == {"pid": 7}
    open_files = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert Path("/dev/zero") not in open_files
    question.close()


async def test_a_command_whose_end_is_never_told_is_given_up_once_killed(liar, monkeypatch):
    monkeypatch.setattr(box_client, "KILLED_SECONDS", 0.2)
    liar.answer(lambda connection, question, descriptors: connection.send(b'{"pid": 7}') and None)
    streams = [os.open("/dev/null", os.O_RDWR) for _ in range(3)]
    process = await BoxProcess.start(liar.control, {"do": "run", "argv": ["true"]}, tuple(streams))
    for number in streams:
        os.close(number)
    assert process.pid == 7
    process.signal_group(9)
    assert await asyncio.wait_for(process.exited, 10) == -9


@pytest.mark.parametrize("answer", [{"exit": 1 << 70}, {"exit": "0"}, {"exit": None}, b"x", {}])
async def test_an_exit_that_cannot_be_is_a_kill(liar, answer):
    liar.answer(saying({"pid": 7}, answer))
    streams = [os.open("/dev/null", os.O_RDWR) for _ in range(3)]
    process = await BoxProcess.start(liar.control, {"do": "run", "argv": ["true"]}, tuple(streams))
    for number in streams:
        os.close(number)
    assert await asyncio.wait_for(process.exited, 10) == -9


async def test_refusals_of_a_start_are_sentences(liar):
    streams = [os.open("/dev/null", os.O_RDWR) for _ in range(3)]
    liar.answer(saying({"missing": "x"}))
    with pytest.raises(ExecError, match="There is no program 'true' in the sandbox"):
        await BoxProcess.start(liar.control, {"do": "run", "argv": ["true"]}, tuple(streams))
    liar.close()
    again = Liar(liar.control.path)
    again.answer(saying({"errno": 2}))
    with pytest.raises(FileMissing):
        await BoxProcess.start(again.control, {"do": "run", "argv": ["true"]}, tuple(streams))
    again.close()
    for number in streams:
        os.close(number)
