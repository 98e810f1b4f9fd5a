"""How the first process of a box puts the image in place and becomes programs; see `box_init.py`, which it belongs to."""

import _signal
import errno
import os

FAR = 500  # raises a process's chance to be taken when memory runs out, so that the first process is the last


def quoted(text):
    """A string as JSON."""
    from _json import encode_basestring_ascii

    return encode_basestring_ascii(text)


def tell(connection, text):
    """Send an answer; whoever no longer listens misses nothing."""
    try:
        connection.send(text.encode("ascii"))
    except OSError:
        pass


def failure(error):
    """An OSError as an answer."""
    return '{"errno": %d}' % (error.errno or errno.EIO)


def copy_tree(source, target):
    """Copy a folder's content, keeping modes, times and links; what a read-only part of the system refuses is left."""
    for entry in os.scandir(source):
        goal = os.path.join(target, entry.name)
        try:
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), goal)
            elif entry.is_dir(follow_symlinks=False):
                try:
                    os.mkdir(goal)
                except FileExistsError:
                    pass
                copy_tree(entry.path, goal)
            else:
                copy_file(entry.path, goal)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EEXIST, errno.EACCES, errno.EBUSY, errno.EPERM):
                raise
            if error.errno == errno.EROFS:
                os.write(2, ("%s of the image is left out: that folder is this machine's own here.\n" % goal).encode())


def copy_file(source, target):
    found = os.stat(source)
    read = os.open(source, os.O_RDONLY)
    try:
        write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            while os.sendfile(write, read, None, 1 << 24):
                pass
            os.fchmod(write, (found.st_mode & 0o777) | 0o200)
            os.utime(write, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(write)
    finally:
        os.close(read)


def find_program(name, env, cwd):
    """Where a program lies, or None."""
    if "/" in name:
        path = os.path.join(cwd, name)
        return path if os.path.isfile(path) and os.access(path, os.X_OK) else None
    for folder in env.get("PATH", "").split(":"):
        path = os.path.join(cwd, folder, name)
        if folder and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return "/bin/sh" if name == "bash" else None


def become(argv, env, cwd, streams, terminal=False, ready=None):
    """Run a program in place of this (forked) process, a session's leader. Raises OSError; FileNotFoundError for what
    is not there.
    """
    if terminal:
        from fcntl import ioctl
        from termios import TIOCSCTTY

        ioctl(streams[0], TIOCSCTTY, 0)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(FAR))
    except OSError:
        pass
    os.chdir(cwd)
    program = find_program(argv[0], env, cwd)
    if program is None:
        raise FileNotFoundError(errno.ENOENT, "program", argv[0])
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGINT, _signal.SIGCHLD):
        _signal.signal(number, _signal.SIG_DFL)
    # Above the three first, so that none is overwritten before it is copied.
    high = [os.dup(stream) for stream in streams]
    for number, stream in enumerate(high):
        os.dup2(stream, number, inheritable=True)
    for stream in high:
        os.close(stream)
    if ready is not None:
        ready()
    try:
        os.execve(program, argv, env)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        os.execve("/bin/sh", ["sh", program] + argv[1:], env)


def only(keep):
    """Close every descriptor of this (forked) process but the first three and those to keep."""
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2 and number not in keep:
            try:
                os.close(number)
            except OSError:
                pass


def limit(config):
    if config["rlimits"]:
        import resource

        for name, value in config["rlimits"]:
            _, hard = resource.getrlimit(getattr(resource, name))
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(getattr(resource, name), (bound, bound))
