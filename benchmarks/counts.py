"""What does every network run at the real size: kernels, operations, bytes moved, peak memory? Counted, not timed.

The counts do not depend on the machine, so that two versions of the project can be compared: `python -m benchmarks
compare OLD NEW`.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from svd_core.memory import PeakMemory
from svd_core.model.streamed_decode import STRATEGIES, decode_clip
from svd_core.networks.config import SVDConfig, UNetConfig
from svd_core.networks.image_encoder import ImageEncoder
from svd_core.networks.joined_weights import join_groups
from svd_core.networks.unet import UNet
from svd_core.networks.vae import VAE

from .options import Setting
from .results import Report

CPU = GPU = ("real", "25x576x1024")
KERNELS, WORK, MOVED, PEAK = "kernels", "TFLOP", "GB moved", "peak MiB"
PLACE = {"device": "meta", "dtype": torch.float16}
Run = Callable[[], object]


def run(chosen: Setting) -> Report:
    """Report the counts of one run of every network on the meta device, in float16."""
    report = chosen.report("counts", f"Counts of the real networks, {'x'.join(map(str, chosen.clip))}, float16", [])
    report.columns = ["stage", KERNELS, WORK, MOVED, PEAK]
    report.machine = f"meta device, torch {torch.__version__}"
    for stage, case in cases(SVDConfig(), chosen.frames, *chosen.latent_size).items():
        report.rows.append({"stage": stage, **counted(case)})
    report.notes.append(
        "a repeated run: what does not change between steps is cached; bytes that kernels read and write"
    )
    return report


@torch.no_grad()
def counted(case: Run) -> dict[str, float]:
    """Return the counts of the second run of a case; the first one fills the caches."""
    case()
    with PeakMemory() as memory:
        case()
    # The counter knows only products out of place.
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _product}) as counter:
        case()
    return {
        KERNELS: memory.operations,
        WORK: round(counter.get_total_flops() / 1e12, 6),
        MOVED: round(memory.moved / 1e9, 6),
        PEAK: round(memory.peak / 2**20, 3),
    }


def _product(out: torch.Size, left: torch.Size, right: torch.Size, *others: object, **options: object) -> int:
    return 2 * left[0] * left[1] * right[1]


def cases(config: SVDConfig, frames: int, height: int, width: int) -> dict[str, Run]:
    """Return one run of every network over latents [frames, 4, height, width]."""
    unet, vae = UNet(config.unet, **PLACE), VAE(config.vae, **PLACE)
    join_groups(unet)
    encoder = ImageEncoder(config.image_encoder, **PLACE)
    side = config.image_encoder.image_size
    pixels, latent = torch.empty(1, 3, side, side, **PLACE), torch.empty(frames, 4, height, width, **PLACE)
    picture = torch.empty(1, 3, 8 * height, 8 * width, **PLACE)
    one, two = (unet_inputs(config.unet, clips, frames, height, width) for clips in (1, 2))
    found: dict[str, Run] = {
        "UNet, one pass": lambda: unet(**one),
        "UNet, both passes of guidance": lambda: unet(**two),
        "image encoder": lambda: encoder(pixels),
        "VAE encoder": lambda: vae.encode(picture),
    }
    for strategy in STRATEGIES[:2]:
        found[f"decode ({strategy})"] = lambda strategy=strategy: decode_clip(vae, latent, strategy)
    return found


def unet_inputs(config: UNetConfig, clips: int, frames: int, height: int, width: int) -> dict[str, object]:
    """Return the inputs of a pass over `clips` clips, with rows repeated by their strides as the denoiser does."""
    rows = clips * frames

    def repeated(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(1, *shape, device="meta", dtype=dtype)

    tokens = tuple(
        repeated(1, config.context_channels, dtype=PLACE["dtype"]).expand(frames, -1, -1) for _ in range(clips)
    )
    return {
        "x": torch.empty(rows, config.in_channels, height, width, **PLACE),
        "c_noise": repeated().expand(rows),
        "context": tokens if clips > 1 else tokens[0],
        "vector": repeated(config.vector_channels).expand(rows, -1),
        "num_frames": frames,
    }
