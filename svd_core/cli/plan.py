"""`svd-reel plan`: the memory and the time that a clip needs, before anything is run."""

import argparse
from dataclasses import replace

import torch

from ..checkpoints import inspect_checkpoint
from ..checkpoints.detect import BY_VECTOR, NATIVE
from ..networks.config import SVDConfig, UNetConfig, VAEConfig
from ..pictures.sheets import to_picture
from ..pipelines.planned import planned_settings
from ..pipelines.settings import AnimateSettings, sigmas_of
from ..plan.control_costs import cost_text, method_costs
from ..plan.memory_plan import PRESETS, measure_rate
from ..plan.page import draw_plan
from .models import plan_clip
from .options import memory_of, rate_of
from .outputs import check_outputs, check_page, save_page

RELEASES = ("svd", "svd_xt", "svd_xt_1_1", "sv3d_u", "sv3d_p")


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `plan`."""
    parser.description = (
        "Print the memory and the operations of every stage of a clip, and how the clip fits a memory limit. Nothing "
        f"is run. --model may be a file, or the name of a release: {', '.join(RELEASES)}."
    )
    parser.set_defaults(run=run_plan)
    parser.add_argument(
        "--model", default="svd_xt", metavar="NAME|FILE|FOLDER", help="release, checkpoint or folder (default: svd_xt)"
    )
    parser.add_argument("--width", type=int, metavar="PIXELS", help="multiple of 8 (default: the model's own)")
    parser.add_argument("--height", type=int, metavar="PIXELS", help="multiple of 8 (default: the model's own)")
    parser.add_argument("--frames", type=int, help="number of frames (default: the model's own)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the model's own)")
    parser.add_argument(
        "--reuse",
        type=int,
        default=1,
        metavar="N",
        help="plan with cached UNet features that are reused for N steps, as `animate --reuse` (default: 1, off)",
    )
    parser.add_argument(
        "--memory",
        type=memory_of,
        metavar="GB",
        help=f"memory of the device in GB (default: one plan each for {', '.join(map(str, PRESETS))})",
    )
    parser.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32"),
        default="float16",
        help="precision of the weights (default: float16)",
    )
    parser.add_argument(
        "--rate", type=rate_of, metavar="TFLOPS", help="estimate the time from this rate of the device, such as 80"
    )
    parser.add_argument(
        "--measure", action="store_true", help="estimate the time from the measured rate of this machine's device"
    )
    parser.add_argument("--page", metavar="FILE.png", help="draw the plan: .png, .jpg or .webp; needs --memory")
    parser.add_argument("--methods", action="store_true", help="also print what every control costs at this size")


def config_by_name(name: str) -> SVDConfig:
    """Return the configuration of a release, which needs no weights, or of a checkpoint file or folder."""
    if name in RELEASES:
        frames, width, height = NATIVE[name]
        config = SVDConfig(variant=name, frames=frames, width=width, height=height)
        vector = {variant: channels for channels, variant in BY_VECTOR.items()}.get(name)
        if vector is None:
            return config
        # The orbital models decode frame by frame, with the autoencoder of their conditioner.
        vae = VAEConfig(temporal=False, post_quant_conv=True)
        return replace(config, unet=UNetConfig(vector_channels=vector), vae=vae)
    return inspect_checkpoint(name).config


def run_plan(options: argparse.Namespace) -> None:
    """Print the plan for --memory, or one for every preset."""
    _check(options)
    config = config_by_name(options.model)
    if options.methods and _settings(options, config).frames < 2:
        raise ValueError("--methods needs a clip that moves (got 1 frame); use --frames 2 or more")
    dtype = getattr(torch, options.dtype)
    rate = None if options.rate is None else options.rate * 1e12
    if options.measure:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        rate = measure_rate(device, dtype if device.type == "cuda" else torch.float32)
    memories = PRESETS if options.memory is None else (options.memory,)
    plan = None
    for memory in memories:
        plan = plan_clip(config, _settings(options, config), memory, dtype=dtype, rate=rate)
        print(plan.text(), flush=True)
    if options.methods:
        settings = _settings(options, config)
        size = (settings.frames, settings.width, settings.height)
        given = {"itemsize": dtype.itemsize, "control_scale": config.control_scale}
        print(cost_text(method_costs(config.unet, *size, sigmas_of(settings), **given)))
    if options.page:
        save_page(to_picture(draw_plan(plan)), options.page)


def _check(options: argparse.Namespace) -> None:
    if options.rate is not None and options.measure:
        raise ValueError("--rate and --measure both set the rate; leave one of them out")
    if options.page is None:
        return
    if options.memory is None:
        raise ValueError("--page draws a single plan; add --memory GB, such as --memory 8")
    check_page("--page", options.page)
    check_outputs({"--page": options.page}, {})


def _settings(options: argparse.Namespace, config: SVDConfig) -> AnimateSettings:
    given = {name: getattr(options, name) for name in ("width", "height", "frames", "steps", "reuse")}
    return planned_settings(config, **given)
