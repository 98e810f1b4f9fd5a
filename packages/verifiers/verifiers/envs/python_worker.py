"""The program that PythonEnv runs in a sandbox: a Python session that is spoken to by lines of JSON.

It runs with an image's Python of whatever version, so it uses the standard library only. Each line of its input is
`{"number": 1, "code": "…"}`, each answer a line `{"stdout", "stderr", "value", "error"}`; the first line says that it is
ready. What the code prints, its subprocesses included, goes through pipes that are emptied while it runs, and of which
the beginning is kept: code that prints without end neither stops nor fills anything.
"""

import ast
import json
import linecache
import os
import select
import sys
import threading
import traceback
import types

LIMIT = 1 << 20
"""Bytes of each output that are kept."""


class Printed:
    """What goes to the file descriptors 1 and 2."""

    def __init__(self):
        self._lock = threading.Lock()
        self._read = {}
        self._open = []
        for number in (1, 2):
            reading, writing = os.pipe()
            os.dup2(writing, number)
            self._open.append(writing)  # so that a code that closes its own never ends the pipe
            self._read[reading] = number
        self._clear()
        thread = threading.Thread(target=self._follow)
        thread.daemon = True
        thread.start()

    def _clear(self):
        self._kept = {1: bytearray(), 2: bytearray()}
        self._lost = {1: 0, 2: 0}

    def _follow(self):
        while True:
            select.select(list(self._read), [], [])
            with self._lock:
                self._empty()

    def _empty(self):
        while True:
            ready = select.select(list(self._read), [], [], 0)[0]
            if not ready:
                return
            for reading in ready:
                piece, number = os.read(reading, 65536), self._read[reading]
                taken = piece[: LIMIT - len(self._kept[number])]
                self._kept[number] += taken
                self._lost[number] += len(piece) - len(taken)

    def take(self):
        """Everything since the last time, as two texts."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                pass
        with self._lock:
            self._empty()
            texts = [shortened(bytes(self._kept[n]).decode("utf-8", "replace"), self._lost[n]) for n in (1, 2)]
            self._clear()
        return texts


def shortened(text, lost=0):
    """At most LIMIT characters of a text, and how many were left out."""
    lost += max(0, len(text) - LIMIT)
    return text[:LIMIT] + (f"\n[{lost} more left out]" if lost else "")


def run(code, number, space):
    """Run code; the repr of its last expression, and the traceback, each None where there is none."""
    name = f"<python {number}>"
    linecache.cache[name] = (len(code), None, (code + "\n").splitlines(True), name)
    try:
        tree = ast.parse(code, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), space)
        if last is None:
            return None, None
        value = eval(compile(ast.Expression(last.value), name, "eval"), space)
        if value is None:
            return None, None
        space["_"] = value
        return shortened(repr(value)), None
    except BaseException as error:
        trace = error.__traceback__
        return None, shortened("".join(traceback.format_exception(type(error), error, trace and trace.tb_next)))


def main():
    """Answer line by line until the input ends."""
    me = os.getpid()
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    printed = Printed()
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    answer = {"ready": True}
    while True:
        replies.write(json.dumps(answer).encode() + b"\n")
        replies.flush()
        line = requests.readline()
        if not line:
            return
        request = json.loads(line.decode("utf-8"))
        if sys.stdin.closed:  # by `exit()`, which the session outlives
            sys.stdin = open(0, closefd=False)  # noqa: SIM115
        value, error = run(request["code"], request["number"], module.__dict__)
        if os.getpid() != me:  # a fork of the code's that ran out of it: not the session
            os._exit(0)
        stdout, stderr = printed.take()
        answer = {"stdout": stdout, "stderr": stderr, "value": value, "error": error}


if __name__ == "__main__":
    main()
