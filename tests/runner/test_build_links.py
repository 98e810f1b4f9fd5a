"""Links in a build context that are harmless where they lie, and lead out of the image where they are copied to."""

import io
import tarfile
import uuid
from pathlib import Path

import pytest

DEEP = "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t"


def build(runner, tmp_path: Path, lines: str, goal: str) -> dict:
    """A build whose `COPY` puts `/link` into the image, which leads to `goal` on this host."""
    dockerfile = f"FROM python:3.11-slim\nCOPY {DEEP}/ /\n{lines}\nCMD sleep 9\n"
    archive = tmp_path / "context.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        for name, text in {"Dockerfile": dockerfile, "given/link": "given", "given/given.txt": "given"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            packed.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo(f"{DEEP}/link")
        link.type, link.linkname = tarfile.SYMTYPE, goal
        packed.addfile(link)
    build_id = uuid.uuid4().hex
    runner.call("POST", "/builds", 202, json={"id": build_id, "context": str(archive)})
    return runner.call("GET", f"/builds/{build_id}?wait=30")


@pytest.mark.parametrize(
    "lines",
    [
        "RUN echo given > /link",
        "RUN touch /link",
        "RUN mkdir -p /link/made",
        "RUN chmod 777 /link/there.txt",
        "RUN rm -rf /link/*",
        "RUN cp -r /link /app",
        "RUN cp -r /lin* /app",
        "RUN cp /link/there.txt /app",
        "COPY given/ /link",
        "COPY given/given.txt /link",
        "COPY given/given.txt /link/x",
        "RUN mkdir /in && mv /link /in",
        "COPY given/link /in/link\nRUN mv /in/link /",
        "COPY given/link /in/link/x\nRUN cp -r /in/link /",
        "WORKDIR /link",
        "RUN pip install -r /link/there.txt",
    ],
)
@pytest.mark.parametrize("kind", ["folder", "nothing"])
def test_no_line_reads_or_writes_through_them(shared, tmp_path, lines, kind):
    outside = tmp_path / "outside"
    goal = outside if kind == "folder" else outside / "new"
    outside.mkdir()
    (outside / "there.txt").write_text("of this host")
    (outside / "there.txt").chmod(0o600)
    before = (outside / "there.txt").stat()
    built = build(shared, tmp_path, lines, "../" * (DEEP.count("/") + 1) + str(goal).lstrip("/"))
    assert built["status"] == "failed"
    assert "out of the image" in built["error"] or "is not in the image" in built["error"]
    assert [path.name for path in outside.iterdir()] == ["there.txt"]
    after = (outside / "there.txt").stat()
    assert (after.st_mtime_ns, after.st_mode) == (before.st_mtime_ns, before.st_mode)


def test_links_that_go_in_a_circle_are_a_sentence(shared, tmp_path):
    built = build(shared, tmp_path, "RUN touch /link", "link")
    assert built["status"] == "failed"
    assert built["error"].endswith("leads over links that go in a circle.")
