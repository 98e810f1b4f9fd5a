"""The blobs of a Hub under test: its own folder, or, with PRIME_TEST_S3=s3://BUCKET, a prefix of its own in a bucket.

A server for that is started by script/s3, whose `env` also prints the AWS_… variables.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tests.support.databases import run


def on_s3() -> bool:
    """Whether Hubs under test keep their blobs in a bucket."""
    return bool(os.environ.get("PRIME_TEST_S3"))


def address(data_dir: Path) -> str:
    """Where the blobs of the Hub with this data folder are."""
    name = hashlib.sha256(str(data_dir).encode()).hexdigest()[:24]
    return f"{os.environ['PRIME_TEST_S3']}/hub-{name}"


def presigned() -> bool:
    """Whether clients of Hubs under test use the bucket themselves; PRIME_TEST_PRESIGNED_URLS=off: through the Hub."""
    return on_s3() and os.environ.get("PRIME_TEST_PRESIGNED_URLS") != "off"


def make(data_dir: Path) -> dict[str, str]:
    """The environment variables by which a Hub finds its bucket."""
    if not on_s3():
        return {}
    return {"PRIME_HUB_BLOBS": address(data_dir), "PRIME_HUB_PRESIGNED_URLS": "on" if presigned() else "off"}


def keys(data_dir: Path) -> set[str]:
    """The keys of all blobs of the Hub with this data folder."""
    if not on_s3():
        root = data_dir / "blobs"
        # Files and folders may go while this looks, which a walk, unlike a glob, does not mind.
        return {str((Path(folder) / name).relative_to(root)) for folder, _, names in os.walk(root) for name in names}
    return set(run(_keys(address(data_dir))))


def names(data_dir: Path) -> set[str]:
    """The last parts of the keys of all blobs."""
    return {key.rpartition("/")[2] for key in keys(data_dir)}


def age(data_dir: Path, days: float = 2) -> bool:
    """Make all blobs look as if they were written so long ago; False where no clock can be turned back."""
    if on_s3():
        return False
    for path in (data_dir / "blobs").rglob("*"):
        if path.is_file():
            moment = path.stat().st_mtime - days * 86400
            os.utime(path, (moment, moment))
    return True


def drop(data_dir: Path) -> None:
    """Empty the prefix of a bucket; a folder goes with its data folder."""
    if on_s3():
        run(_drop(address(data_dir)))


async def _keys(where: str) -> list[str]:
    import obstore

    from prime_hub.services.buckets import open_bucket

    return [str(entry["path"]) async for page in obstore.list(open_bucket(where)) for entry in page]


async def _drop(where: str) -> None:
    import obstore

    from prime_hub.services.buckets import open_bucket

    for key in await _keys(where):
        await obstore.delete_async(open_bucket(where), key)
