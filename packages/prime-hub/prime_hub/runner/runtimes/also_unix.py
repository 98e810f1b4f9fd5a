"""Runs uvicorn as its own command does, and lets it listen on a unix socket beside its TCP port.

`python also_unix.py FOLDER [uvicorn's arguments]` makes FOLDER/PORT.sock. An image's interpreter runs this file, of
whatever version and with whatever uvicorn, so it imports nothing else and leaves uvicorn as it is where in doubt.
"""

import os
import socket
import sys
from pathlib import Path

# A client on a unix socket has no address; by this uvicorn takes the one that it names in X-Forwarded-For.
TRUST_VARIABLE = "FORWARDED_ALLOW_IPS"
EVERYBODY = "*"


def listen_also_in(folder, server_class):
    """From now on, servers of that uvicorn class listen in `folder` too."""
    serve = server_class.serve

    async def serve_both(self, sockets=None):
        path = _path(folder, self.config) if sockets is None else None
        await serve(self, sockets=sockets if path is None else _listeners(path, self.config))

    server_class.serve = serve_both


def _path(folder, config):
    """Where the socket is to be; None where a second one would not do what the first one does."""
    alone = config.uds is None and config.fd is None and config.workers == 1 and not config.is_ssl
    named = isinstance(config.host, str) and config.host and isinstance(config.port, int) and config.port
    trusting = config.proxy_headers and config.forwarded_allow_ips == EVERYBODY
    return Path(folder) / f"{config.port}.sock" if alone and named and trusting else None


def _listeners(path, config):
    # The port first: whoever holds it holds the socket of its number.
    tcp = config.bind_socket()
    tcp.set_inheritable(False)
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists():  # of a server that was there before
            path.unlink()
        unix.bind(str(path))
    except OSError:
        unix.close()
        return [tcp]
    # Listened on in this order, so that the socket is there once the port answers.
    return [unix, tcp]


def main():
    """As `uvicorn ARGUMENTS`."""
    folder = sys.argv[1]
    # A console script has another folder there, without modules of ours.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != here]
    sys.argv[:] = ["uvicorn", *sys.argv[2:]]
    os.environ.setdefault(TRUST_VARIABLE, EVERYBODY)

    import uvicorn
    from uvicorn.main import main as uvicorn_main

    listen_also_in(folder, uvicorn.Server)
    uvicorn_main()


if __name__ == "__main__":
    main()
