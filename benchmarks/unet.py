"""How fast is a pass of the UNet and how much memory does it need, compared with diffusers and ComfyUI?"""

import json
import sys

import torch

from . import rss
from .options import Setting, parser, setting
from .results import Report
from .side_by_side import COLUMNS, compare
from .subjects import model_of, ours_together, unet_case

CPU, GPU = ("real", "14x128x256"), ("real", "25x576x1024")


def run(chosen: Setting) -> Report:
    """Time a guided step (two CFG passes) on a GPU, or one pass on the CPU."""
    passes = 2 if chosen.device.type == "cuda" else 1
    size = "x".join(map(str, chosen.clip))
    report = chosen.report(
        "unet",
        f"UNet: {passes} pass{'es' * (passes > 1)} of {size}, {chosen.scale} width, {chosen.dtype}",
        COLUMNS,
    )
    model = model_of(chosen)
    words = [*chosen.words(), "--passes", str(passes)]
    compare(
        report,
        chosen,
        lambda name: unet_case(name, model, chosen, passes),
        lambda name: ["unet", "--child", name, *words],
    )
    how = "in one batch" if ours_together(chosen) else "one after the other"
    report.notes.append(f"ours runs the two CFG passes {how}, as its sampler does at this size; others in one batch")
    return report


@torch.no_grad()
def main() -> None:
    """Print the peak memory of one implementation as JSON; runs in a child process."""
    made = parser(__doc__)
    made.add_argument("--child", required=True)
    made.add_argument("--passes", type=int, default=1)
    given = made.parse_args()
    chosen = setting(given, "unet", CPU, GPU)
    model = model_of(chosen)
    for parameter in model.unet.parameters():
        parameter.sum()  # a mapped file is resident only after it is read
    case = unet_case(given.child, model, chosen, given.passes)
    print(json.dumps({"bytes": rss.over_start(case, chosen.device)}))


if __name__ == "__main__":
    sys.exit(main())
