"""Wheels of strangers: the good ones are read whichever build wrote them, and a disk that fails is not their fault."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from packaging.version import Version

from prime_core.errors import PackagingError
from prime_core.unzipping import open_wheel
from prime_core.wheel_contents import _is_of, check_wheel
from tests.core.fine_wheels import FINE, named
from tests.hub.hostile_wheels import REFUSED

FILENAME = "tricky-0.1.0-py3-none-any.whl"
QUICK = [kind for kind in REFUSED if "gigabytes" not in kind]


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / FILENAME
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", FINE)
def test_a_wheel_that_is_fine(tmp_path: Path, kind: str):
    told, _ = check_wheel(written(tmp_path, FINE[kind]()), FILENAME)
    assert (told["name"], told["version"]) == ("tricky", "0.1.0")


def test_a_build_number_may_be_in_the_name_of_the_data_folder(tmp_path: Path):
    path = written(tmp_path, named("tricky-0.1.0-3.data/scripts/run")())
    check_wheel(path, "tricky-0.1.0-3-py3-none-any.whl")
    for other in (FILENAME, "tricky-0.1.0-4-py3-none-any.whl"):
        with pytest.raises(PackagingError, match="is of another package or version"):
            check_wheel(path, other)


@pytest.mark.parametrize("kind", QUICK)
def test_a_wheel_that_is_refused(tmp_path: Path, kind: str):
    make, words = REFUSED[kind]
    with pytest.raises(PackagingError) as refusal:
        check_wheel(written(tmp_path, make()), FILENAME)
    assert words in str(refusal.value)


def test_what_the_disk_says_is_not_the_wheels_fault(tmp_path: Path):
    path = written(tmp_path, FINE["a data folder"]())
    with pytest.raises(OSError, match="Too many") as failure, open_wheel(path):
        raise OSError(errno.EMFILE, "Too many open files")
    assert failure.value.errno == errno.EMFILE
    with pytest.raises(FileNotFoundError), open_wheel(tmp_path / "gone.whl"):
        pass


@pytest.mark.parametrize(
    ("stem", "same"),
    [
        ("my_env-1.0.post1", True),
        ("my-env-1.0.post1", True),  # poetry-core before its names were normalised
        ("My.Env-1.0-1", True),
        ("my_env-1.0", False),
        ("env-1.0.post1", False),
        ("my_env", False),
        ("my_env-", False),
        ("m\u0443_env-1.0.post1", False),
    ],
)
def test_folders_are_called_after_name_and_version(stem: str, same: bool):
    assert _is_of(stem, "my-env", Version("1.0.post1")) is same
