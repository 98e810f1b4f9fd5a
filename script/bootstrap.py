"""Print the path of a `uv` executable, fetching it into .cache/uv when this machine has none.

Standard library only, any Python 3.11+. In order: `uv` on PATH, an earlier copy in .cache/uv, `pip install --target`, pip
unpacked from ensurepip, and last the simple page of the package index that pip or uv is configured with.
"""

import hashlib
import html.parser
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "uv"
WANTED = "uv>=0.9,<1"


def elsewhere(command: str) -> str | None:
    """The command on PATH, but for this project's own .venv: set-up makes that anew."""
    own = CACHE.parent.parent / ".venv" / "bin"
    folders = [item for item in os.environ.get("PATH", "").split(os.pathsep) if item and Path(item).resolve() != own]
    return shutil.which(command, path=os.pathsep.join(folders))


def works(candidate: str | None) -> bool:
    if not candidate:
        return False
    try:
        shown = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    version = re.search(r"(\d+)\.(\d+)", shown)
    return version is not None and (int(version[1]), int(version[2])) >= (0, 9)


def with_pip(target: Path) -> bool:
    """Let pip fetch it; pip knows the index of this machine. True when it did."""
    install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--target",
        str(target),
        WANTED,
    ]
    if subprocess.run([sys.executable, *install], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
        return True
    with tempfile.TemporaryDirectory() as scratch:
        made = subprocess.run(
            [sys.executable, "-m", "venv", scratch], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        python = Path(scratch) / "bin" / "python"
        if made.returncode or not python.exists():
            return False
        return subprocess.run([str(python), *install], stdout=subprocess.DEVNULL).returncode == 0


def configured_index() -> str | None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if os.environ.get(name):
            return os.environ[name]
    for file in (Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf", Path("/etc/pip.conf")):
        try:
            found = re.search(r"^\s*index-url\s*=\s*(\S+)", file.read_text(), re.MULTILINE)
        except OSError:
            continue
        if found:
            return found[1]
    return None


def wheel_tags() -> tuple[str, ...]:
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if sys.platform == "darwin":
        return ("macosx", "arm64" if machine == "aarch64" else machine)
    return ("manylinux" if "glibc" in platform.libc_ver()[0] else "musllinux", machine)


class Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def with_index(index: str, target: Path) -> bool:
    """Read the index page for uv (PEP 503), check the sha256 of the newest fitting wheel and unpack it."""
    page = index.rstrip("/") + "/uv/"
    request = urllib.request.Request(page, headers={"Accept": "text/html"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        links = Links()
        links.feed(reply.read().decode())
    fitting = []
    for link in links.found:
        url = urllib.parse.urljoin(page, link)
        name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rsplit("/", 1)[-1])
        version = re.match(r"uv-(\d+)\.(\d+)\.(\d+)-.*\.whl$", name)
        if version and version[1] == "0" and all(part in name for part in wheel_tags()):
            fitting.append((tuple(int(part) for part in version.groups()), url))
    if not fitting:
        return False
    url = max(fitting)[1]
    with urllib.request.urlopen(urllib.parse.urldefrag(url)[0], timeout=300) as reply:
        wheel = reply.read()
    wanted = re.search(r"sha256=([0-9a-f]{64})", url)
    if not wanted or hashlib.sha256(wheel).hexdigest() != wanted[1]:
        raise SystemExit("The package index gave a uv wheel whose sha256 is missing or wrong; nothing was installed.")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        for member in archive.namelist():
            if member.endswith("/scripts/uv"):
                (target / "bin").mkdir(parents=True, exist_ok=True)
                (target / "bin" / "uv").write_bytes(archive.read(member))
                (target / "bin" / "uv").chmod(0o755)
                return True
    return False


def main() -> None:
    if sys.version_info < (3, 11):
        raise SystemExit(f"Python 3.11 or newer is needed; {sys.executable} is {platform.python_version()}.")
    cached = CACHE / "bin" / "uv"
    for candidate in (elsewhere("uv"), str(cached)):
        if works(candidate):
            print(candidate)
            return
    print("Fetching uv, the package manager everything else is installed with ...", file=sys.stderr)
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="uv-", dir=CACHE.parent))
    try:
        index = configured_index()
        if with_pip(scratch) or (index is not None and with_index(index, scratch)):
            shutil.rmtree(CACHE, ignore_errors=True)
            scratch.rename(CACHE)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not works(str(cached)):
        raise SystemExit(
            "uv could not be fetched: this Python has no working pip, and no package index is configured. "
            "Install uv, or pip for this Python, or set PIP_INDEX_URL, and run this again."
        )
    print(cached)


if __name__ == "__main__":
    main()
