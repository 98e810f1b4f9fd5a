"""SDK for images and sandboxes: create, run in, reach, delete.

    from prime_sandboxes import Sandbox

    with Sandbox.create("my-env:latest") as box:
        print(box.run("python --version").stdout)
        for stream, text in box.stream("pip list"):
            print(text, end="")

Every name is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prime_sandboxes.client import AsyncSandboxClient as AsyncSandboxClient
    from prime_sandboxes.commands import AsyncCommandStream as AsyncCommandStream
    from prime_sandboxes.commands import Printed as Printed
    from prime_sandboxes.exceptions import APIError as APIError
    from prime_sandboxes.exceptions import APITimeoutError as APITimeoutError
    from prime_sandboxes.exceptions import BatchStatusUnsupportedError as BatchStatusUnsupportedError
    from prime_sandboxes.exceptions import CommandError as CommandError
    from prime_sandboxes.exceptions import CommandFailedError as CommandFailedError
    from prime_sandboxes.exceptions import CommandTimeoutError as CommandTimeoutError
    from prime_sandboxes.exceptions import DownloadTimeoutError as DownloadTimeoutError
    from prime_sandboxes.exceptions import PaymentRequiredError as PaymentRequiredError
    from prime_sandboxes.exceptions import SandboxFileNotFoundError as SandboxFileNotFoundError
    from prime_sandboxes.exceptions import SandboxFileTooLargeError as SandboxFileTooLargeError
    from prime_sandboxes.exceptions import SandboxImagePullError as SandboxImagePullError
    from prime_sandboxes.exceptions import SandboxNotRunningError as SandboxNotRunningError
    from prime_sandboxes.exceptions import SandboxOOMError as SandboxOOMError
    from prime_sandboxes.exceptions import SandboxTimeoutError as SandboxTimeoutError
    from prime_sandboxes.exceptions import TimeoutError as TimeoutError  # noqa: A004
    from prime_sandboxes.exceptions import UnauthorizedError as UnauthorizedError
    from prime_sandboxes.exceptions import UploadTimeoutError as UploadTimeoutError
    from prime_sandboxes.files import AsyncFiles as AsyncFiles
    from prime_sandboxes.images import AsyncImageClient as AsyncImageClient
    from prime_sandboxes.leases import LeaseKeeper as LeaseKeeper
    from prime_sandboxes.live import AsyncSandbox as AsyncSandbox
    from prime_sandboxes.models import BackgroundJob as BackgroundJob
    from prime_sandboxes.models import BackgroundJobStatus as BackgroundJobStatus
    from prime_sandboxes.models import BatchSandboxStatusResponse as BatchSandboxStatusResponse
    from prime_sandboxes.models import BulkDeleteSandboxResponse as BulkDeleteSandboxResponse
    from prime_sandboxes.models import Capacity as Capacity
    from prime_sandboxes.models import CommandInfo as CommandInfo
    from prime_sandboxes.models import CommandResponse as CommandResponse
    from prime_sandboxes.models import CreateSandboxRequest as CreateSandboxRequest
    from prime_sandboxes.models import EgressPolicy as EgressPolicy
    from prime_sandboxes.models import EgressPolicyStatus as EgressPolicyStatus
    from prime_sandboxes.models import ErrorContext as ErrorContext
    from prime_sandboxes.models import ExposedPort as ExposedPort
    from prime_sandboxes.models import FileInfo as FileInfo
    from prime_sandboxes.models import FileUploadResponse as FileUploadResponse
    from prime_sandboxes.models import Image as Image
    from prime_sandboxes.models import ImageBuild as ImageBuild
    from prime_sandboxes.models import ReadFileResponse as ReadFileResponse
    from prime_sandboxes.models import Sandbox as Sandbox
    from prime_sandboxes.models import SandboxListResponse as SandboxListResponse
    from prime_sandboxes.models import SandboxOptions as SandboxOptions
    from prime_sandboxes.models import SandboxStatus as SandboxStatus
    from prime_sandboxes.models import SandboxStatusError as SandboxStatusError
    from prime_sandboxes.models import SandboxStatusItem as SandboxStatusItem
    from prime_sandboxes.models import Usage as Usage
    from prime_sandboxes.process import AsyncSandboxProcess as AsyncSandboxProcess
    from prime_sandboxes.process import Output as Output
    from prime_sandboxes.sync import CommandStream as CommandStream
    from prime_sandboxes.sync import Files as Files
    from prime_sandboxes.sync import ImageClient as ImageClient
    from prime_sandboxes.sync import RunningSandbox as RunningSandbox
    from prime_sandboxes.sync import SandboxClient as SandboxClient
    from prime_sandboxes.sync import SandboxProcess as SandboxProcess
    from prime_sandboxes.transport import APIClient as APIClient
    from prime_sandboxes.transport import AsyncAPIClient as AsyncAPIClient

_HOME = {
    "client": ["AsyncSandboxClient"],
    "commands": ["AsyncCommandStream", "Printed"],
    "exceptions": [
        "APIError",
        "APITimeoutError",
        "BatchStatusUnsupportedError",
        "CommandError",
        "CommandFailedError",
        "CommandTimeoutError",
        "DownloadTimeoutError",
        "PaymentRequiredError",
        "SandboxFileNotFoundError",
        "SandboxFileTooLargeError",
        "SandboxImagePullError",
        "SandboxNotRunningError",
        "SandboxOOMError",
        "SandboxTimeoutError",
        "TimeoutError",
        "UnauthorizedError",
        "UploadTimeoutError",
    ],
    "files": ["AsyncFiles"],
    "images": ["AsyncImageClient"],
    "leases": ["LeaseKeeper"],
    "live": ["AsyncSandbox"],
    "models": [
        "BackgroundJob",
        "BackgroundJobStatus",
        "BatchSandboxStatusResponse",
        "BulkDeleteSandboxResponse",
        "Capacity",
        "CommandInfo",
        "CommandResponse",
        "CreateSandboxRequest",
        "EgressPolicy",
        "EgressPolicyStatus",
        "ErrorContext",
        "ExposedPort",
        "FileInfo",
        "FileUploadResponse",
        "Image",
        "ImageBuild",
        "ReadFileResponse",
        "Sandbox",
        "SandboxListResponse",
        "SandboxOptions",
        "SandboxStatus",
        "SandboxStatusError",
        "SandboxStatusItem",
        "Usage",
    ],
    "process": ["AsyncSandboxProcess", "Output"],
    "sync": ["CommandStream", "Files", "ImageClient", "RunningSandbox", "SandboxClient", "SandboxProcess"],
    "transport": ["APIClient", "AsyncAPIClient"],
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE)


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
