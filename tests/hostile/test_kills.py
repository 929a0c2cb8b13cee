"""A few kills of the quicker commands in each test run; `python -m tests.hostile.kills --kills 1000` makes more of all.

Training has a test of its own, in `tests/training/test_resume.py`.
"""

import os

import pytest

from tests.hostile.kills import COMMANDS, run

SLOW = ("character", "depth", "train")
KILLS = {
    "animate": 6, "animate frames": 8, "batch": 7, "convert": 6, "convert folder": 7, "finish": 7, "lab": 3, "orbit": 1,
    "plan": 6, "report": 8, "storyboard": 4,
}  # fmt: skip


def test_every_command_is_killed_here_or_is_too_slow_for_it():
    assert {*KILLS, *SLOW} == set(COMMANDS)
    assert sum(KILLS.values()) >= 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("killed")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("command", KILLS)
def test_a_killed_command_leaves_whole_files_and_the_next_run_removes_the_rest(command, folder, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    total, faults = run({command: KILLS[command]}, folder)
    print(f"{command}: {total} kills, {len(faults)} faults")
    assert total == KILLS[command] and not faults, "\n".join(faults)
