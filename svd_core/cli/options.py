"""What the commands share: the line that counts progress, devices and precisions by name, a model by its options."""

import argparse
import logging
import sys
import time

import torch

from ..checkpoints import load_model
from ..lora.apply import apply_loras
from ..lora.read import read_lora_options, split_lora_option
from ..model.model import SVDModel
from ..sampling.solvers import Step
from .lora import add_lora_option

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "stored": None}


class Progress:
    """One line on stderr that counts; where stderr is no terminal, a line for every tenth."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Print a line."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def count(self, label: str, done: int, total: int) -> None:
        """Show that `done` of `total` is done, 1 to `total`."""
        if self.quiet:
            return
        if self.live:
            # The end of the line is erased: a shorter text would leave the tail of a longer one.
            print(f"\r{label} {done}/{total}\x1b[K", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done * 10 // total > (done - 1) * 10 // total:
            self.say(f"{label} {done}/{total}")

    def step(self, step: Step) -> None:
        """`on_step` of `animate`."""
        self.count("step", step.index + 1, step.steps)

    def decoded(self, done: int, total: int) -> None:
        """`on_decode` of `animate`, which counts layers: of no interest, so per cent."""
        before, now = (done - 1) * 100 // total, done * 100 // total
        if now > before:
            self.count("decode %", now, 100)


def pick_device(name: str) -> torch.device:
    """The device of that name, or for "auto" the fastest there is; ValueError where it is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        # "meta" computes nothing, and torch takes any number behind "cpu".
        there = device.type != "meta" and not (device.type == "cpu" and device.index)
    except (RuntimeError, AssertionError):  # torch without CUDA raises AssertionError
        there = False
    if not there:
        raise ValueError(f"device {name or 'of no name'} is not there; use cpu, or leave --device out")
    return device


def since(start: float) -> str:
    """Seconds since `time.monotonic()` was `start`, for people."""
    return f"{time.monotonic() - start:.1f} s"


def add_model_options(group: argparse._ActionsContainer) -> None:
    """Add which model to use, and where and how precisely it runs."""
    group.add_argument(
        "--model", default="nano", metavar="nano|FILE|FOLDER", help="checkpoint (default: the embedded nano)"
    )
    group.add_argument("--complete-from", metavar="FILE", help="full checkpoint that lends the parts --model lacks")
    add_lora_option(group)


def model_files(options: argparse.Namespace) -> dict[str, str | None]:
    """The files that a model is read from by those of the options of `add_model_options` that a command has."""
    files = {"--model": None if options.model == "nano" else options.model}
    files["--complete-from"] = getattr(options, "complete_from", None)
    return files | {f"--lora {text}": split_lora_option(text)[0] for text in getattr(options, "lora", ())}


def add_machine_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of the machine."""
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: the fastest there is)")
    group.add_argument("--dtype", choices=tuple(DTYPES), help="precision (default: float16 on CUDA, else float32)")
    group.add_argument("--quiet", action="store_true", help="no progress and no warnings")


def model_of(options: argparse.Namespace, progress: Progress) -> SVDModel:
    """Load the model that the options of `add_model_options` and `add_machine_options` name, and say so."""
    if options.quiet:
        logging.getLogger("svd_reel").setLevel(logging.ERROR)
    device = pick_device(options.device)
    dtype = DTYPES[options.dtype or ("float16" if device.type == "cuda" else "float32")]
    start = time.monotonic()
    loras = read_lora_options(options.lora)
    model = load_model(options.model, device=device, dtype=dtype, complete_from=options.complete_from)
    model = apply_loras(model, loras)
    if device.type == "cpu" and model.dtype != torch.float32:
        progress.say("a CPU computes in 16 bits many times slower than in 32; --dtype float32 is faster")
    progress.say(f"{model.variant} on {device} in {str(model.dtype).removeprefix('torch.')}, {since(start)}")
    return model
