"""Does a batch of 40 clips survive two killed workers and a full stop, with every clip equal to a single run?"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import svd_core as svd
from svd_core.batch import Manifest, ModelSpec, make_clip, plan_jobs, read_rows, run_jobs
from svd_core.batch.local import LocalProcesses

from .options import Setting
from .results import Report
from .rss import ROOT

CPU, GPU = ("real", "4x64x64"), ("real", "4x64x64")
CLIPS, WORKERS, KILLS = 40, 2, (11, 25)
"""KILLS: numbers of submitted clips after which the worker with the last one is killed."""

STOP_AFTER = 15
"""Finished clips after which the whole batch is killed."""


def run(chosen: Setting) -> Report:
    """Run single clips, then a batch with killed workers, then the command line, killed and started again."""
    report = chosen.report("batch_losses", f"{CLIPS} clips over {WORKERS} workers", ["what", "found", "wanted"])
    folder = chosen.work / "batch"
    shutil.rmtree(folder, ignore_errors=True)
    frames, height, width = chosen.clip
    settings = {"frames": frames, "steps": 3, "width": width, "height": height}
    torch.set_num_threads(1)
    rows = read_rows(_pictures(folder / "in"), settings)
    spec = ModelSpec("nano", threads=1)
    model = spec.load()
    for job in _jobs(rows, spec, folder / "single"):
        make_clip(model, job, "nano")
    expected = _contents(folder / "single")

    workers = _Deadly([spec] * WORKERS)
    outcome = run_jobs(_jobs(rows, spec, folder / "losses"), workers, Manifest(folder / "losses"))
    _row(report, "workers killed during a clip", workers.killed, len(KILLS))
    _row(report, "clips equal to single runs, bit for bit", _equal(folder / "losses", expected), CLIPS)
    _row(report, "clips reported as finished, each once", len(set(outcome.made)), len(outcome.made))
    _row(report, "clips submitted (one more per kill, no finished one again)", workers.given, CLIPS + len(KILLS))

    words = ["--threads", "1", "--workers", str(WORKERS), "--kind", "frames", "--quiet"]
    words += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "svd_core", "batch", str(folder / "in"), "--output", str(folder / "stopped")]
    done = _stopped([*command, *words], folder / "stopped")
    untouched = {name: path.stat().st_mtime_ns for name, path in done.items()}
    _row(report, "clips present after command and workers were killed", len(done), f"{STOP_AFTER} or a few more")
    subprocess.run([*command, *words], cwd=ROOT, check=True, capture_output=True)
    again = sum(path.stat().st_mtime_ns != untouched[name] for name, path in done.items())
    _row(report, "of those, written again by the same command", again, 0)
    _row(report, "clips at the end equal to single runs, bit for bit", _equal(folder / "stopped", expected), CLIPS)
    report.notes.append(f"nano, {frames} frames of {width}x{height}, 3 steps; workers are killed with SIGKILL")
    return report


class _Deadly(LocalProcesses):
    given = killed = 0

    def submit(self, worker, job):
        super().submit(worker, job)
        self.given += 1
        if self.given in KILLS:
            time.sleep(0.1)  # so that the worker has started the clip
            os.kill(self.pids[worker], signal.SIGKILL)
            self.killed += 1


def _stopped(command: list[str], output: Path) -> dict[str, Path]:
    """Start the command, kill its process group after STOP_AFTER clips, and return the first frame of every clip."""
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=-3, stderr=-3)
    while process.poll() is None and len(_first_frames(output)) < STOP_AFTER:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return _first_frames(output)


def _first_frames(folder: Path) -> dict[str, Path]:
    return {path.parent.name: path for path in folder.glob("p*/frame_00000.png")}


def _row(report: Report, what: str, found: object, wanted: object) -> None:
    report.rows.append({"what": what, "found": found, "wanted": wanted})


def _pictures(folder: Path) -> Path:
    folder.mkdir(parents=True)
    with Image.open(Path(svd.__file__).parent / "assets" / "demo.png") as photograph:
        pixels = np.asarray(photograph.convert("RGB").resize((96, 96)))
    for index in range(CLIPS):
        Image.fromarray(np.roll(pixels, 2 * index, axis=1)).save(folder / f"p{index:02}.png")
    return folder


def _jobs(rows, spec: ModelSpec, output: Path):
    output.mkdir()
    return plan_jobs(rows, spec, output, "")


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        clip.name: b"".join(frame.read_bytes() for frame in sorted(clip.iterdir()))
        for clip in sorted(folder.glob("p*"))
        if clip.is_dir()
    }


def _equal(folder: Path, expected: dict[str, bytes]) -> int:
    found = _contents(folder)
    return sum(found.get(name) == content for name, content in expected.items())
