"""Trains nano's line-art ControlNet with the pack's own trainer: python -m recipes.nano.train_controlnet --work DIR.

The base is the nano of the pack, frozen. A stopped run resumes when it is started again, and gives the same weights.
The log and its plot are in DIR/controlnet; DIR/nano_lineart_controlnet.safetensors is written at the end.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

import svd_core as svd
from svd_core.checkpoints.controlnet import NUMBERS_KEY, load_controlnet, save_controlnet
from svd_core.training import Trainer, TrainSettings

from .controlled import SMALL, SQUARE, LineSource, TaughtControlNet, load_pool
from .networks import prepare_cpu
from .scenes import PictureSource
from .train_unet import report

STEPS = 1500
NAME = "nano_lineart_controlnet.safetensors"
SETTINGS = {
    "method": "full",
    "targets": "all",
    "optimizer": "muon",
    "precision": "bf16",
    "batch": 5,
    "rate": 5e-3,
    "warmup": 20,
    "schedule": "linear-cooldown",
    # Where the camera goes is decided while noise hides the clip; below a sigma of 3 the base sees it by itself.
    "p_mean": 2.2,
    "p_std": 1.3,
    "wide_share": 0.1,
    "drop_token": 0.03,
    "drop_latent": 0.0,
    "drop_both": 0.05,  # the unconditional pass of guidance is controlled, too
    "ema": 0.99,
    "log_every": 10,
    "save_every": 25,
}


def rate_share(name: str) -> float:
    """Return the share of the learning rate: parts that are copies of the base only need to be adjusted."""
    return 1.0 if name.startswith(("hint.", "zero_convs.", "middle_conv.")) else 0.3


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints, outside the repository")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rate", type=float, default=SETTINGS["rate"])
    parser.add_argument("--batch", type=int, default=SETTINGS["batch"], help="clips of the small format")
    parser.add_argument("--precision", default=SETTINGS["precision"], help="bf16 is faster where the CPU has it")
    parser.add_argument("--pictures", type=int, nargs=2, default=(SMALL.pictures, SQUARE.pictures), metavar="N",
                        help="pictures of the small and of the square format; 0 for none")  # fmt: skip
    parser.add_argument("--start", type=Path, help="ControlNet to go on from; without it, a copy of the base")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    prepare_cpu(given.threads)
    torch.manual_seed(given.seed)
    model = svd.load_model("nano")
    pictures = PictureSource(given.work, given.seed)
    forms = [
        replace(form, pictures=count) for form, count in zip((SMALL, SQUARE), given.pictures, strict=True) if count
    ]
    source = LineSource([(form, load_pool(given.work, form, model, pictures, given.seed)) for form in forms], model.vae)
    network = TaughtControlNet(model.unet, source)
    network.start()
    if given.start:
        network.load_state_dict(load_controlnet(given.start, dtype=torch.float32).network.state_dict())
    chosen = SETTINGS | {"rate": given.rate, "batch": given.batch, "precision": given.precision}
    settings = TrainSettings(steps=given.steps, seed=given.seed, **chosen)
    trainer = Trainer(network, source, settings, given.work / "controlnet", rate_share=rate_share)
    result = trainer.run(on_step=report)
    network.load_state_dict(result.weights)
    save_controlnet(network, given.work / NAME, dtype=torch.float16, metadata={
        NUMBERS_KEY: "clip",
        "license": "Apache-2.0",
        "description": "line-art ControlNet for SVD Reel's nano, trained from scratch by recipes/nano",
    })  # fmt: skip


if __name__ == "__main__":
    main()
