"""Checks of images."""

from __future__ import annotations

from prime_hub.runner.runtimes.conformance.checks import check
from prime_hub.runner.runtimes.conformance.host import DOCKERFILE, SERVER, Host, expect


@check()
def an_image_is_built(host: Host) -> None:
    """A Dockerfile becomes an image with a digest, its port and what it runs; the log tells the steps."""
    state = host.build({"Dockerfile": DOCKERFILE, "server.py": SERVER})
    expect(state["status"] == "ready", f"{state['error']}\n{state['log']}")
    expect(str(state["digest"]).startswith("sha256:") and len(state["digest"]) == 71, f"digest {state['digest']}")
    expect(state["config"]["port"] == 8000, f"port {state['config']}")
    expect(state["config"]["env"].get("OF_THE_IMAGE") == "yes", f"env {state['config']['env']}")
    expect(state["config"]["workdir"] == "/app", f"workdir {state['config']['workdir']}")
    expect("COPY" in state["log"], "the log names no step")
    listed = [image["digest"] for image in host.call("GET", "/images")["images"]]
    expect(state["digest"] in listed, "the image is not listed")


@check()
def stages_and_arguments(host: Host) -> None:
    """Several stages, build arguments and another Dockerfile's name are honoured."""
    dockerfile = """ARG TEXT=unset
FROM python:3.11-slim AS first
ARG TEXT
WORKDIR /made
RUN echo "$TEXT" > text
FROM python:3.11-slim
WORKDIR /app
COPY --from=first /made/text /app/text
CMD ["sleep", "600"]
"""
    state = host.build({"docker/File": dockerfile}, dockerfile="docker/File", build_args={"TEXT": "given"})
    expect(state["status"] == "ready", f"{state['error']}\n{state['log']}")
    with host.sandbox(digest=state["digest"], port=None) as box:
        expect(host.shell(box, "cat /app/text")["stdout"] == "given\n", "the build argument did not arrive")


@check()
def a_bad_build_fails(host: Host) -> None:
    """A build that cannot succeed fails with a sentence and its log, and leaves no image."""
    before = len(host.call("GET", "/images")["images"])
    state = host.build({"Dockerfile": "FROM python:3.11-slim\nCOPY missing.py /app/\n"})
    expect(state["status"] == "failed", f"the build is {state['status']}")
    expect(state["error"] and "missing.py" in state["error"] + state["log"], f"error: {state['error']}")
    expect(len(host.call("GET", "/images")["images"]) == before, "a failed build left an image")


@check()
def an_image_can_go(host: Host) -> None:
    """An image in use is not deleted; one that is not, is; after that it is missing."""
    state = host.build({"Dockerfile": DOCKERFILE.replace("yes", "to-go"), "server.py": SERVER})
    with host.sandbox(digest=state["digest"]):
        host.refused(409, "DELETE", f"/images/{state['digest']}")
    host.call("DELETE", f"/images/{state['digest']}")
    host.refused(404, "DELETE", f"/images/{state['digest']}")
    host.refused(404, "POST", "/sandboxes", {"id": "none", "digest": state["digest"]})
