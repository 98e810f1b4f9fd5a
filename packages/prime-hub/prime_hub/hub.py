"""One Hub: its services, wired together once. The app, the command line and the tests all hold this object."""

from __future__ import annotations

import asyncio

from prime_core.paths import served_wheels_dir
from prime_hub.db.migrate import migrate
from prime_hub.db.session import Database
from prime_hub.operations.metrics import Metrics
from prime_hub.services.accounts import Accounts
from prime_hub.services.blobs import BlobStore
from prime_hub.services.builds import Builder
from prime_hub.services.catalogue import Catalogue
from prime_hub.services.challenges import Challenges
from prime_hub.services.check_run import CheckRuns
from prime_hub.services.checks import Checks
from prime_hub.services.cleaning import Cleaning
from prime_hub.services.comparing import Comparing
from prime_hub.services.distributions import Distributions
from prime_hub.services.evaluation_reports import Reports
from prime_hub.services.evaluation_samples import EvaluationSamples
from prime_hub.services.evaluations import Evaluations
from prime_hub.services.forking import Forking
from prime_hub.services.given import Giving
from prime_hub.services.hosted import Hosted
from prime_hub.services.hosted_evaluations import HostedEvaluations
from prime_hub.services.hosted_run import HostedRuns
from prime_hub.services.image_changes import ImageChanges
from prime_hub.services.images import Images
from prime_hub.services.jobs import Jobs
from prime_hub.services.keys import Signer, same_key, the_key
from prime_hub.services.logs import Logs
from prime_hub.services.managing import Managing
from prime_hub.services.model_endpoints import Endpoints
from prime_hub.services.owners import Owners
from prime_hub.services.packages import Packages
from prime_hub.services.ports import Ports
from prime_hub.services.pruning import Pruning
from prime_hub.services.publishing import Publishing
from prime_hub.services.queue import Queue
from prime_hub.services.recipes import Recipes
from prime_hub.services.runner import Runner
from prime_hub.services.sandbox_io import SandboxIO
from prime_hub.services.sandboxes import Sandboxes
from prime_hub.services.searching import prepare
from prime_hub.services.secrets import Secrets
from prime_hub.services.sessions import Sessions
from prime_hub.services.signals import Signals
from prime_hub.services.signing_in import SigningIn
from prime_hub.services.sources import Sources
from prime_hub.services.spares import Spares
from prime_hub.services.stars import Stars
from prime_hub.services.starting import Starter
from prime_hub.services.statuses import Statuses
from prime_hub.services.sweep import Sweep
from prime_hub.services.teams import Teams
from prime_hub.services.tokens import Tokens
from prime_hub.services.transfers import Transfers
from prime_hub.services.usage import Usage
from prime_hub.services.variables import Variables
from prime_hub.services.vault import Vault
from prime_hub.settings import Settings


def open_blobs(settings: Settings) -> BlobStore:
    """The store that the settings name. Raises Invalid."""
    return BlobStore(
        settings.blobs_dir,
        settings.blobs_url,
        presigned=settings.presigned_urls,
        endpoint=settings.blobs_public_endpoint,
    )


class Hub:
    """Everything a request can ask for. `open` before use, `close` after."""

    def __init__(self, settings: Settings) -> None:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.settings = settings
        self.id = ""
        self.closing = asyncio.Event()
        self.database = Database(settings.database)
        self.metrics = Metrics()
        self.blobs = open_blobs(settings)
        self._key = key = the_key(settings)
        self.signer = Signer(key)
        self.vault = vault = Vault(key)
        self.accounts = Accounts(settings, self.database)
        self.tokens = Tokens(self.database)
        self.tokens.on_revoke.append(self.accounts.ensure_owner)
        self.sessions = Sessions(self.database)
        self.signing_in = SigningIn(settings, self.accounts, self.sessions)
        self.challenges = Challenges(self.database)
        self.teams = Teams(self.database)
        self.catalogue = Catalogue(self.database)
        self.owners = Owners(self.database, self.catalogue)
        self.sources = Sources(self.blobs)
        self.comparing = Comparing(self.catalogue, self.sources)
        self.packages = Packages(self.database, self.blobs)
        self.usage = Usage(self.database)
        self.publishing = Publishing(settings, self.database, self.blobs)
        self.managing = Managing(self.database, self.blobs)
        self.transfers = Transfers(self.database)
        self.forking = Forking(self.database, self.catalogue)
        self.stars = Stars(self.database, self.catalogue)
        self.secrets = Secrets(self.database, vault)
        self.variables = Variables(self.database)
        self.giving = Giving(self.database, vault)
        self.distributions = Distributions(served_wheels_dir())
        self.evaluations = Evaluations(self.database, self.blobs, self.usage)
        self.evaluation_samples = EvaluationSamples(self.database, self.blobs)
        self.reports = Reports(self.database)
        self.runner = Runner(settings)
        self.signals = Signals(self.closing)
        self.jobs = Jobs(self.database)
        self.images = Images(settings, self.database, self.blobs, self.jobs, self.signals, self.runner)
        self.builder = Builder(settings, self.database, self.blobs, self.jobs, self.signals, self.runner, self.images)
        self.queue = Queue(settings, self.database)
        self.starter = Starter(self.database, self.signals, self.runner, self.queue, self.giving)
        self.spares = Spares(settings, self.runner)
        self.sandboxes = Sandboxes(
            settings,
            self.database,
            self.images,
            self.signals,
            self.runner,
            self.queue,
            self.starter,
            self.spares,
            self.giving,
        )
        self.builder.on_end.append(self.starter.fetched)
        self.image_changes = ImageChanges(self.database, self.blobs, self.runner, self.images, self.spares)
        self.sandbox_io = SandboxIO(settings, self.database, self.sandboxes, self.runner)
        self.logs = Logs(self.sandboxes, self.signals, self.runner)
        self.statuses = Statuses(self.database, self.sandboxes, self.signals)
        self.ports = Ports(self.database, self.sandboxes, self.sandbox_io)
        # One Hub holds an SQLite data folder for itself; on a shared database others may be at work.
        self.alone = settings.database_url is None
        self.hosted = Hosted(self.database, self.runner)
        self.recipes = Recipes(self.catalogue, self.blobs, served_wheels_dir())
        runs = CheckRuns(settings, self.blobs, self.runner, self.images.access, self.hosted, self.recipes)
        self.checks = Checks(settings, self.database, self.jobs, self.signals, runs)
        endpoints = Endpoints(settings.model_endpoints)
        plays = HostedRuns(
            settings,
            self.blobs,
            self.runner,
            self.images.access,
            self.giving,
            self.hosted,
            self.recipes,
            endpoints,
        )
        self.hosted_evaluations = HostedEvaluations(
            settings,
            self.database,
            self.jobs,
            self.signals,
            self.evaluations,
            self.evaluation_samples,
            plays,
            endpoints,
        )
        self.sweep = Sweep(self.database, self.runner, self.images, self.starter, self.spares, self.hosted, self.alone)
        self.cleaning = Cleaning(self.database, self.blobs)
        self.pruning = Pruning(settings, self.database, self.blobs, self.runner, self.spares)

    async def open(self) -> None:
        """Bring the database to the newest schema and make the local owner. Starts nothing in the background."""
        await migrate(self.database.engine, self.settings.data_dir)
        await prepare(self.database)
        if self.settings.database_url is not None:
            await same_key(self.database, self._key)
        self.id = await self.accounts.hub_id()
        await self.accounts.ensure_owner()

    async def start(self) -> None:
        """Open, and begin the work in the background: the runner, the jobs, the sweeps."""
        await self.open()
        await self.sweep.start()
        self.runner.start()
        self.spares.start()
        self.cleaning.start()
        self.pruning.start()
        self.usage.start()
        await self.jobs.start(alone=self.alone)

    async def stop(self) -> None:
        """End the work in the background and let go of the runner, whose sandboxes go on."""
        self.closing.set()
        await self.usage.stop()
        await self.pruning.stop()
        await self.cleaning.stop()
        await self.jobs.stop()
        await self.sweep.stop()
        await self.starter.stop()
        await self.spares.stop()
        await self.runner.stop()
        await self.close()

    async def close(self) -> None:
        """Close the database and what is open to servers in sandboxes."""
        await self.ports.close()
        await self.database.close()
