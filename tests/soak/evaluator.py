"""A client that creates, uses and deletes sandboxes without end, through every failure, until somebody kills it.

`evaluator.py IMAGE LEASE MARK`; it says what it is about to do, a word a line: create, start, exec, delete, deleted.
"""

import asyncio
import sys

from prime_core.errors import PrimeError
from prime_sandboxes import AsyncSandboxClient, CreateSandboxRequest

AT_ONCE = 3


def say(word: str) -> None:
    print(word, flush=True)


async def once(client: AsyncSandboxClient, image: str, lease: float, mark: str) -> None:
    request = CreateSandboxRequest(
        name="soak",
        docker_image=image,
        start_command=["python", "server.py", "--port", "8000", "--mark", mark],
        port=8000,
        lease_seconds=lease,
        timeout_minutes=10,
    )
    say("create")
    box = await client.create(request)
    keeper = client.keep_alive(box.id, lease)
    try:
        say("start")
        await client.wait_for_creation(box.id)
        say("exec")
        for _ in range(3):
            await client.execute_command(box.id, "sleep 0.05; echo here", timeout=20)
        say("delete")
        await client.delete(box.id)
        say("deleted")
    finally:
        keeper.cancel()


async def worker(client: AsyncSandboxClient, image: str, lease: float, mark: str) -> None:
    while True:
        try:
            await once(client, image, lease, mark)
        except PrimeError as error:
            print(f"# {type(error).__name__}: {error}", flush=True)
            await asyncio.sleep(0.2)


async def main() -> None:
    image, lease, mark = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    async with AsyncSandboxClient() as client:
        await asyncio.gather(*(worker(client, image, lease, mark) for _ in range(AT_ONCE)))


if __name__ == "__main__":
    asyncio.run(main())
