"""Does a whole clip complete on cards of 6, 8, 12 and 16 GB with the same result? Without a GPU: the decoder only."""

import argparse
import json
import sys

import torch

import svd_core as svd
from svd_core.memory import PeakMemory
from svd_core.model.streamed_decode import STRATEGIES
from svd_core.networks.activation_bytes import decoder_activation_bytes
from svd_core.plan.memory_plan import RESERVE, make_plan
from svd_core.plan.placed import place

from . import rss
from .options import Setting
from .results import Report
from .subjects import DIFFUSERS, OURS, decoder_of
from .weights import checkpoint

CPU, GPU = ("small", "8x128x128"), ("real", "25x576x1024")
CAPS = (6, 8, 12, 16)
PARTS = ("unet", "vae", "image_encoder")


@torch.no_grad()
def run(chosen: Setting) -> Report:
    """Run every cap in its own process on a GPU, with the process limited to that memory."""
    size = "x".join(map(str, chosen.clip))
    if chosen.device.type != "cuda":
        return _without_gpu(chosen, size)
    columns = ["cap GB", "implementation", "completes", "peak GiB", "seconds of 2 steps and decode", "same as uncapped"]
    report = chosen.report("memory_caps", f"Whole clips under memory caps: {size}, float16", columns)
    path = checkpoint(chosen.scale, chosen.work, PARTS)
    free: dict[str, str] = {}
    for cap in (0, *CAPS):
        for name in (OURS, DIFFUSERS):
            words = ["--child", name, str(path), "--cap", str(cap), "--clip", size, "--device", str(chosen.device)]
            found = rss.in_child("memory_caps", *words)
            row = {"cap GB": cap or "none", "implementation": name, "completes": "error" not in found}
            if "error" in found:
                row["same as uncapped"] = found["error"][:120]
            else:
                free.setdefault(name, found["sum"])
                row |= {"peak GiB": found["bytes"] / 2**30, "seconds of 2 steps and decode": found["seconds"]}
                row["same as uncapped"] = found["sum"] == free[name]
            report.rows.append(row)
    report.notes.append("diffusers: enable_model_cpu_offload and unet forward chunking, decoded in chunks of 8 frames")
    return report


def _without_gpu(chosen: Setting, size: str) -> Report:
    columns = ["strategy", "memory MiB", "estimate MiB", "bit for bit the same"]
    report = chosen.report("memory_caps", f"Decoding {size} in less memory, {chosen.scale} width (no GPU)", columns)
    report.unit = "MiB"
    model = decoder_of(chosen)
    height, width = chosen.latent_size
    latent = torch.randn(chosen.frames, 4, height, width, generator=torch.Generator().manual_seed(2))
    first = None
    for strategy in STRATEGIES:
        estimate = decoder_activation_bytes(
            model.config.vae.decoder, chosen.frames, height, width, chosen.dtype.itemsize, strategy=strategy
        )
        with PeakMemory() as memory:
            frames = model.decode(latent, memory_limit=estimate)
        first = frames if first is None else first
        row = {"strategy": strategy, "memory MiB": memory.peak / 2**20, "estimate MiB": estimate / 2**20}
        report.rows.append(row | {"bit for bit the same": torch.equal(frames, first)})
        report.bars.append((f"ours, {strategy}", memory.peak / 2**20))
    report.notes.append("whole clips under caps of 6, 8, 12 and 16 GB need a GPU and are not measured yet")
    report.notes.append("`host` saves nothing on a CPU, where main memory is the compute memory")
    return report


@torch.no_grad()
def main() -> None:
    """Print the memory and time of one clip under one cap as JSON; runs in a child process."""
    made = argparse.ArgumentParser()
    made.add_argument("--child", required=True)
    made.add_argument("path")
    made.add_argument("--cap", type=float, required=True)
    made.add_argument("--clip", required=True)
    made.add_argument("--device", default="cuda")
    given = made.parse_args()
    device = torch.device(given.device)
    frames, height, width = (int(part) for part in given.clip.split("x"))
    if given.cap:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, given.cap * 1e9 / total), device)
    picture = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(0))
    make = _ours if given.child == OURS else _diffusers
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    clip = make(given.path, device, picture, frames, given.cap)
    end.record()
    torch.cuda.synchronize(device)
    found = {"bytes": torch.cuda.max_memory_reserved(device), "seconds": start.elapsed_time(end) / 1000}
    print(json.dumps(found | {"sum": f"{clip.double().sum().item():.17g}"}))


def _ours(path: str, device: torch.device, picture: torch.Tensor, frames: int, cap: float) -> torch.Tensor:
    height, width = picture.shape[1:3]
    if cap:
        # The cap limits torch's own memory; a plan also reserves memory for the driver.
        model = svd.load_model(path, dtype=torch.float16)
        memory = int(cap * 1e9) + RESERVE
        model = place(model, make_plan(model.config, frames, width, height, memory, steps=2), device)
    else:
        model = svd.load_model(path, device=device, dtype=torch.float16)
    return svd.animate(model, picture, svd.AnimateSettings(width=width, height=height, frames=frames, steps=2))


def _diffusers(path: str, device: torch.device, picture: torch.Tensor, frames: int, cap: float) -> torch.Tensor:
    import diffusers
    import transformers
    from PIL import Image

    from . import peers

    model = svd.load_model(path, dtype=torch.float16)
    pipeline = diffusers.StableVideoDiffusionPipeline(
        vae=peers.diffusers_vae(model),
        image_encoder=peers.transformers_image_encoder(model),
        unet=peers.diffusers_unet(model),
        scheduler=diffusers.EulerDiscreteScheduler(
            prediction_type="v_prediction", timestep_type="continuous", use_karras_sigmas=True, sigma_min=0.002,
            sigma_max=700.0,
        ),
        feature_extractor=transformers.CLIPImageProcessor(),
    )  # fmt: skip
    pipeline.enable_model_cpu_offload(device=device)
    pipeline.unet.enable_forward_chunking()
    height, width = picture.shape[1:3]
    image = Image.fromarray((picture[0] * 255).byte().numpy())
    return pipeline(
        image, height=height, width=width, num_frames=frames, num_inference_steps=2, decode_chunk_size=8,
        generator=torch.Generator().manual_seed(0), output_type="pt",
    ).frames[0]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
