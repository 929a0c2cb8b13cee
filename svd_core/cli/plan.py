"""`python -m svd_core plan`: what a clip needs, before anything is run; and `animate --memory`, which follows it."""

import argparse
import math
from pathlib import Path

import torch

from ..checkpoints import inspect_checkpoint
from ..checkpoints.detect import NATIVE
from ..model.guidance_passes import GUIDANCE_MODES, fixed_mode, set_guidance_mode
from ..model.model import SVDModel
from ..model.switches import accumulate_in_half, compile_blocks, multiply_by
from ..networks import kernels
from ..networks.attention_kernels import BACKENDS, force_backend
from ..networks.config import SVDConfig
from ..networks.reused_work import join_groups
from ..pictures.sheets import to_picture
from ..pipelines.clip import AnimateSettings
from ..plan.control_costs import cost_text, method_costs
from ..plan.memory_plan import GIB, PRESETS, MemoryPlan, make_plan, measure_rate
from ..plan.page import draw_plan
from ..plan.placed import place
from .options import DTYPES, Progress, model_of, pick_device
from .outputs import PAGE_KINDS, check_outputs, save_page

RELEASES = ("svd", "svd_xt", "svd_xt_1_1")


def add_plan(commands: argparse._SubParsersAction) -> None:
    """Add the command `plan` to those of a parser."""
    command = commands.add_parser(
        "plan",
        help="say what memory and time a clip needs",
        description="Say what every stage of a clip needs and how it fits a memory, without running anything. "
        f"--model may be a file, or the name of a release: {', '.join(RELEASES)}.",
    )
    command.set_defaults(run=run_plan)
    command.add_argument("--model", default="svd_xt", metavar="NAME|FILE|FOLDER", help="default: svd_xt")
    command.add_argument("--width", type=int, metavar="PIXELS", help="default: the model's own")
    command.add_argument("--height", type=int, metavar="PIXELS", help="default: the model's own")
    command.add_argument("--frames", type=int, help="default: the model's own")
    command.add_argument("--steps", type=int, help="default: the model's own")
    command.add_argument(
        "--reuse", type=int, default=1, metavar="N", help="as animate's: features serve for N steps (default: 1, off)"
    )
    command.add_argument(
        "--memory", type=memory_of, metavar="GB", help=f"{', '.join(map(str, PRESETS))} or any other (default: all)"
    )
    command.add_argument("--dtype", choices=("float16", "bfloat16", "float32"), default="float16")
    command.add_argument("--rate", type=rate_of, metavar="TFLOPS", help="rate of the device, for the time")
    command.add_argument("--measure", action="store_true", help="measure the rate of this machine's device instead")
    command.add_argument("--page", metavar="FILE.png", help="draw the plan")
    command.add_argument("--methods", action="store_true", help="say what every control costs at this size, too")


def memory_of(text: str) -> float:
    """Gigabytes, or argparse's error."""
    return _number(text, 0.01, 4096.0, "gigabytes of memory", 8)


def rate_of(text: str) -> float:
    """TFLOP a second, or argparse's error."""
    return _number(text, 1e-6, 1e6, "a rate in TFLOP a second", 80)


def _number(text: str, least: float, most: float, what: str, usual: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what} from {least:g} to {most:g}; use such as {usual:g}")
    return number


def config_by_name(name: str) -> SVDConfig:
    """The configuration of a release by its name, or of a file or folder; a name needs no weights."""
    if name in RELEASES:
        frames, width, height = NATIVE[name]
        return SVDConfig(variant=name, frames=frames, width=width, height=height)
    return inspect_checkpoint(name).config


def run_plan(options: argparse.Namespace) -> None:
    """Print the plan, or one for every preset."""
    _check(options)
    config = config_by_name(options.model)
    if options.methods and _settings(options, config).frames < 2:
        raise ValueError("--methods tells what moving a clip costs, and 1 frame cannot move; use --frames 2 or more")
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
        print(cost_text(method_costs(config.unet, *size, settings.sigmas(), itemsize=dtype.itemsize)))
    if options.page:
        save_page(to_picture(draw_plan(plan)), options.page)


def _check(options: argparse.Namespace) -> None:
    if options.rate is not None and options.measure:
        raise ValueError("--rate and --measure both give the speed; leave one of them out")
    if options.page is None:
        return
    if options.memory is None:
        raise ValueError("--page draws one plan; add --memory GB, such as --memory 8")
    if Path(options.page).suffix.lower() not in PAGE_KINDS:
        raise ValueError(f"--page {options.page} is no picture; end its name in {', '.join(PAGE_KINDS)}")
    check_outputs({"--page": options.page}, {})


def _settings(options: argparse.Namespace, config: SVDConfig) -> AnimateSettings:
    given = {name: getattr(options, name) for name in ("width", "height", "frames", "steps")}
    return AnimateSettings(**given, reuse=options.reuse).resolve(config)


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


def add_speed_options(group: argparse._ArgumentGroup) -> None:
    """Add what makes a clip smaller or faster without changing it, but for the rounding of other kernels."""
    group.add_argument(
        "--memory",
        type=memory_of,
        metavar="GB",
        help="stay within so much memory of the device: the plan for it is shown and followed; with 6 the UNet's "
        "weights stay in main memory and are streamed",
    )
    group.add_argument(
        "--guidance-branches",
        choices=("auto", *(way.replace(" ", "-") for way in GUIDANCE_MODES)),
        default="auto",
        help="both branches of guidance in one UNet pass, or in turn; auto: together for small clips on a GPU, where "
        "that should be faster, if the memory is there. Equal up to rounding (default: auto)",
    )
    group.add_argument(
        "--attention",
        choices=("auto", *BACKENDS),
        default="auto",
        help="attention kernel on CUDA (default: the fastest)",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the UNet's blocks: minutes once, then steps are about a fifth faster by others' measurements",
    )
    group.add_argument(
        "--fp16-accumulation",
        action="store_true",
        help="sum matrix products in float16: steps up to a quarter faster on GeForce cards by others' measurements, "
        "coarser; may overflow",
    )
    group.add_argument(
        "--fp8-products",
        action="store_true",
        help="multiply by the transformers' matrices in 8 bits, on cards from compute capability 8.9: steps about a "
        "tenth faster by estimate, not yet measured on a GPU; coarser, not calibrated on real weights",
    )
    group.add_argument(
        "--kernels",
        choices=kernels.MODES,
        default="auto",
        help="auto: norms and gates in one pass over memory each, by Triton where a CUDA device and Triton are there; "
        "plain: by PyTorch. Equal up to rounding (default: auto)",
    )


def add_reuse_options(group: argparse._ArgumentGroup) -> None:
    """Add the reuse of features across steps, which changes the clip."""
    group.add_argument(
        "--reuse",
        type=int,
        metavar="N",
        help="run the whole UNet at every Nth step only: 2 takes about 0.6 of the time, 3 half of it; details drift "
        "(default: 1, off)",
    )
    group.add_argument(
        "--reuse-depth",
        type=int,
        metavar="N",
        help="outermost pairs of UNet blocks that run in every step: more is closer to the exact clip and slower "
        "(default: 2)",
    )
    group.add_argument(
        "--reuse-sigma-low", type=float, metavar="SIGMA", help="no reuse below this noise level (default: 0)"
    )
    group.add_argument(
        "--reuse-sigma-high", type=float, metavar="SIGMA", help="no reuse above this noise level (default: 700, none)"
    )


def _check_device(options: argparse.Namespace) -> None:
    """Find options that only CUDA follows, where there is none."""
    if pick_device(options.device).type == "cuda":
        return
    asked = {"--attention": options.attention != "auto", "--fp16-accumulation": options.fp16_accumulation}
    for name in (name for name, given in asked.items() if given):
        raise ValueError(f"{name} is for CUDA devices and the device is {pick_device(options.device)}; leave it out")


def planned_model(
    options: argparse.Namespace, settings: AnimateSettings, config: SVDConfig, progress: Progress
) -> SVDModel:
    """The model of the options of `add_speed_options` and the console's, placed by the plan of resolved `settings`."""
    _check_device(options)
    if options.fp16_accumulation:
        accumulate_in_half()
    if options.fp8_products:
        kernels.in_eight_bits(pick_device(options.device))  # before a model is loaded for nothing
    kernels.use_kernels(options.kernels)
    force_backend(None if options.attention == "auto" else options.attention)
    way = None if options.guidance_branches == "auto" else options.guidance_branches.replace("-", " ")
    if options.memory is None:
        model = model_of(options, progress)
        set_guidance_mode(model.unet, way)
        if model.device.type != "cpu":
            join_groups(model.unet)
    else:
        target = pick_device(options.device)
        name = options.dtype or ("float16" if target.type == "cuda" else "float32")
        dtype = DTYPES[name] or torch.float16
        rate = measure_rate(target, dtype if target.type == "cuda" else torch.float32)
        guidance = way or fixed_mode(target)
        plan = plan_clip(config, settings, options.memory, dtype=dtype, rate=rate, guidance=guidance)
        progress.say(plan.text())
        if options.compile and plan.placement == "streamed":
            raise ValueError("--compile needs the weights on the device, but this plan streams them; leave it out")
        options = argparse.Namespace(**{**vars(options), "device": "cpu", "dtype": name})
        model = place(model_of(options, progress), plan, target)
    if model.device.type != "cpu":
        progress.say(f"norms and gates: {kernels.describe(model.device)}")
    if options.fp8_products:
        multiply_by(model.unet, "fp8", model.device)
    if options.compile:
        compile_blocks(model.unet)
    return model
