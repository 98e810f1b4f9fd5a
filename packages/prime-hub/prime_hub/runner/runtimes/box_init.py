"""The first process of a box: it puts the image's tree in place, starts the server and does what the runner asks.

`python -I -S -E box_init.py CONFIG_FD`, with the image's interpreter (3.8 and up), so it imports little: every start
waits for it. It is process 1 of the box. Whoever takes it over from inside has what the box has, and nothing else: all
that it holds of the outside are sockets on which the runner is the one that connects.

Asked is over a unix socket (SOCK_SEQPACKET), one question a connection, as a marshalled dict with descriptors. Answers
are small JSON texts; contents go through pipes that the runner made.
"""

import _signal
import _socket
import errno
import marshal
import os
import select
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from box_spawn import become, copy_tree, failure, limit, only, quoted, tell

INLINE = b"I"
READ_BYTES = 65536
SCM_RIGHTS = 1
CLOSED_ON_EXEC = 0x40000000  # MSG_CMSG_CLOEXEC
IN, OUT, ENDED = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR


class Pair:
    """Two connected sockets whose bytes go both ways."""

    def __init__(self, init, one, other):
        self.init = init
        self.sides = {one.fileno(): one, other.fileno(): other}
        self.other = {one.fileno(): other, other.fileno(): one}
        self.held = dict.fromkeys(self.sides, b"")  # read there, not yet written to the other side
        self.ended = set()
        for number, side in self.sides.items():
            side.setblocking(False)
            init.watch(number, IN, self.ready)

    def ready(self, number, events):
        try:
            if events & OUT:
                self._write(self.other[number].fileno())
            if events & (IN | ENDED) and not self.held[number] and number not in self.ended:
                self._read(number)
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def _read(self, number):
        data = self.sides[number].recv(READ_BYTES)
        if not data:
            self.ended.add(number)
            self.other[number].shutdown(_socket.SHUT_WR)
            if len(self.ended) == 2:
                self.close()
                return
            self._watch(number)
            return
        self.held[number] = data
        self._write(number)

    def _write(self, source):
        target = self.other[source]
        if self.held[source]:
            try:
                sent = target.send(self.held[source])
            except BlockingIOError:
                sent = 0
            self.held[source] = self.held[source][sent:]
        self._watch(source)
        self._watch(target.fileno())

    def _watch(self, number):
        """Read there when what was read is gone, write there when something waits for it."""
        wanted = 0 if self.held[number] or number in self.ended else IN
        if self.held[self.other[number].fileno()]:
            wanted |= OUT
        self.init.change(number, wanted)

    def close(self):
        for number, side in self.sides.items():
            self.init.forget(number)
            side.close()


class Init:
    """The loop: one descriptor, one function."""

    def __init__(self, config):
        self.config = config
        self.epoll = select.epoll()
        self.handlers = {}
        self.wanted = {}
        self.children = {}  # process → what to call with its status
        self.lives = []
        self.ports = {}
        self.main = None
        read, write = os.pipe()
        for end in (read, write):
            os.set_blocking(end, False)
        _signal.signal(_signal.SIGCHLD, lambda *_: None)
        _signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
        self.watch(read, IN, self.reap)

    def watch(self, number, events, handler):
        self.handlers[number] = handler
        self.wanted[number] = events
        self.epoll.register(number, events)

    def change(self, number, events):
        """Wait for other events; none at all means that not even its end is of interest now."""
        before = self.wanted.get(number)
        if before is None or before == events:
            return
        self.wanted[number] = events
        if not events:
            self.epoll.unregister(number)
        elif not before:
            self.epoll.register(number, events)
        else:
            self.epoll.modify(number, events)

    def forget(self, number):
        if self.handlers.pop(number, None) is not None and self.wanted.pop(number):
            self.epoll.unregister(number)

    def loop(self):
        while True:
            for number, events in self.epoll.poll():
                handler = self.handlers.get(number)
                if handler is not None:
                    handler(number, events)

    def reap(self, number, events):
        try:
            os.read(number, 4096)
        except OSError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            called = self.children.pop(pid, None)
            if called is not None:
                called(code)

    # The server.

    def start(self):
        config = self.config
        control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, config["control"])
        control.setblocking(False)
        self.control = control
        for port, listener in config["listeners"]:
            self.listen(listener, port)
        taken, told = os.pipe()
        passed = []
        launched = config.get("launched")
        env = config["env"]
        if launched is not None and launched in self.ports:
            passed = [self.ports[launched].fileno(), told]
            env = dict(env, PRIME_BOX_LISTENER="%d:%d:%d" % (launched, passed[0], told))
            self.watch(taken, IN, lambda number, events: self.taken_over(number, launched))
        # Closed by the program that takes the child's place; a byte says that there is none.
        begun, failed = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                for number in passed:
                    os.set_inheritable(number, True)
                become(config["argv"], env, config["cwd"], (config["stdin"], 1, 2))
            except FileNotFoundError as error:
                what = "program" if error.strerror == "program" else "folder"
                os.write(2, ("There is no %s '%s' in the image.\n" % (what, error.filename)).encode())
            except OSError as error:
                os.write(2, ("The start command cannot be run: %s.\n" % error.strerror).encode())
            finally:
                os.write(failed, b"x")
                os._exit(127)
        os.close(failed)
        if os.read(begun, 1):
            # Whoever asks for its life finds nobody, and what was said last.
            os._exit(127)
        os.close(begun)
        os.close(told)
        if not passed:
            os.close(taken)
        os.close(config["stdin"])
        self.main = pid
        self.children[pid] = self.end
        self.watch(control.fileno(), IN, self.asked)
        if config.get("egress"):
            self.serve_egress(*config["egress"])

    def end(self, code):
        """The server has ended, and with this process everything in the box."""
        for connection in self.lives:
            tell(connection, '{"exit": %d}' % code)
        os._exit(code if code >= 0 else 128 - code)

    # Ports.

    def listen(self, listener, port):
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, listener)
        listener.setblocking(False)
        self.ports[port] = listener
        self.watch(listener.fileno(), IN, lambda number, events: self.forward(listener, _socket.AF_INET, port))

    def taken_over(self, number, port):
        """The server accepts by itself now; it is gone together with the box."""
        self.forget(number)
        os.close(number)
        self.forget(self.ports[port].fileno())

    def serve_egress(self, port, path):
        listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        try:
            listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen(128)
        except OSError:
            return
        listener.setblocking(False)
        self.watch(listener.fileno(), IN, lambda number, events: self.forward(listener, _socket.AF_UNIX, path))

    def forward(self, listener, family, where):
        try:
            number, _ = listener._accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR, errno.ECONNABORTED, errno.EMFILE, errno.ENFILE):
                self.forget(listener.fileno())
            return
        client = _socket.socket(listener.family, _socket.SOCK_STREAM, 0, number)
        server = None
        try:
            server = _socket.socket(family, _socket.SOCK_STREAM)
            server.setblocking(False)
            if family == _socket.AF_UNIX:
                server.connect(where)
            else:
                server.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                server.connect(("127.0.0.1", where))
            Pair(self, client, server)
        except BlockingIOError:
            # On loopback a server whose backlog is full is the one thing that makes it wait.
            self.watch(server.fileno(), OUT, lambda number, events: self.connected(client, server))
        except OSError:
            client.close()
            if server is not None:
                server.close()

    def connected(self, client, server):
        self.forget(server.fileno())
        try:
            if server.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR):
                raise OSError
            Pair(self, client, server)
        except OSError:
            client.close()
            server.close()

    # Questions.

    def asked(self, number, events):
        try:
            accepted, _ = self.control._accept()
        except OSError:
            return
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, accepted)
        connection.setblocking(False)
        self.watch(accepted, IN, lambda number, events: self.first(connection))

    def first(self, connection):
        self.forget(connection.fileno())
        try:
            data, ancillary, _, _ = connection.recvmsg(READ_BYTES, _socket.CMSG_SPACE(4 * 8), CLOSED_ON_EXEC)
        except BlockingIOError:
            # Woken for another one, that had this number before.
            self.watch(connection.fileno(), IN, lambda number, events: self.first(connection))
            return
        except OSError:
            connection.close()
            return
        descriptors = []
        for level, kind, content in ancillary:
            if level == _socket.SOL_SOCKET and kind == SCM_RIGHTS:
                whole = content[: len(content) - len(content) % 4]
                descriptors += [int.from_bytes(whole[at : at + 4], sys.byteorder) for at in range(0, len(whole), 4)]
        try:
            if not data:
                raise ValueError
            if data[:1] == INLINE:
                question = marshal.loads(data[1:])
            else:
                question = marshal.loads(os.pread(descriptors[0], os.fstat(descriptors[0]).st_size, 0))
                os.close(descriptors.pop(0))
            getattr(self, "do_" + question["do"])(connection, question, descriptors)
        except OSError as error:
            tell(connection, failure(error))
            connection.close()
        except (ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError):
            connection.close()
        finally:
            for number in descriptors:
                try:
                    os.close(number)
                except OSError:
                    pass

    def do_life(self, connection, question, descriptors):
        """Tell how it goes: that the server was started, and later how it ended."""
        self.lives.append(connection)
        tell(connection, '{"pid": %d}' % self.main)

    def do_term(self, connection, question, descriptors):
        """Ask everything to end."""
        try:
            os.kill(-1, _signal.SIGTERM)
        except OSError:
            pass
        tell(connection, "{}")
        connection.close()

    def do_listen(self, connection, question, descriptors):
        """Forward another port."""
        self.listen(descriptors.pop(0), question["port"])
        tell(connection, "{}")
        connection.close()

    def do_run(self, connection, question, descriptors):
        """Start a command: {"pid"}, then {"exit"}; until then {"signal": n} may be sent."""
        pid = os.fork()
        if pid == 0:
            self.run(connection, question, descriptors)
        number = connection.fileno()

        def ended(code):
            tell(connection, '{"exit": %d}' % code)
            self.forget(number)
            connection.close()

        self.children[pid] = ended
        self.watch(number, IN, lambda number, events: self.more(connection, pid))

    @staticmethod
    def run(connection, question, descriptors):
        try:
            os.setsid()
            pid = os.getpid()
            become(
                question["argv"],
                question["env"],
                question["cwd"],
                descriptors,
                question["terminal"],
                lambda: tell(connection, '{"pid": %d}' % pid),
            )
        except OSError as error:
            missing = error.strerror == "program"
            tell(connection, '{"missing": %s}' % quoted(error.filename) if missing else failure(error))
        finally:
            os._exit(127)

    def more(self, connection, pid):
        """A signal for a command, or the end of whoever wanted it."""
        try:
            data = connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        number = _signal.SIGKILL
        if data:
            number = int(data)
        else:
            self.forget(connection.fileno())
        if pid in self.children:
            try:
                os.killpg(pid, number)
            except OSError:
                pass

    def do_work(self, connection, question, descriptors):
        """Anything that takes its time: a process of its own does it, with the module `box_work`."""
        pid = os.fork()
        if pid == 0:
            try:
                only({connection.fileno(), *descriptors})
                _signal.set_wakeup_fd(-1)
                _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
                connection.setblocking(True)
                import box_work

                box_work.work(connection, question, descriptors)
            except BaseException:
                pass
            finally:
                os._exit(0)
        connection.close()


def main():
    number = int(sys.argv[1])
    with open(number, "rb") as file:
        config = marshal.loads(file.read())
    os.umask(0o022)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:
                pass
    limit(config)
    init = Init(config)
    try:
        for folder in config["folders"]:
            os.makedirs(folder, exist_ok=True)
            if folder not in ("/tmp", "/var/tmp"):
                os.chmod(folder, 0o755)
        for path, text in config["files"].items():
            with open(path, "w") as file:
                file.write(text)
        copy_tree(config["image"], "/")
    except OSError as error:
        os.write(2, ("The image does not fit into the sandbox's disk: %s.\n" % error.strerror).encode())
        os._exit(126)
    init.start()
    init.loop()


if __name__ == "__main__":
    main()
