"""`svd-reel plan`: the memory and the time that a clip needs, before anything is run."""

import argparse

from ..networks.config import SVDConfig
from ..networks.variants import RELEASES, release_config
from ..pipelines.planned import PlannedClip, planned_clip
from ..plan.adapter_costs import ADAPTERS
from ..plan.memory_plan import GIB, PRESETS, MemoryPlan, make_plan
from ..sampling.limits import DEPTH
from .numbers import memory_of, rate_of

BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}


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
        choices=tuple(BYTES),
        default="float16",
        help="precision of the weights (default: float16)",
    )
    parser.add_argument(
        "--rate", type=rate_of, metavar="TFLOPS", help="estimate the time from this rate of the device, such as 80"
    )
    parser.add_argument(
        "--measure", action="store_true", help="estimate the time from the measured rate of this machine's device"
    )
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        choices=tuple(ADAPTERS),
        help="plan with this network beside the UNet; repeat the option for several",
    )
    parser.add_argument("--page", metavar="FILE.png", help="draw the plan: .png, .jpg or .webp; needs --memory")
    parser.add_argument("--methods", action="store_true", help="also print what every control costs at this size")


def config_by_name(name: str) -> SVDConfig:
    """Return the configuration of a release, which needs no weights, or of a checkpoint file or folder."""
    if name in RELEASES:
        return release_config(name)
    from ..checkpoints import inspect_checkpoint

    return inspect_checkpoint(name).config


def plan_clip(
    config: SVDConfig,
    clip: PlannedClip,
    gigabytes: float,
    *,
    itemsize: int = 2,
    rate: float | None = None,
    guidance: str | None = None,
) -> MemoryPlan:
    """Return the plan of a clip for a memory limit in GB (2^30 bytes).

    itemsize: bytes per weight. rate: of the device in FLOP/s, for the time. guidance: as in `make_plan`.
    """
    size = (clip.frames, clip.width, clip.height, int(gigabytes * GIB))
    given = {"steps": clip.steps, "guided": clip.guided, "reuse": clip.reuse, "adapters": clip.adapters}
    return make_plan(config, *size, **given, itemsize=itemsize, rate=rate, guidance=guidance)


def run_plan(options: argparse.Namespace) -> None:
    """Print the plan for --memory, or one for every preset."""
    _check(options)
    config = config_by_name(options.model)
    wanted = {name: getattr(options, name) for name in ("width", "height", "frames", "steps")}
    clip = planned_clip(config, **wanted, reuse=(options.reuse, DEPTH), adapters=options.adapter)
    if options.methods and clip.frames < 2:
        raise ValueError("--methods needs a clip that moves (got 1 frame); use --frames 2 or more")
    itemsize = BYTES[options.dtype]
    rate = None if options.rate is None else options.rate * 1e12
    if options.measure:
        rate = _measured_rate(options.dtype)
    memories = PRESETS if options.memory is None else (options.memory,)
    plan = None
    for memory in memories:
        plan = plan_clip(config, clip, memory, itemsize=itemsize, rate=rate)
        print(plan.text(), flush=True)
    if options.methods:
        print(_methods(config, clip, itemsize))
    if options.page:
        _save_page(plan, options.page)


# The rest needs torch or pictures, which take longer to import than a plan to make.


def _measured_rate(dtype: str) -> float:
    """Return the operations per second of this machine's device."""
    import torch

    from ..plan.rate import measure_rate

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return measure_rate(device, getattr(torch, dtype) if device.type == "cuda" else torch.float32)


def _methods(config: SVDConfig, clip: PlannedClip, itemsize: int) -> str:
    """Return the table of what every control costs."""
    from ..plan.control_costs import cost_text, method_costs
    from ..sampling.schedules import make_sigmas

    size = (clip.frames, clip.width, clip.height, make_sigmas(clip.schedule, clip.steps))
    return cost_text(method_costs(config.unet, *size, itemsize=itemsize, control_scale=config.control_scale))


def _save_page(plan: MemoryPlan, path: str) -> None:
    """Draw the plan into a file."""
    from ..pictures.sheets import to_picture
    from ..plan.page import draw_plan
    from .outputs import save_page

    save_page(to_picture(draw_plan(plan)), path)


def _check(options: argparse.Namespace) -> None:
    if options.rate is not None and options.measure:
        raise ValueError("--rate and --measure both set the rate; leave one of them out")
    if options.page is None:
        return
    if options.memory is None:
        raise ValueError("--page draws a single plan; add --memory GB, such as --memory 8")
    from .outputs import check_outputs, check_page

    check_page("--page", options.page)
    check_outputs({"--page": options.page}, {})
