"""The shipped conformance suite on each container engine."""

import os

import pytest

from prime_hub.runner.runtimes.conformance import CHECKS, Check, Host

# gVisor as it can run on any machine: its processes without a network, for exec and files.
IN_GVISOR = (
    "exec_tells_everything",
    "exec_leaves_jobs",
    "streams_and_input",
    "a_terminal",
    "up_and_down",
    "whole_folders",
)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_the_suite(host: Host, check: Check) -> None:
    if not check.missing(host):
        check.run(host)


def test_what_is_claimed(host: Host) -> None:
    assert {"isolating", "memory", "cpus", "pids", "egress"} <= host.claims
    assert any("RUN lines" in sentence for sentence in host.info["not_enforced"])


@pytest.mark.timeout(300)
def test_in_gvisor(engine, hosts) -> None:
    if engine.name != "docker":
        with pytest.raises(AssertionError, match="has no runtime 'no-such'"):
            hosts(oci_runtime="no-such")
        return
    host = hosts(oci_runtime="runsc")
    with host.sandbox() as box:
        # Its own kernel, not this host's.
        kernel = host.shell(box, "uname -r")["stdout"].strip()
        assert kernel and kernel != os.uname().release
    for check in CHECKS:
        if check.name in IN_GVISOR:
            check.run(host)
