"""Trains a camera LoRA for nano and measures it: python -m recipes.camera_lora --output FILE.safetensors [--move MOVE].

Trains on nano's training photographs and measures on photographs that neither nano nor the LoRA was trained on: the
mean motion of the picture in pixels per frame with the LoRA, without it and with strength -1, and whether strength 0
gives exactly the model without it. An interrupted run resumes.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import svd_core as svd
from svd_core.cli.main import main as svd_reel
from svd_core.lora import apply_loras, load_lora
from svd_core.pictures import fit
from svd_core.report import measure
from svd_core.training.job import run_folder
from svd_core.training.state import read_state

from .nano.photographs import TRAINING, load_photograph

MEASURED = ("coffee", "camera", "rocket")
CLIPS, STEPS, RATE = 2, 500, 4e-3  # of each photograph; steps of two clips
# More layers and a higher rank than the real weights need: nano hardly learned pans that its rule does not give.
WIDER = ("--targets", "all", "--rank", "16", "--p-mean", "1.5")


def write_photographs(folder: Path) -> None:
    """Write the training photographs as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TRAINING:
        pixels = ((load_photograph(name).movedim(0, -1) + 1) * 127.5).round().clamp(0, 255)
        Image.fromarray(pixels.numpy().astype(np.uint8)).save(folder / f"{name}.png")


def train(output: Path, move: str) -> None:
    """Train with the user's command line."""
    photographs = run_folder(output) / "photographs"
    write_photographs(photographs)
    words = ["train", str(photographs), "--stills", move, "--output", str(output), "--clips-per-still", str(CLIPS)]
    words += ["--steps", str(STEPS), "--rate", str(RATE), "--validate-every", "0", *WIDER]
    code = svd_reel([*words, *["--resume"] * (read_state(run_folder(output)) is not None)])
    if code:
        raise SystemExit(code)


def fitted(photograph: str, model: svd.SVDModel) -> Tensor:
    """Return one photograph at the model's size: [3, H, W] in -1..1."""
    return fit(load_photograph(photograph)[None], model.config.width, model.config.height)[0][0]


def look_at(model: svd.SVDModel, picture: Tensor, steps: int) -> Tensor:
    """Return a clip [T, H, W, 3] of one photograph [3, H, W]."""
    return svd.animate(model, picture[None], svd.AnimateSettings(steps=steps))


def compare(path: str | Path, steps: int) -> None:
    """Print the motion of every photograph with strength 1, 0 (no LoRA) and -1."""
    plain = svd.load_model("nano")
    lora = load_lora(path)
    models = {"with": apply_loras(plain, [(lora, 1.0, 1.0)]), "none": plain}
    models["minus"] = apply_loras(plain, [(lora, -1.0, -1.0)])
    print("| photograph | LoRA | picture right px | down px | zoom | motion px | first frame dB |")
    print("|---|---|---|---|---|---|---|")
    means: dict[str, list[float]] = {name: [] for name in models}
    for photograph in MEASURED:
        picture = fitted(photograph, plain)
        for name, model in models.items():
            frames = look_at(model, picture, steps)
            report = measure(frames, image=(picture.movedim(0, -1)[None] + 1) / 2)
            row = [sum(values) / len(values) for values in (report.pan_x, report.pan_y, report.zoom, report.motion)]
            means[name].append(row[0])
            numbers = [f"{row[0]:+.2f}", f"{row[1]:+.2f}", f"{row[2]:.4f}", f"{row[3]:.2f}", f"{report.psnr:.1f}"]
            print(f"| {photograph} | {name} | {' | '.join(numbers)} |", flush=True)
    summary = ", ".join(f"{name} {sum(rows) / len(rows):+.2f}" for name, rows in means.items())
    print("mean of the picture to the right; the camera goes the other way:", summary)
    picture = fitted(MEASURED[0], plain)
    off = look_at(apply_loras(plain, [(lora, 0.0, 0.0)]), picture, 2)
    print("strength 0 is bit-equal to none:", torch.equal(off, look_at(plain, picture, 2)))


def main() -> None:
    """Read the command line, train and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--move", default="pan left")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only-measure", action="store_true", help="an existing file")
    parser.add_argument("--sampling-steps", type=int, default=12)
    arguments = parser.parse_args()
    if not arguments.only_measure:
        train(arguments.output, arguments.move)
    compare(arguments.output, arguments.sampling_steps)


if __name__ == "__main__":
    main()
