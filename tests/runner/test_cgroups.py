"""Control groups, in folders that look like those of either version, and for real where this user may make some."""

import signal
import subprocess
from pathlib import Path

import pytest

from prime_hub.runner.cgroups import Cgroups
from prime_hub.runner.runtimes.values import Limits

LIMITS = Limits(cpus=1.5, memory_bytes=64 << 20, pids=20)


def files(folder: Path, **content: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_the_second_version_is_used_where_controllers_are_handed_on(tmp_path):
    proc, top = tmp_path / "proc" / "self", tmp_path / "cgroup"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text("0::/user/app/run\n")
    (proc / "mountinfo").write_text(f"30 23 0:26 / {top} rw - cgroup2 cgroup2 rw\n")
    for path, handed in (("user", "memory pids"), ("user/app", "memory pids cpu"), ("user/app/run", "")):
        files(top / path, cgroup__procs="", cgroup__subtree_control=handed)
    # As the kernel would make them.
    before = Cgroups.find(tmp_path, tmp_path / "proc")
    assert before.controllers == set()
    name = next(path for path in (top / "user/app").iterdir() if path.name.startswith("prime-")).name
    files(top / "user/app" / name, cgroup__procs="", cgroup__subtree_control="")
    groups = Cgroups.find(tmp_path, tmp_path / "proc")
    assert groups.controllers == {"memory", "cpu", "pids"}
    assert (top / "user/app" / name / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    box = top / "user/app" / name / "box"
    files(box, cgroup__procs="", memory__max="max", memory__swap__max="max", cpu__max="max 100000", pids__max="max")
    group = groups.make("box")
    assert group.limit(LIMITS, 2) == {"memory", "cpus", "pids"}
    read = {item: (box / item).read_text() for item in ("memory.max", "memory.swap.max", "cpu.max", "pids.max")}
    assert read == {
        "memory.max": "67108864",
        "memory.swap.max": "0",
        "cpu.max": "150000 100000",
        "pids.max": "22",
    }
    assert group.joins == [box / "cgroup.procs"]
    files(box, memory__events="low 0\noom 3\noom_kill 2\n")
    assert group.out_of_memory() == 2
    assert groups.sandboxes() == {"box"}


def test_nothing_is_claimed_where_nothing_is_handed_on(tmp_path):
    proc, top = tmp_path / "proc" / "self", tmp_path / "cgroup"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text("0::/\n")
    (proc / "mountinfo").write_text(f"30 23 0:26 / {top} rw - cgroup2 cgroup2 rw\n")
    files(top, cgroup__procs="", cgroup__subtree_control="")
    groups = Cgroups.find(tmp_path, tmp_path / "proc")
    assert groups.controllers == set()
    assert groups.make("box").limit(LIMITS, 2) == set()
    assert groups.sandboxes() == set()
    assert [path.name for path in top.iterdir() if path.is_dir()] == []
    assert Cgroups.find(tmp_path, tmp_path / "nothing").controllers == set()


def test_groups_of_this_machine_hold_and_go(tmp_path):
    groups = Cgroups.find(tmp_path)
    if not groups.controllers:
        pytest.skip("this user may make no control groups here")
    group = groups.make("box")
    held = group.limit(LIMITS, 2)
    assert {"cpus" if name == "cpu" else name for name in groups.controllers} == held
    joining = "".join(f"echo $$ > '{path}'; " for path in group.joins)
    child = subprocess.Popen(["/bin/sh", "-c", f"{joining} echo in; exec sleep 600"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"in\n"
    assert group.pids() == [child.pid]
    assert groups.sandboxes() == {"box"}
    group.remove()
    assert child.wait(10) == -signal.SIGKILL
    child.stdout.close()
    group.remove()
    assert groups.sandboxes() == set()
    assert groups.existing("box").folders == {}
    groups.close()
    assert not [path for path in groups.of("box").joins if path.parent.parent.exists()]


def test_the_groups_of_a_runner_bear_its_folders_name(tmp_path):
    one, two = Cgroups.find(tmp_path / "one"), Cgroups.find(tmp_path / "two")
    assert not one.controllers or one.of("box").joins != two.of("box").joins
    assert one.of("box").joins == Cgroups.find(tmp_path / "one").of("box").joins
    for groups in (one, two):
        groups.close()
