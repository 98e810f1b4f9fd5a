"""One Hub: its services, wired together once. The app, the command line and the tests all hold this object."""

from __future__ import annotations

import asyncio

from prime_core.paths import served_wheels_dir
from prime_hub.db.migrate import migrate
from prime_hub.db.session import Database
from prime_hub.services.accounts import Accounts
from prime_hub.services.blobs import BlobStore
from prime_hub.services.builds import Builder
from prime_hub.services.catalogue import Catalogue
from prime_hub.services.cleaning import Cleaning
from prime_hub.services.distributions import Distributions
from prime_hub.services.images import Images
from prime_hub.services.jobs import Jobs
from prime_hub.services.keys import Signer, load_secret_key
from prime_hub.services.publishing import Publishing
from prime_hub.services.runner import Runner
from prime_hub.services.sandbox_io import SandboxIO
from prime_hub.services.sandboxes import Sandboxes
from prime_hub.services.signals import Signals
from prime_hub.services.sweep import Sweep
from prime_hub.settings import Settings


class Hub:
    """Everything a request can ask for. `open` before use, `close` after."""

    def __init__(self, settings: Settings) -> None:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.settings = settings
        self.id = ""
        self.closing = asyncio.Event()
        self.database = Database(settings.database)
        self.blobs = BlobStore(settings.blobs_dir)
        self.signer = Signer(load_secret_key(settings.secret_key_file))
        self.accounts = Accounts(settings, self.database)
        self.catalogue = Catalogue(self.database, self.blobs)
        self.publishing = Publishing(settings, self.database, self.blobs)
        self.distributions = Distributions(served_wheels_dir())
        self.runner = Runner(settings)
        self.signals = Signals(self.closing)
        self.jobs = Jobs(self.database)
        self.images = Images(settings, self.database, self.blobs, self.jobs, self.signals, self.runner)
        self.builder = Builder(self.database, self.blobs, self.jobs, self.signals, self.runner)
        self.sandboxes = Sandboxes(settings, self.database, self.images, self.signals, self.runner)
        self.sandbox_io = SandboxIO(settings, self.database, self.sandboxes, self.runner)
        self.sweep = Sweep(self.database, self.sandboxes, self.runner)
        self.cleaning = Cleaning(self.database, self.blobs)

    async def open(self) -> None:
        """Bring the database to the newest schema and make the local owner. Starts nothing in the background."""
        await migrate(self.database.engine, self.settings.data_dir)
        self.id = await self.accounts.hub_id()
        await self.accounts.ensure_owner()

    async def start(self) -> None:
        """Open, and begin the work in the background: the runner, the jobs, the sweeps."""
        await self.open()
        self.sweep.start()
        self.runner.start()
        self.cleaning.start()
        # One Hub holds an SQLite data folder for itself; on a shared database others may be at work.
        await self.jobs.start(alone=self.settings.database_url is None)

    async def stop(self) -> None:
        """End the work in the background and let go of the runner, whose sandboxes go on."""
        self.closing.set()
        await self.cleaning.stop()
        await self.jobs.stop()
        await self.sweep.stop()
        await self.sandboxes.stop()
        await self.runner.stop()
        await self.close()

    async def close(self) -> None:
        """Close the database."""
        await self.database.close()
