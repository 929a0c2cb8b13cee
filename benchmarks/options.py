"""Options shared by all questions, and the setting that follows from them."""

import argparse
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from svd_core.doctor.timing import QUIET, share_of_cores

from .machine import describe
from .results import HERE, Report

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Setting:
    """How a measurement runs. Sizes depend on the device unless they are given."""

    device: torch.device
    dtype: torch.dtype
    rounds: int
    scale: str
    clip: tuple[int, int, int]
    clock: str
    share: float
    compiled: bool
    work: Path
    command: str
    before: Path | None = None

    @property
    def frames(self) -> int:
        """Return the number of frames of the clip."""
        return self.clip[0]

    @property
    def latent_size(self) -> tuple[int, int]:
        """Return height and width of the latents."""
        return self.clip[1] // 8, self.clip[2] // 8

    def words(self) -> list[str]:
        """Return this setting as arguments for a child process."""
        return [
            "--device", str(self.device), "--dtype", str(self.dtype).removeprefix("torch."), "--scale", self.scale,
            "--clip", "x".join(map(str, self.clip)), "--work", str(self.work), "--rounds", str(self.rounds),
            "--clock", self.clock, "--threads", str(torch.get_num_threads()),
        ]  # fmt: skip

    def report(self, name: str, question: str, columns: list[str]) -> Report:
        """Return an empty report for this measurement."""
        machine = describe(self.device)
        if self.device.type == "cpu":
            machine += f"; {100 * self.share:.0f} % of the cores available, times by the {self.clock} clock"
        return Report(name, question, machine, self.command, columns)


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the shared options."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--dtype", choices=tuple(DTYPES), help="default: bfloat16 on a GPU, float32 on the CPU")
    made.add_argument("--rounds", type=int, help="timed rounds (default: 10 on a GPU, 3 on the CPU)")
    made.add_argument("--scale", choices=("real", "half", "small"), help="width of the networks")
    made.add_argument("--clip", metavar="FRAMESxHEIGHTxWIDTH", help="frames and pixels")
    made.add_argument("--clock", choices=("auto", "wall", "cpu"), default="auto", help="auto: wall if quiet, else cpu")
    made.add_argument("--threads", type=int, help="CPU threads")
    made.add_argument("--compile", action="store_true", help="also time torch.compile of diffusers")
    made.add_argument(
        "--before", type=Path, metavar="FOLDER", help="an older checkout to compare with (load, batch_rows)"
    )
    made.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "svd_reel_benchmarks")
    made.add_argument("--output", type=Path, default=HERE / "results", help="folder for the tables")
    return made


def setting(given: argparse.Namespace, name: str, cpu: tuple[str, str], gpu: tuple[str, str]) -> Setting:
    """Return the complete setting. cpu, gpu: default (scale, clip) of this question."""
    if given.threads:
        torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    on_gpu = device.type == "cuda"
    if on_gpu:
        # Float32 is the reference for half precision; TensorFloat32 would round it to 10 bits.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    scale, clip = gpu if on_gpu else cpu
    share = share_of_cores()
    clock = given.clock if given.clock != "auto" else ("wall" if on_gpu or share >= QUIET else "cpu")
    return Setting(
        device,
        DTYPES[given.dtype or ("bfloat16" if on_gpu else "float32")],
        given.rounds or (10 if on_gpu else 3),
        given.scale or scale,
        tuple(int(part) for part in (given.clip or clip).split("x")),
        clock,
        share,
        given.compile,
        given.work,
        shlex.join(["python", "-m", "benchmarks", name, *_arguments()]),
        given.before,
    )


def _arguments() -> list[str]:
    """Return the options of this command line without the question and the folders."""
    words, kept = iter(sys.argv[1:]), []
    for word in words:
        if word in ("--work", "--output", "--before"):
            next(words, None)
        elif kept or word.startswith("-"):
            kept.append(word)
    return kept
