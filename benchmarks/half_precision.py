"""Is our half precision as close to float32 as that of diffusers?"""

from dataclasses import replace

import torch

from svd_core.doctor.timing import difference

from .options import Setting
from .results import Report
from .subjects import DIFFUSERS, OURS, decode_case, decoder_of, model_of, unet_case

CPU, GPU = ("small", "4x64x64"), ("real", "25x576x1024")
HALVES = (torch.bfloat16, torch.float16)
STAGES = {"UNet": (model_of, unet_case), "decode": (decoder_of, decode_case)}


@torch.no_grad()
def run(chosen: Setting) -> Report:
    """Compare each implementation in half precision with itself in float32, on one input."""
    columns = ["stage", "precision", "ours", "diffusers", "ours / diffusers"]
    size = "x".join(map(str, chosen.clip))
    report = chosen.report("half_precision", f"Error of half precision against float32: {size}", columns)
    report.unit = "relative error"
    for stage, (load, case) in STAGES.items():
        truth = _outputs(load, case, replace(chosen, dtype=torch.float32))
        for dtype in HALVES:
            values = _outputs(load, case, replace(chosen, dtype=dtype))
            errors = {name: difference(values[name], truth[name]) for name in truth}
            precision = str(dtype).removeprefix("torch.")
            row = {"stage": stage, "precision": precision, **errors}
            report.rows.append(row | {"ours / diffusers": f"{errors[OURS] / errors[DIFFUSERS]:.2f}"})
            report.bars += [(f"{stage} {precision} {name}", error) for name, error in errors.items()]
    report.notes.append("random weights: with the real ones the errors are smaller, so compare the ratio")
    return report


def _outputs(load, case, chosen: Setting) -> dict[str, torch.Tensor]:
    model = load(chosen)
    return {name: case(name, model, chosen)().float().cpu() for name in (OURS, DIFFUSERS)}
