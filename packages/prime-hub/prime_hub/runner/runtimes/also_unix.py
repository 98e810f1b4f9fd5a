"""Runs uvicorn as its own command does, and lets it listen on a unix socket beside its TCP port.

`python also_unix.py FOLDER [-m] [uvicorn's arguments]` makes FOLDER/PORT.sock; with `-m` as `python -m uvicorn`, which
finds modules in the working folder too. With `box` for FOLDER it takes over the listening socket that it was started
with: PRIME_BOX_LISTENER is `PORT:DESCRIPTOR:CONTROL`, and the end of CONTROL says that it did. An image's interpreter runs this file, of whatever version and with whatever
uvicorn, so it imports nothing else and leaves uvicorn as it is where in doubt.
"""

import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path

# Whoever reaches the socket is on this machine, and has no address of its own there.
CLIENT = ("127.0.0.1", 0)


def listen_also_in(folder, server_class):
    """From now on, servers of that uvicorn class listen in `folder` too."""
    startup = server_class.startup
    inherited = _inherited() if folder == "box" else None

    async def start_both(self, sockets=None):
        path = _path(folder, self.config) if sockets is None else None
        if path is None or (inherited is not None and self.config.port != inherited[0]):
            await startup(self, sockets=sockets)
            return
        unix = []
        loop = asyncio.get_running_loop()
        create_server = loop.create_server

        async def create_both(protocol_factory, host=None, port=None, **options):
            # The port first: whoever holds it holds the socket of its number.
            server = await create_server(protocol_factory, host, port, **options)
            # An application may make servers of its own while it starts up.
            if not unix and (host, port) == (self.config.host, self.config.port):
                address = tuple(server.sockets[0].getsockname()[:2])
                self.config.loaded_app = _with_addresses(self.config.loaded_app, address)
                with contextlib.suppress(OSError):
                    backlog = self.config.backlog
                    if inherited is None:
                        unix.append(await loop.create_unix_server(protocol_factory, path, backlog=backlog))
                    else:
                        listener = socket.socket(fileno=os.dup(inherited[1]))
                        unix.append(await loop.create_unix_server(protocol_factory, sock=listener, backlog=backlog))
                        os.close(inherited[2])
            return server

        loop.create_server = create_both
        try:
            await startup(self, sockets=sockets)
        finally:
            loop.create_server = create_server
        self.servers.extend(unix)

    server_class.startup = start_both


def _path(folder, config):
    """Where the socket is to be; None where a second one would not do what the first one does."""
    try:
        alone = config.uds is None and config.fd is None and config.workers == 1 and not config.is_ssl
        named = isinstance(config.host, str) and config.host and isinstance(config.port, int) and config.port
    except AttributeError:
        return None
    return str(Path(folder) / f"{config.port}.sock") if alone and named else None


def _inherited():
    """(port, its listening socket, what tells that it was taken over); none of the three for nobody else."""
    numbers = [int(number) for number in os.environ.pop("PRIME_BOX_LISTENER", "0:0:0").split(":")]
    for number in numbers[1:]:
        if number > 2:
            os.set_inheritable(number, False)
    return numbers


def _with_addresses(app, address):
    """The application, to which a client on the socket looks like one of this machine on the port's address."""

    async def told(scope, receive, send):
        server = scope.get("server")
        if scope["type"] != "lifespan" and scope.get("client") is None and (server is None or server[1] is None):
            scope["client"], scope["server"] = CLIENT, address
        await app(scope, receive, send)

    return told


def main():
    """As `uvicorn ARGUMENTS`, or as `python -m uvicorn ARGUMENTS`."""
    folder, *arguments = sys.argv[1:]
    # A console script has another folder there, without modules of ours, and `-m` the working folder.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != here]
    if arguments[:1] == ["-m"]:
        del arguments[0]
        if not getattr(sys.flags, "safe_path", False):
            sys.path.insert(0, str(Path.cwd()))
    sys.argv[:] = ["uvicorn", *arguments]

    import uvicorn
    from uvicorn.main import main as uvicorn_main

    listen_also_in(folder, uvicorn.Server)
    uvicorn_main()


if __name__ == "__main__":
    main()
