"""Long films need no more memory than short ones: the peaks of two processes, over 24 frames and over 64."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from svd_core.cli.main import main
from svd_core.networks.config import SVDConfig
from svd_core.pipelines.settings import AnimateSettings
from svd_core.storyboard import Panel, film_frames
from svd_core.storyboard.clips import ClipStore, shot_key
from svd_core.storyboard.film import plan_film
from svd_core.training.data.cache import encode_sources
from svd_core.training.data.cutting import ClipPlan
from svd_core.training.data.sources import find_sources
from svd_core.video import write_clip

WIDTH, HEIGHT = 640, 360
FRAME = WIDTH * HEIGHT * 3 * 4  # bytes
MOST = 15 * FRAME  # for 40 more frames: encoders and decoders fill up to some 25 MB; a stage that keeps all adds 40
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")

pytestmark = pytest.mark.skipif(not RESET.exists(), reason="needs Linux, which counts the peak of a process")


def frames(count: int) -> Iterator[torch.Tensor]:
    """Waves that run to the right: nothing is equal, and all of it moves."""
    x = torch.linspace(0, 40, WIDTH)[None, :, None]
    y = torch.linspace(0, 20, HEIGHT)[:, None, None]
    colours = torch.tensor([1.0, 1.3, 1.7])
    for index in range(count):
        yield ((x - 0.2 * index) * colours).sin() * (y * colours).cos() / 2 + 0.5


def film(path: Path, count: int) -> Path:
    return write_clip(frames(count), path, fps=24)


class Encoders:
    """A stand-in for the encoders of a model, whose answers are small."""

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean((2, 3))[:, None]

    def encode_latent(self, image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(image, 8)[:, [0, 1, 2, 0]]


def finish(folder: Path, count: int) -> None:
    clip = film(folder / f"{count}.mp4", count)
    assert main(["finish", str(clip), "--output", str(folder / "film.mp4"), "--quiet"]) == 0


def report(folder: Path, count: int) -> None:
    assert main(["report", str(film(folder / f"{count}.mp4", count)), "--json", str(folder / "numbers.json")]) == 0


def cut(folder: Path, count: int) -> None:
    sources = find_sources(film(folder / f"{count}.mp4", count))
    plan = ClipPlan(WIDTH, HEIGHT, 4, least_motion=0)
    encode_sources(sources, plan, Encoders(), folder / f"cache {count}", encoders="")


def storyboard(folder: Path, count: int) -> None:
    settings = AnimateSettings(width=WIDTH, height=HEIGHT, steps=1)
    panels = [Panel("a.png", seconds=count / 4 / 7) for _ in range(4)]
    planned = plan_film(panels, settings, SVDConfig(), fps=7)
    store, picture = ClipStore(folder / "panels"), torch.zeros(1, 8, 8, 3)
    for shot, own in zip(planned.timing.shots, planned.settings, strict=True):
        store.frames(
            shot_key(picture, shot, own, ""), lambda shot=shot: torch.zeros(shot.clip_frames, HEIGHT, WIDTH, 3)
        )
    reset_peak()
    write_clip(film_frames(None, lambda _: picture, planned, store=store), folder / "film.mp4", fps=7)


def reset_peak() -> None:
    RESET.write_text("5")


def peak() -> int:
    """Return the most bytes of memory that this process had since `reset_peak`."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", STATUS.read_text())[1])


def in_a_process(work: Callable[[], int]) -> int:
    """Return the result of `work` in a fork, whose memory is its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return int(answer)


@pytest.mark.parametrize("stage", [finish, report, cut, storyboard])
def test_forty_more_frames_need_no_memory_for_all_of_them(tmp_path: Path, stage, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def needed(count: int) -> int:
        torch.set_num_threads(1)  # the threads of this process do not live in the fork
        reset_peak()
        stage(tmp_path, count)
        return peak()

    short, long = (in_a_process(lambda count=count: needed(count)) for count in (24, 64))
    assert long - short < MOST


def test_a_stage_that_keeps_its_frames_is_found():
    def needed(count: int) -> int:
        reset_peak()
        kept = [frame.clone() for frame in frames(count)]
        most = peak()
        del kept
        return most

    # Two peaks, as above: the memory that one fork found free already, or lost meanwhile, is in both.
    short, long = (in_a_process(lambda count=count: needed(count)) for count in (24, 64))
    assert long - short > MOST
