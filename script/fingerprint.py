"""Print one sha256 over the names and contents of the given files and folders (bytecode and caches left out)."""

import hashlib
import sys
from pathlib import Path


def files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [item for item in path.rglob("*") if item.is_file() and "__pycache__" not in item.parts]


def main() -> None:
    digest = hashlib.sha256()
    for path in sorted(item for argument in sys.argv[1:] for item in files(Path(argument))):
        digest.update(f"{path.as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    print(digest.hexdigest())


if __name__ == "__main__":
    main()
