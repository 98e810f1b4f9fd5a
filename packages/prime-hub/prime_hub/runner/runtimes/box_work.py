"""What a forked process of the box does for the runner: files, and finding what a command left running.

Runs inside the box with the image's interpreter, as `box_init.py` does. What it answers is believed by nobody: the
runner bounds and checks all of it.
"""

import errno
import os
import stat
from _json import encode_basestring_ascii as quoted

READ_BYTES = 1 << 18
MAX_ENTRIES = 100_000


class Refused(Exception):
    """A reason by its word."""


def tell(connection, text):
    connection.send(text.encode("ascii"))


def work(connection, question, descriptors):
    """Do one thing and answer: {"errno": n}, {"refused": word}, or what the thing has to tell."""
    try:
        os.chdir(question.get("cwd") or "/")
        answer = globals()["do_" + question["what"]](connection, question, descriptors)
    except Refused as error:
        answer = '{"refused": %s}' % quoted(str(error))
    except OSError as error:
        answer = '{"errno": %d}' % (error.errno or errno.EIO)
    tell(connection, answer or "{}")
    for descriptor in descriptors:
        try:
            os.close(descriptor)
        except OSError:
            pass
    # To end while something is unread would take the answer away from who has not read it yet.
    try:
        while connection.recv(16):
            pass
    except OSError:
        pass


def described(path):
    """An entry, a link itself, as JSON."""
    found = os.lstat(path)
    target = quoted(os.readlink(path)) if stat.S_ISLNK(found.st_mode) else "null"
    return '{"name": %s, "mode": %d, "size": %d, "modified": %r, "target": %s}' % (
        quoted(os.path.basename(path)),
        found.st_mode,
        found.st_size,
        found.st_mtime,
        target,
    )


def do_stat(connection, question, descriptors):
    return described(question["path"])


def do_entries(connection, question, descriptors):
    path = question["path"]
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, "") if os.path.exists(path) else FileNotFoundError(errno.ENOENT, "")
    with open(descriptors[0], "w", encoding="ascii") as out:
        for name in sorted(os.listdir(path))[:MAX_ENTRIES]:
            try:
                out.write(described(os.path.join(path, name)) + "\n")
            except FileNotFoundError:
                continue


def do_read(connection, question, descriptors):
    # Not waiting for the other end of a pipe, and never becoming the terminal of anybody.
    file = os.open(question["path"], os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    found = os.fstat(file)
    if stat.S_ISDIR(found.st_mode):
        raise Refused("folder")
    if not stat.S_ISREG(found.st_mode):
        raise Refused("irregular")
    tell(connection, '{"size": %d}' % found.st_size)
    start, left = question["offset"], question["length"]
    if start < 0:
        start = max(0, found.st_size + start)
    os.lseek(file, min(start, found.st_size), os.SEEK_SET)
    left = found.st_size if left is None else left
    while left > 0:
        data = os.read(file, min(READ_BYTES, left))
        if not data:
            break
        left -= len(data)
        pour(descriptors[0], data)
    os.close(descriptors[0])


def pour(descriptor, data):
    while data:
        data = data[os.write(descriptor, data) :]


def do_write(connection, question, descriptors):
    path = question["path"]
    if os.path.isdir(path):
        raise Refused("folder")
    # A link is written through, as a program of the box would.
    path = os.path.realpath(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    scratch = os.path.join(os.path.dirname(path), ".%s.part" % os.urandom(8).hex())
    size = 0
    file = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        tell(connection, '{"ready": true}')
        while True:
            data = os.read(descriptors[0], READ_BYTES)
            if not data:
                break
            size += len(data)
            pour(file, data)
        # Without this word the writer has gone, and half a file is none.
        if connection.recv(16) != b"whole":
            raise Refused("broken")
        if question["mode"] is not None:
            os.fchmod(file, question["mode"])
        os.rename(scratch, path)
        scratch = None
    finally:
        os.close(file)
        if scratch is not None:
            os.unlink(scratch)
    return '{"size": %d}' % size


def do_make_folder(connection, question, descriptors):
    os.makedirs(question["path"], exist_ok=True)


def do_remove(connection, question, descriptors):
    path = question["path"]
    if os.path.realpath(path) == "/" or path.rstrip("/") == "":
        raise Refused("everything")
    found = os.lstat(path.rstrip("/"))
    if stat.S_ISDIR(found.st_mode):
        import shutil

        shutil.rmtree(path.rstrip("/"))
    else:
        os.unlink(path)


def do_pack(connection, question, descriptors):
    import tarfile

    folder = question["path"]
    if not os.path.isdir(folder):
        raise NotADirectoryError(errno.ENOTDIR, "") if os.path.exists(folder) else FileNotFoundError(errno.ENOENT, "")
    os.chdir(folder)
    tell(connection, '{"ready": true}')
    with os.fdopen(descriptors[0], "wb", READ_BYTES) as out:
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for path in walk("."):
                try:
                    archive.add(path, path[2:], recursive=False)
                except (FileNotFoundError, PermissionError):
                    continue
    return '{"whole": true}'


def walk(folder):
    for name in sorted(os.listdir(folder)):
        path = folder + "/" + name
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode):
            yield path
        if stat.S_ISDIR(mode):
            try:
                yield from walk(path)
            except OSError:
                continue


def do_unpack(connection, question, descriptors):
    import tarfile

    folder = question["path"]
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    tell(connection, '{"ready": true}')
    try:
        with os.fdopen(descriptors[0], "rb", READ_BYTES) as source:
            with tarfile.open(fileobj=source, mode="r|*") as archive:
                for member in archive:
                    safe(member)
                    if hasattr(tarfile, "data_filter"):
                        archive.extract(member, ".", filter="data")
                    else:
                        archive.extract(member, ".")
            while source.read(READ_BYTES):
                pass
    except (tarfile.TarError, EOFError, ValueError):
        raise Refused("archive") from None
    if connection.recv(16) != b"whole":
        raise Refused("broken")


def safe(member):
    """Refuse what would lie elsewhere."""
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts:
        raise Refused("outside")
    if member.issym() or member.islnk():
        base = os.path.dirname(member.name) if member.issym() else ""
        target = os.path.normpath(os.path.join(base, member.linkname))
        if member.linkname.startswith("/") or target == ".." or target.startswith("../"):
            raise Refused("outside")
    elif not (member.isreg() or member.isdir()):
        raise Refused("outside")
    at = os.path.dirname(member.name)
    if at and not (os.path.realpath(at) + "/").startswith(os.path.realpath(".").rstrip("/") + "/"):
        raise Refused("outside")


def do_kill(connection, question, descriptors):
    """Kill what carries a mark in its environment, until a look finds none."""
    wanted = question["mark"].encode()
    for _ in range(20):
        found = False
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) in (1, os.getpid()):
                continue
            try:
                with open("/proc/%s/environ" % name, "rb") as file:
                    marked = wanted in file.read(1 << 22).split(b"\0")
                if marked:
                    found = True
                    os.kill(int(name), 9)
            except OSError:
                continue
        if not found:
            return
        os.sched_yield()
    return
