"""SDK for images and sandboxes: create, run in, reach, delete.

    from prime_sandboxes import CreateSandboxRequest, SandboxClient

    with SandboxClient() as client:
        sandbox = client.create(CreateSandboxRequest(name="try", docker_image="my-env:latest"))
        client.wait_for_creation(sandbox.id)
        print(client.execute_command(sandbox.id, "python --version").stdout)
        client.delete(sandbox.id)

Every name is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prime_sandboxes.client import AsyncSandboxClient as AsyncSandboxClient
    from prime_sandboxes.exceptions import APIError as APIError
    from prime_sandboxes.exceptions import APITimeoutError as APITimeoutError
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
    from prime_sandboxes.images import AsyncImageClient as AsyncImageClient
    from prime_sandboxes.leases import LeaseKeeper as LeaseKeeper
    from prime_sandboxes.models import BulkDeleteSandboxResponse as BulkDeleteSandboxResponse
    from prime_sandboxes.models import Capacity as Capacity
    from prime_sandboxes.models import CommandResponse as CommandResponse
    from prime_sandboxes.models import CreateSandboxRequest as CreateSandboxRequest
    from prime_sandboxes.models import ErrorContext as ErrorContext
    from prime_sandboxes.models import ExposedPort as ExposedPort
    from prime_sandboxes.models import FileUploadResponse as FileUploadResponse
    from prime_sandboxes.models import Image as Image
    from prime_sandboxes.models import ImageBuild as ImageBuild
    from prime_sandboxes.models import ReadFileResponse as ReadFileResponse
    from prime_sandboxes.models import Sandbox as Sandbox
    from prime_sandboxes.models import SandboxListResponse as SandboxListResponse
    from prime_sandboxes.models import SandboxStatus as SandboxStatus
    from prime_sandboxes.models import Usage as Usage
    from prime_sandboxes.sync import ImageClient as ImageClient
    from prime_sandboxes.sync import SandboxClient as SandboxClient
    from prime_sandboxes.transport import APIClient as APIClient
    from prime_sandboxes.transport import AsyncAPIClient as AsyncAPIClient

_HOME = {
    "client": ["AsyncSandboxClient"],
    "exceptions": [
        *("APIError", "APITimeoutError", "CommandTimeoutError", "DownloadTimeoutError", "PaymentRequiredError"),
        *("SandboxFileNotFoundError", "SandboxFileTooLargeError", "SandboxImagePullError", "SandboxNotRunningError"),
        *("SandboxOOMError", "SandboxTimeoutError", "TimeoutError", "UnauthorizedError", "UploadTimeoutError"),
    ],
    "images": ["AsyncImageClient"],
    "leases": ["LeaseKeeper"],
    "models": [
        *("BulkDeleteSandboxResponse", "Capacity", "CommandResponse", "CreateSandboxRequest", "ErrorContext"),
        "ExposedPort",
        *("FileUploadResponse", "Image", "ImageBuild", "ReadFileResponse", "Sandbox", "SandboxListResponse"),
        *("SandboxStatus", "Usage"),
    ],
    "sync": ["ImageClient", "SandboxClient"],
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
