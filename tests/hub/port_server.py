"""A server of the standard library alone, for a sandbox: HTTP and WebSocket, polite and rude. Run as `--port N`."""

import asyncio
import base64
import hashlib
import json
import struct
import sys
from urllib.parse import parse_qs, urlsplit

RUDE = {
    "/cookie": [
        ("Set-Cookie", "session=stolen; Path=/"),
        ("Clear-Site-Data", '"*"'),
        ("Refresh", "0; url=/login"),
        ("Service-Worker-Allowed", "/"),
        ("Content-Security-Policy", "default-src *"),
        ("WWW-Authenticate", "Basic"),
        ("X-Own", "kept"),
        ("X-Own", "twice"),
        ("Content-Type", "text/html"),
    ]
}
RECEIVED = 0


async def serve(reader, writer):
    global RECEIVED
    try:
        while True:
            line = await reader.readline()
            if not line:
                return
            method, target, _ = line.decode().split()
            headers = []
            while (line := await reader.readline()).strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers.append((name.strip().lower(), value.strip()))
            given = dict(headers)
            if given.get("upgrade", "").lower() == "websocket":
                await websocket(target, given, reader, writer)
                return
            body = b""
            if "content-length" in given:
                size = int(given["content-length"])
                RECEIVED = 0
                while size > RECEIVED:
                    data = await reader.read(min(65536, size - RECEIVED))
                    if not data:
                        return
                    RECEIVED += len(data)
                    body = data
            elif "transfer-encoding" in given:
                while size := int((await reader.readline()).strip(), 16):
                    body += await reader.readexactly(size)
                    await reader.readline()
                await reader.readline()
            await answer(method, target, headers, body, reader, writer)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def answer(method, target, headers, body, reader, writer):
    path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
    status, more = 200, [("Content-Type", "application/json")]
    content = json.dumps({"method": method, "target": target, "headers": headers, "received": RECEIVED}).encode()
    if path == "/echo":
        content = body
    elif path == "/redirect":
        status, more = 302, [("Location", query["to"][0])]
    elif path in RUDE:
        more = RUDE[path]
    elif path == "/broken":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.")
        writer.close()
        return
    elif path == "/garbage":
        writer.write(b"220 mail.example.org ESMTP\r\n")
        writer.close()
        return
    elif path == "/held":
        print("somebody waits", flush=True)
        await reader.read(1)
        return
    elif path == "/drip":
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n")
        await writer.drain()
        # Until the client goes, or asks for more with another byte.
        if await reader.read(1):
            writer.write(b"4\r\ntwo\n\r\n0\r\n\r\n")
        else:
            print("the client of the drip has gone", flush=True)
        return
    lines = [f"HTTP/1.1 {status} OK", f"Content-Length: {len(content)}", *(f"{name}: {value}" for name, value in more)]
    writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else content))
    await writer.drain()


async def websocket(target, headers, reader, writer):
    path = urlsplit(target).path
    if path != "/ws":
        status = {"/missing": "404 Not Found", "/moved": "302 Found\r\nLocation: /login"}.get(path, "403 Forbidden")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        return
    key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    chosen = headers.get("sec-websocket-protocol", "").split(",")[-1].strip()
    protocol = f"Sec-WebSocket-Protocol: {chosen}\r\n" if chosen else ""
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{protocol}\r\n".encode()
    )
    send(writer, 1, json.dumps({"headers": headers, "target": target}).encode())
    while True:
        kind, data = await frame(reader)
        if kind == 8:
            print("closed with", struct.unpack(">H", data[:2])[0] if data else None, data[2:].decode(), flush=True)
            send(writer, 8, data)
            await writer.drain()
            return
        if kind == 1 and data == b"close":
            send(writer, 8, struct.pack(">H", 4001) + b"as you wish")
        elif kind == 1 and data == b"die":
            return
        elif kind in (1, 2):
            send(writer, kind, data)
        await writer.drain()


async def frame(reader):
    kind, data = 0, b""
    while True:
        first, second = await reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", await reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await reader.readexactly(8))
        mask = await reader.readexactly(4)
        part = await reader.readexactly(size)
        length = len(part)
        long = (mask * (length // 4 + 1))[:length]
        data += (int.from_bytes(part, "big") ^ int.from_bytes(long, "big")).to_bytes(length, "big") if length else b""
        kind = first & 0x0F or kind
        if first & 0x80:
            return kind, data


def send(writer, kind, data):
    size = len(data)
    head = (
        bytes([size])
        if size < 126
        else struct.pack(">BH", 126, size)
        if size < 65536
        else struct.pack(">BQ", 127, size)
    )
    writer.write(bytes([0x80 | kind]) + head + data)


async def main():
    port = int(sys.argv[sys.argv.index("--port") + 1])
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    print("listening", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
