"""The model that the options name: loaded, on its device, within a memory where `--memory` asks for that."""

import argparse
import logging
import time

import torch

from ..checkpoints import load_model
from ..lora.apply import apply_loras
from ..lora.read import read_lora_options
from ..model.guidance_passes import fixed_mode, set_guidance_mode
from ..model.model import SVDModel
from ..model.switches import accumulate_in_half, compile_blocks, multiply_by
from ..networks import kernels
from ..networks.config import SVDConfig
from ..networks.joined_weights import join_groups
from ..networks.kernels.attention_backends import force_backend
from ..pipelines.clip import AnimateSettings
from ..plan.memory_plan import GIB, MemoryPlan, make_plan, measure_rate
from ..plan.placed import place
from .progress import Progress, since

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "stored": None}


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


def load_named_model(options: argparse.Namespace, progress: Progress) -> SVDModel:
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


def plan_clip(
    config: SVDConfig,
    settings: AnimateSettings,
    gigabytes: float,
    *,
    dtype: torch.dtype = torch.float16,
    rate: float | None = None,
    guidance: str | None = None,
) -> MemoryPlan:
    """The plan of a clip with resolved settings in so many GB (2^30 bytes). guidance: as in `make_plan`."""
    return make_plan(
        config,
        settings.windows or settings.frames,
        settings.width,
        settings.height,
        int(gigabytes * GIB),
        steps=settings.steps,
        guided=settings.max_guidance != 1 or settings.min_guidance != 1,
        itemsize=dtype.itemsize,
        rate=rate,
        reuse=(settings.reuse, settings.reuse_depth),
        guidance=guidance,
    )


def _check_device(options: argparse.Namespace) -> None:
    """Find options that only CUDA follows, where there is none."""
    if pick_device(options.device).type == "cuda":
        return
    asked = {"--attention": options.attention != "auto", "--fp16-accumulation": options.fp16_accumulation}
    for name in (name for name, given in asked.items() if given):
        raise ValueError(f"{name} is for CUDA devices and the device is {pick_device(options.device)}; leave it out")


def load_planned_model(
    options: argparse.Namespace, settings: AnimateSettings, config: SVDConfig, progress: Progress
) -> SVDModel:
    """The model of the options of `add_speed_options` and the console's, placed by the plan of resolved `settings`."""
    _check_device(options)
    if options.fp16_accumulation:
        accumulate_in_half()
    if options.fp8_products:
        kernels.fp8_product(pick_device(options.device))  # before a model is loaded for nothing
    kernels.use_kernels(options.kernels)
    force_backend(None if options.attention == "auto" else options.attention)
    mode = None if options.guidance_branches == "auto" else options.guidance_branches.replace("-", " ")
    if options.memory is None:
        model = load_named_model(options, progress)
        set_guidance_mode(model.unet, mode)
        if model.device.type != "cpu":
            join_groups(model.unet)
    else:
        target = pick_device(options.device)
        name = options.dtype or ("float16" if target.type == "cuda" else "float32")
        dtype = DTYPES[name] or torch.float16
        rate = measure_rate(target, dtype if target.type == "cuda" else torch.float32)
        guidance = mode or fixed_mode(target)
        plan = plan_clip(config, settings, options.memory, dtype=dtype, rate=rate, guidance=guidance)
        progress.say(plan.text())
        if options.compile and plan.placement == "streamed":
            raise ValueError("--compile needs the weights on the device, but this plan streams them; leave it out")
        options = argparse.Namespace(**{**vars(options), "device": "cpu", "dtype": name})
        model = place(load_named_model(options, progress), plan, target)
    if model.device.type != "cpu":
        progress.say(f"norms and gates: {kernels.describe(model.device)}")
    if options.fp8_products:
        multiply_by(model.unet, "fp8", model.device)
    if options.compile:
        compile_blocks(model.unet)
    return model
