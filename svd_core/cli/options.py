"""Options that several commands share."""

import argparse
import math

from ..lora.read import split_lora_option
from ..model.guidance_passes import GUIDANCE_MODES
from ..networks import kernels
from ..networks.kernels.attention_backends import BACKENDS
from ..pipelines.settings import SETTINGS

DTYPES = ("float32", "float16", "bfloat16", "stored")


def add_settings(group: argparse._ActionsContainer, *names: str) -> None:
    """Add options for fields of AnimateSettings, as `pipelines.settings.SETTINGS` describes them."""
    for name in names:
        setting = SETTINGS[name]
        kind = next(kind for kind in (str, float, int) if kind in setting.kinds)
        more = {"choices": setting.choices} if setting.choices else {"type": kind, "metavar": setting.metavar}
        group.add_argument(f"--{name.replace('_', '-')}", help=setting.help.replace("%", "%%"), **more)


def add_model_options(group: argparse._ActionsContainer) -> None:
    """Add which model to use, and where and how precisely it runs."""
    group.add_argument(
        "--model", default="nano", metavar="nano|FILE|FOLDER", help="checkpoint (default: the embedded nano)"
    )
    group.add_argument("--complete-from", metavar="FILE", help="full checkpoint that lends the parts --model lacks")
    add_lora_option(group)


def model_files(options: argparse.Namespace) -> dict[str, str | None]:
    """The files that a model is read from by those of the options of `add_model_options` that a command has."""
    files = {"--model": None if options.model == "nano" else options.model}
    files["--complete-from"] = getattr(options, "complete_from", None)
    return files | {f"--lora {text}": split_lora_option(text)[0] for text in getattr(options, "lora", ())}


def add_machine_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of the machine."""
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: the fastest there is)")
    group.add_argument("--dtype", choices=DTYPES, help="precision (default: float16 on CUDA, else float32)")
    group.add_argument("--quiet", action="store_true", help="no progress and no warnings")


def add_lora_option(group: argparse._ActionsContainer) -> None:
    """Add `--lora FILE[:STRENGTH[:TEMPORAL]]`, which may be given several times."""
    group.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:STRENGTH[:TEMPORAL]]",
        help="LoRA for SVD, strength of its spatial layers and of its temporal ones (default: 1, and the same); "
        "repeat the option for several",
    )


def lora_metadata(options: argparse.Namespace) -> dict[str, list[str]]:
    """What a clip keeps of the option."""
    return {"lora": options.lora} if options.lora else {}


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
        choices=("auto", *(mode.replace(" ", "-") for mode in GUIDANCE_MODES)),
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
        default="plain",
        help="auto: run norms and GEGLU as fused Triton kernels on CUDA, equal up to rounding; not yet timed on a GPU "
        "(default: plain, PyTorch's own)",
    )


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
