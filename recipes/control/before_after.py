"""Draw clips with a control off and on, side by side, for the docs:

    python -m recipes.control.before_after [PICTURE.jpg]

Nano at its defaults (8 frames of 128x128) on photographs outside all training.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from svd_core.pipelines.between import inbetween
from svd_core.pipelines.steered import Steering

from .photographs import Photograph, model
from .sheet import DOCS, write_sheet
from .steered import disc

SIZE = (128, 128)
DRAG = "0.5,0.5; 0.72,0.4"
HOLES = {"camera": "pan right 0.2", "camera_mode": "replace estimate"}


def rows() -> list[tuple[str, Tensor]]:
    """Return labelled clips [T, H, W, 3], each followed by the one to compare it with."""
    flower, coffee = (Photograph(name, SIZE, None) for name in ("flower", "coffee"))
    mask = disc(SIZE[1], SIZE[0]).movedim(1, -1)
    usual, ends = flower.clip(), [coffee.whole[..., :-40, :-60], coffee.whole[..., 40:, 60:]]
    return [
        ("skip guidance off", usual),
        ("skip guidance 1", flower.clip(skip_guidance=1.0)),
        ("soft condition off", usual),
        ("soft condition above 60", flower.clip(soften_above=60.0)),
        ("replace estimate, pan right 0.2", flower.clip(**HOLES)),
        ("the same, refine 2", flower.clip(**HOLES, camera_refine=2)),
        ("a disc dragged to the right", coffee.steered(steering=Steering(drag=DRAG, drag_mask=mask))),
        ("in-between of two crops", inbetween(model(), ends, coffee.settings(), exact_ends=False)),
    ]


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", type=Path, default=DOCS / "controls_before_after.jpg")
    with torch.inference_mode():
        write_sheet(parser.parse_args().picture, rows())


if __name__ == "__main__":
    main()
