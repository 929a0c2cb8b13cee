"""How fast is one pass of the UNet, and what memory does it take, beside diffusers and ComfyUI?"""

import json
import sys

import torch

from . import rss
from .compare import COLUMNS, compare
from .options import Setting, parser, setting
from .results import Report
from .subjects import model_of, ours_together, unet_case

CPU, GPU = ("real", "14x128x256"), ("real", "25x576x1024")


def run(chosen: Setting) -> Report:
    """On a GPU a guided step (two branches), on the CPU one branch."""
    branches = 2 if chosen.device.type == "cuda" else 1
    size = "x".join(map(str, chosen.clip))
    report = chosen.report(
        "unet",
        f"UNet: {branches} branch{'es' * (branches > 1)} of {size}, {chosen.scale} width, {chosen.dtype}",
        COLUMNS,
    )
    model = model_of(chosen)
    words = [*chosen.words(), "--branches", str(branches)]
    compare(
        report,
        chosen,
        lambda name: unet_case(name, model, chosen, branches),
        lambda name: ["unet", "--child", name, *words],
    )
    way = "in one batch" if ours_together(chosen) else "one after the other"
    report.notes.append(f"ours runs the branches {way}, as its sampler does at this size; the others as one batch")
    return report


@torch.no_grad()
def main() -> None:
    """A child process: the peak memory of one implementation, as JSON."""
    made = parser(__doc__)
    made.add_argument("--child", required=True)
    made.add_argument("--branches", type=int, default=1)
    given = made.parse_args()
    chosen = setting(given, "unet", CPU, GPU)
    model = model_of(chosen)
    for parameter in model.unet.parameters():
        parameter.sum()  # a mapped file counts when it is read
    case = unet_case(given.child, model, chosen, given.branches)
    print(json.dumps({"bytes": rss.over_start(case, chosen.device)}))


if __name__ == "__main__":
    sys.exit(main())
