"""Background jobs: they outlive whoever started them, and waiting for one asks for nothing again and again."""

from __future__ import annotations

import time

import pytest

from prime_sandboxes import CommandTimeoutError, SandboxClient


def test_a_job_is_run_to_its_end(box, client):
    done = client.run_background_job(
        box.id, "echo $GREETING $X; pwd >&2; exit 4", working_dir="/tmp", env={"X": "you"}, poll_interval=1
    )
    assert (done.completed, done.exit_code, done.stdout, done.stderr) == (True, 4, "hello you\n", done.stderr)
    assert str(done.stderr).endswith("/tmp\n")


def test_a_job_outlives_its_client(box, connection, client):
    with SandboxClient(connection) as other:
        job = other.start_background_job(box.id, "echo begun; sleep 1; echo ended")
    status = client.get_background_job(box.id, job)
    assert (status.completed, status.exit_code, status.stdout) == (False, None, None)
    ended = client.wait_for_background_job(box.id, job)
    assert (ended.exit_code, ended.stdout) == (0, "begun\nended\n")
    # Later, when nobody holds it any more, its files still tell.
    assert client.get_background_job(box.id, job) == ended
    assert "ended" in box.run(f"cat {job.stdout_log_file}").stdout


def test_waiting_costs_no_polling(box, client, monkeypatch):
    asked: list[str] = []
    gateway = client._twin._gateway
    original = gateway.open

    async def counted(sandbox_id, method, operation, *rest, **keywords):
        asked.append(operation)
        return await original(sandbox_id, method, operation, *rest, **keywords)

    monkeypatch.setattr(gateway, "open", counted)
    client.run_background_job(box.id, "sleep 2; echo done")
    assert len(asked) <= 8


def test_several_at_once(box, client):
    jobs = [client.start_background_job(box.id, f"exit {number}") for number in range(5)]
    for job in jobs:
        client.wait_for_background_job(box.id, job)
    assert [status.exit_code for status in client.get_background_jobs(jobs)] == [0, 1, 2, 3, 4]


def test_a_job_that_takes_too_long_is_ended(box, client):
    with pytest.raises(CommandTimeoutError, match=r"did not end within 0\.5 seconds and was ended: echo \$\$"):
        client.run_background_job(box.id, "echo $$ > /tmp/prime-job-pid; sleep 600", timeout=0.5)
    pid = box.run("cat /tmp/prime-job-pid; rm -f /tmp/prime-job-pid").stdout.strip()
    deadline = time.monotonic() + 30
    while box.run(f"kill -0 {pid}").exit_code == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
