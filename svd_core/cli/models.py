"""Load the model that the options name, on its device, within the limit of `--memory`."""

import argparse
import logging
import time
from collections.abc import Sequence

import torch

from ..checkpoints import load_model
from ..doctor.profile import BF16, KERNELS, DeviceProfile, follow_profile, read_profile
from ..lora.apply import apply_loras
from ..lora.read import read_lora_options
from ..model.devices import DTYPES, TESTED, bfloat16_units, dtype_named, pick_device
from ..model.guidance_passes import fixed_mode, set_guidance_mode
from ..model.half_precision import check_half
from ..model.model import SVDModel
from ..model.switches import accumulate_in_half, compile_blocks, multiply_by
from ..networks import kernels
from ..networks.config import SVDConfig
from ..networks.joined_weights import join_groups
from ..networks.kernels.attention_backends import force_backend
from ..pipelines.clip import AnimateSettings
from ..pipelines.planned import PlannedClip
from ..plan.placed import place
from ..plan.rate import measure_rate
from .plan import plan_clip
from .progress import Progress, since


def computing_device(name: str) -> torch.device:
    """Return the device of `--device`. Raises ValueError for one that is unavailable, or that computes nothing."""
    device = pick_device(name)
    if device.type == "meta":
        raise ValueError("device meta computes nothing; use cpu, or auto for the fastest available")
    return device


def load_named_model(options: argparse.Namespace, progress: Progress) -> SVDModel:
    """Load the model of --model with its LoRAs on --device in --dtype, and print what was loaded."""
    if options.quiet:
        logging.getLogger("svd_reel").setLevel(logging.ERROR)
    device = computing_device(options.device)
    dtype = DTYPES[dtype_named(options.dtype, device)]
    if options.dtype is None and device.type in TESTED and check_half(device).allowed:
        progress.say(check_half(device).text())  # a refusal is a warning of the log
    start = time.monotonic()
    loras = read_lora_options(options.lora)
    model = load_model(options.model, device=device, dtype=dtype, complete_from=options.complete_from)
    model = apply_loras(model, loras)
    if device.type == "cpu" and model.dtype != torch.float32:
        progress.say(_half_on_cpu(model.dtype))
    progress.say(f"{model.variant} on {device} in {str(model.dtype).removeprefix('torch.')}, {since(start)}")
    return model


def _half_on_cpu(dtype: torch.dtype) -> str:
    """Return what half precision means for the time on a CPU."""
    units = bfloat16_units() if dtype == torch.bfloat16 else None
    if units is None:
        return "half precision is many times slower than float32 on this CPU; use --dtype float32"
    profile = read_profile(torch.device("cpu"))
    factor = None if profile is None else profile.factors.get(BF16)
    if factor is None:
        return f"this CPU multiplies in bfloat16 ({units}); `svd-reel doctor` measures whether that is faster"
    return f"bfloat16 takes {1 / factor:.2f} times the time of float32 on this CPU, as `svd-reel doctor` measured"


def planned_of(settings: AnimateSettings, adapters: Sequence[str] = ()) -> PlannedClip:
    """Return what the plan of a clip with resolved settings and these adapters depends on."""
    return PlannedClip(
        settings.windows or settings.frames,
        settings.width,
        settings.height,
        settings.steps,
        guided=settings.max_guidance != 1 or settings.min_guidance != 1,
        reuse=(settings.reuse, settings.reuse_depth),
        adapters=tuple(adapters),
    )


def load_planned_model(
    options: argparse.Namespace,
    settings: AnimateSettings,
    config: SVDConfig,
    progress: Progress,
    adapters: Sequence[str] = (),
) -> SVDModel:
    """Load the model as `load_named_model` does, and apply the speed options to it.

    With --memory the weights are placed by the plan for the resolved `settings` and the adapters of the clip.
    """
    _check_device(options)
    if options.fp16_accumulation:
        accumulate_in_half()
    if options.fp8_products:
        kernels.fp8_product(computing_device(options.device))  # before a model is loaded for nothing
    profile = follow_profile(computing_device(options.device))
    kernels.use_kernels(_kernels_by(profile, options.kernels, progress))
    force_backend(None if options.attention == "auto" else options.attention)
    mode = None if options.guidance_branches == "auto" else options.guidance_branches.replace("-", " ")
    if options.memory is None:
        model = load_named_model(options, progress)
        set_guidance_mode(model.unet, mode)
        if model.device.type != "cpu":
            join_groups(model.unet)
    else:
        target = computing_device(options.device)
        name = dtype_named(options.dtype, target)
        dtype = DTYPES[name] or torch.float16
        rate = measure_rate(target, torch.float32 if target.type == "cpu" else dtype)
        clip = planned_of(settings, adapters)
        guidance = mode or fixed_mode(target, clip.frames, clip.height // 8, clip.width // 8)
        plan = plan_clip(
            config,
            clip,
            options.memory,
            itemsize=dtype.itemsize,
            rate=rate,
            guidance=guidance,
        )
        progress.say(plan.text())
        if options.compile and plan.placement == "streamed":
            raise ValueError("--compile needs the weights on the device, but this plan streams them; leave it out")
        options = argparse.Namespace(**{**vars(options), "device": "cpu", "dtype": name})
        model = place(load_named_model(options, progress), plan, target)
        if mode is not None:
            set_guidance_mode(model.unet, mode)
    if model.device.type != "cpu":
        progress.say(f"norms and gates: {kernels.describe(model.device)}")
    if options.fp8_products:
        multiply_by(model.unet, "fp8", model.device)
    if options.compile:
        compile_blocks(model.unet)
    return model


def _kernels_by(profile: DeviceProfile | None, mode: str, progress: Progress) -> str:
    """Return the mode of the kernels: auto turns them off where the profile of the device shows no gain."""
    if mode != "auto" or profile is None or profile.gains(KERNELS) is not False:
        return mode
    progress.say(f"fused kernels gain nothing on this device ({profile.factors[KERNELS]:.2f} times as fast); not used")
    return "plain"


def _check_device(options: argparse.Namespace) -> None:
    """Raise ValueError for options that only work on CUDA where the device is another one."""
    device = computing_device(options.device)
    if device.type == "cuda":
        return
    given = {"--attention": options.attention != "auto", "--fp16-accumulation": options.fp16_accumulation}
    for name in (name for name, used in given.items() if used):
        raise ValueError(f"{name} only applies to CUDA devices (the device is {device}); leave it out")
