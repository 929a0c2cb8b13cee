"""Behaviour of every command under SIGTERM, on a full disk, and after killed runs."""

import errno
import os
import signal
import stat
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from svd_core import files
from svd_core.cli.main import main
from tests.helpers.commands import calls, write_inputs

COMMANDS = ("animate", "batch", "report", "plan", "finish", "convert", "lab", "storyboard", "train")
# Where each command is when SIGTERM arrives: as deep in its work as a patch can reach.
WORK = {
    "animate": "svd_core.cli.animate.steered_clip",
    "batch": "svd_core.cli.batch.make_clip",
    "report": "svd_core.cli.report.measure",
    "plan": "svd_core.plan.page.draw_plan",
    "finish": "svd_core.finish.movie._Writer.finish",
    "convert": "svd_core.cli.progress.Progress.count",
    "lab": "svd_core.cli.lab.draw_sheet",
    "storyboard": "svd_core.cli.storyboard.draw_contact_sheet",
    "train": "svd_core.training.trainer.velocity_losses",
}
DEAD = 2**22 + 1  # no process has this number on Linux


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs") / "in"
    write_inputs(folder)
    return folder


@pytest.fixture
def call(inputs, checkpoint, tmp_path):
    """Run a command by its name; its files go to tmp_path / "out"."""
    (tmp_path / "out").mkdir()
    return lambda name, *more: main([*calls(inputs, tmp_path / "out", checkpoint)[name], *more])


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.suffix in (files.PART_SUFFIX, files.OLD_SUFFIX)]


def hidden(name: str, process: int, machine: str = files.MACHINE, suffix: str = ".part") -> str:
    return f".{name}.{machine}{process:08x}0123abcd{suffix}"


@pytest.mark.parametrize("name", COMMANDS)
def test_sigterm_ends_a_command_like_ctrl_c_with_code_143(call, name, tmp_path, monkeypatch, capsys):
    def terminated(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the signal had no effect")

    before = signal.getsignal(signal.SIGTERM)
    more = ["--sheet", str(tmp_path / "out" / "sheet.png")] if name == "storyboard" else []
    with monkeypatch.context() as patch:
        patch.setattr(WORK[name], terminated)
        if name == "train":
            patch.setattr("svd_core.cli.train.stop_requests", nullcontext_list)
        assert call(name, *more) == 143
    said = capsys.readouterr().err.strip().splitlines()
    assert any(line.startswith("svd_core: stopped") for line in said[-2:]), said
    assert signal.getsignal(signal.SIGTERM) is before
    assert leftovers(tmp_path) == []


class nullcontext_list(list):
    """`stop_requests` without handlers: the signal arrives as at any other place of the command."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_sigterm_in_training_saves_the_state_after_the_step(call, tmp_path, monkeypatch, capsys):
    import svd_core.training.trainer as trainer

    losses, steps = trainer.velocity_losses, []

    def terminated(*given, **more):
        steps.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        return losses(*given, **more)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "velocity_losses", terminated)
        assert call("train", "--accumulation", "1") == 143
    said = capsys.readouterr().err
    assert "stopped after 1 of 2 steps" in said and "--resume" in said and steps == [1]
    assert signal.getsignal(signal.SIGTERM) is before
    assert call("train", "--accumulation", "1", "--resume") == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_sentence(call, name, tmp_path, monkeypatch, capsys):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_sync_file", full)
    assert call(name) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "No space left on device" in said[-1] and "free space" in said[-1], said
    assert sum("No space left" in line for line in said) == 1 and "Traceback" not in "".join(said)
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout_is_one_sentence_too():
    with open("/dev/full", "w") as full:
        plan = [sys.executable, "-m", "svd_core", "plan", "--model", "svd", "--memory", "8"]
        found = subprocess.run(plan, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1 and "No space left on device; free space" in found.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_removes_what_killed_runs_left_in_its_folder(call, name, tmp_path):
    out = tmp_path / "out"
    (out / hidden("other.mp4", DEAD)).write_bytes(b"half")
    (out / hidden("frames", DEAD)).mkdir()
    (out / hidden("frames", DEAD) / "frame_00000.png").write_bytes(b"half")
    (out / ".old.webp.0123abcd.part").write_bytes(b"of an earlier version")
    (out / hidden("running.mp4", os.getppid())).write_bytes(b"half")
    (out / ".hidden.part").write_bytes(b"not ours")
    assert call(name) == 0
    assert sorted(leftovers(out)) == [".hidden.part", hidden("running.mp4", os.getppid())]


def test_files_of_running_processes_and_other_machines_stay(tmp_path):
    other = f"{(zlib.crc32(files.MACHINE.encode()) + 1) & 0xFFFF:04x}"
    old = tmp_path / hidden("long-gone.mp4", DEAD, machine=other)
    names = [hidden("a.mp4", DEAD), hidden("b.mp4", os.getppid()), hidden("c.mp4", DEAD, machine=other), old.name]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    with files.replacing(tmp_path / "d.mp4") as mine:
        mine.write_bytes(b"new")
        files.remove_leftovers(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([names[1], names[2], mine.name])
    assert (tmp_path / "d.mp4").read_bytes() == b"new"


def test_a_file_of_an_earlier_process_with_this_number_is_a_leftover(tmp_path):
    (tmp_path / hidden("clip.mp4", os.getpid())).write_bytes(b"half")
    (tmp_path / hidden("clip.mp4", os.getppid())).write_bytes(b"half")
    os.utime(tmp_path / hidden("clip.mp4", os.getppid()), (1e9, 1e9))  # written long before that process started
    files.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_moved_aside_comes_back(tmp_path):
    (tmp_path / hidden("frames", DEAD, suffix=".old")).mkdir()
    files.remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]


@pytest.mark.skipif(os.name != "posix", reason="devices and links of POSIX")
@pytest.mark.parametrize("name, option", [("report", "--json"), ("storyboard", "--timing"), ("lab", "--csv")])
def test_devices_and_links_are_never_replaced(call, name, option, tmp_path):
    assert call(name, option, "/dev/null") == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    real, link = tmp_path / "real.txt", tmp_path / "out" / "link.txt"
    real.write_text("old")
    link.symlink_to(real)
    assert call(name, option, str(link)) == 0
    assert link.is_symlink() and real.read_text() not in ("", "old")
