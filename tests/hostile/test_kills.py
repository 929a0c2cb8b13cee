"""A few kills of the quicker commands in each test run; `python -m tests.hostile.kills --kills 1000` makes more of all.

Training has a test of its own, in `tests/training/test_resume.py`.
"""

import os

import pytest

from tests.hostile.kills import COMMANDS, run

SLOW = ("character", "depth", "train")
KILLS = {
    "animate": 6, "animate frames": 9, "batch": 7, "convert": 6, "convert folder": 7, "finish": 9, "lab": 3, "orbit": 1,
    "plan": 6, "report": 8, "storyboard": 1,
}  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_commands_leave_whole_files_and_the_next_run_removes_the_rest(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert {*KILLS, *SLOW} == set(COMMANDS)
    total, faults = run(KILLS, tmp_path)
    print(f"{total} kills, {len(faults)} faults")
    assert total >= 60 and not faults, "\n".join(faults)
