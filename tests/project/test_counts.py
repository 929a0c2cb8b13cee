"""Counts of kernels, operations and bytes, and the comparison that ends with 1 when one of them grew."""

import copy
import json
from pathlib import Path

import pytest
import torch

from benchmarks import compare, counts
from tests.helpers.checkpoint_files import FEW_LAYERS

KNOWN = Path(counts.__file__).parent / "results"


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    """Counts of a model with few layers; the stages are those of the real one."""
    found = counts.cases(FEW_LAYERS, 3, 8, 8)
    return [{"stage": stage, **counts.counted(case)} for stage, case in found.items()]


def write(folder: Path, rows: list[dict]) -> str:
    folder.mkdir()
    (folder / "counts.json").write_text(json.dumps({"rows": rows}))
    return str(folder)


def test_every_stage_is_counted_and_two_clips_in_one_pass_are_twice_the_work(rows: list[dict]) -> None:
    known = json.loads((KNOWN / "counts.json").read_text(encoding="utf-8"))["rows"]
    assert [row["stage"] for row in rows] == [row["stage"] for row in known]
    assert all(row[name] > 0 for row in rows for name in (counts.KERNELS, counts.MOVED, counts.PEAK))
    one, two = rows[:2]
    assert two[counts.WORK] == pytest.approx(2 * one[counts.WORK], rel=0.02)
    assert one[counts.MOVED] < two[counts.MOVED] < 2.1 * one[counts.MOVED]


def test_a_kernel_more_and_the_bytes_of_a_copy_are_counted() -> None:
    x = torch.empty(5, 7, device="meta")
    plain, copied = counts.counted(lambda: x + 1), counts.counted(lambda: (x + 1).clone())
    assert (plain[counts.KERNELS], copied[counts.KERNELS]) == (1, 2)
    assert copied[counts.MOVED] - plain[counts.MOVED] == pytest.approx(2 * x.nbytes / 1e9, abs=1e-6)


@pytest.mark.parametrize(
    ("count", "factor", "code"),
    [
        (counts.KERNELS, 1.0, 0),
        (counts.KERNELS, 0.9, 0),
        (counts.KERNELS, 1.001, 1),
        (counts.WORK, 1.0005, 0),
        (counts.WORK, 1.01, 1),
        (counts.MOVED, 1.02, 1),
        (counts.PEAK, 1.02, 1),
        (counts.PEAK, 0.5, 0),
    ],
)
def test_the_comparison_fails_only_if_a_count_grew(tmp_path: Path, rows, capsys, count: str, factor: float, code: int):
    changed = copy.deepcopy(rows)
    changed[1][count] *= factor
    assert compare.main([write(tmp_path / "old", rows), write(tmp_path / "new", changed)]) == code
    printed = capsys.readouterr().out
    assert ("WORSE" in printed) == bool(code) and ("counts grew" in printed)


def test_a_stage_that_is_gone_counts_as_worse_and_a_new_one_does_not(tmp_path: Path, rows: list[dict], capsys) -> None:
    whole, less = write(tmp_path / "whole", rows), write(tmp_path / "less", rows[1:])
    assert compare.main([whole, less]) == 1 and "gone" in capsys.readouterr().out
    assert compare.main([less, whole]) == 0 and "new" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "[]", '{"rows": [{"stage": "UNet"}]}'])
def test_a_file_without_counts_is_refused_with_the_command_that_writes_them(tmp_path: Path, capsys, content: str):
    path = tmp_path / "counts.json"
    path.write_text(content)
    assert compare.main([str(path), str(KNOWN)]) == 2
    assert "python -m benchmarks counts" in capsys.readouterr().err
    assert compare.main([]) == 2
