"""Options that several commands share."""

import argparse

from ..lora.read import split_lora_option
from ..model.devices import AUTO, DTYPES
from ..model.guidance_modes import GUIDANCE_MODES
from ..networks import kernels
from ..networks.kernels.attention_backends import BACKENDS
from ..pipelines.settings import SETTINGS
from .numbers import memory_of


def add_settings(group: argparse._ActionsContainer, *names: str) -> None:
    """Add options for fields of AnimateSettings, as `pipelines.settings.SETTINGS` describes them."""
    for name in names:
        setting = SETTINGS[name]
        kind = next(kind for kind in (str, float, int) if kind in setting.kinds)
        more = {"choices": setting.choices} if setting.choices else {"type": kind, "metavar": setting.metavar}
        group.add_argument(f"--{name.replace('_', '-')}", help=setting.help.replace("%", "%%"), **more)


def add_model_options(group: argparse._ActionsContainer) -> None:
    """Add the options that name the checkpoint and the LoRAs."""
    group.add_argument(
        "--model",
        default="nano",
        metavar="nano|FILE|FOLDER",
        help="checkpoint to load: a file, a diffusers folder, or nano, the small model inside this package "
        "(default: nano)",
    )
    group.add_argument(
        "--complete-from",
        metavar="FILE",
        help="full checkpoint that supplies the parts missing from --model, such as the VAE of a UNet-only file",
    )
    add_lora_option(group)


def add_lora_option(group: argparse._ActionsContainer) -> None:
    """Add `--lora FILE[:STRENGTH[:TEMPORAL]]`, which may be given several times."""
    group.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:STRENGTH[:TEMPORAL]]",
        help="apply a LoRA for SVD. STRENGTH scales its spatial layers, TEMPORAL its temporal layers; 0.5 to 1.5, "
        "negative to reverse a camera move (default: 1 for both). Repeat the option for several LoRAs",
    )


def add_machine_options(group: argparse._ArgumentGroup) -> None:
    """Add the options for the device, its precision and the messages."""
    group.add_argument(
        "--device",
        default="auto",
        help="device to compute on: cpu, cuda, cuda:1, mps, xpu (default: auto, the fastest available)",
    )
    group.add_argument(
        "--dtype",
        type=dtype_of,
        metavar="auto|" + "|".join(DTYPES),
        help="precision of the weights; stored keeps that of the file. float16 needs half the memory of float32. auto "
        "takes float16 on CUDA, on Apple (MPS) and Intel GPUs (XPU) after a short test of its error there, else "
        "float32 (default: auto)",
    )
    group.add_argument("--quiet", action="store_true", help="print no progress and no warnings")


def dtype_of(text: str) -> str | None:
    """Return the dtype that `--dtype` names, None for auto."""
    if text != AUTO and text not in DTYPES:
        raise argparse.ArgumentTypeError(f"{text!r} is unknown; use {AUTO}, {', '.join(DTYPES)}")
    return None if text == AUTO else text


def add_speed_options(group: argparse._ArgumentGroup) -> None:
    """Add the options that save memory or time; the clip changes at most by rounding, or as the help says."""
    group.add_argument(
        "--memory",
        type=memory_of,
        metavar="GB",
        help="limit the device memory: print a plan that fits and follow it. Use it when the device runs out of "
        "memory; 6 streams the UNet's weights from main memory",
    )
    group.add_argument(
        "--guidance-branches",
        choices=("auto", *(mode.replace(" ", "-") for mode in GUIDANCE_MODES)),
        default="auto",
        help="run the conditional and the unconditional pass in one batch (together) or one after the other "
        "(in-turn). auto batches small clips; on a GPU those that memory allows, and that gained where `svd-reel "
        "doctor` measured it. Results are equal up to rounding (default: auto)",
    )
    group.add_argument(
        "--attention",
        choices=("auto", *BACKENDS),
        default="auto",
        help="attention kernel on CUDA; auto takes the first of a fixed order that the card supports. Change it only "
        "if a kernel fails (default: auto)",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the UNet's blocks with torch.compile. Takes minutes once, then steps are about a fifth faster "
        "(reported by others, not measured here); use it for many clips of one size",
    )
    group.add_argument(
        "--fp16-accumulation",
        action="store_true",
        help="accumulate matrix products in float16 on CUDA. Up to a quarter faster on GeForce cards (reported by "
        "others, not measured here), less precise, and may overflow",
    )
    group.add_argument(
        "--fp8-products",
        action="store_true",
        help="multiply by the transformer weights in fp8, on cards from compute capability 8.9. About a tenth faster "
        "(estimated, not measured), less precise, not calibrated on real weights",
    )
    group.add_argument(
        "--kernels",
        choices=kernels.MODES,
        default="plain",
        help="auto: run norms and GEGLU as fused Triton kernels on CUDA, equal up to rounding, unless `svd-reel "
        "doctor` measured no gain on this device (default: plain, PyTorch's own)",
    )


def model_files(options: argparse.Namespace) -> dict[str, str | None]:
    """Return the files that the options --model, --complete-from and --lora read: option -> path or None."""
    files = {"--model": None if options.model == "nano" else options.model}
    files["--complete-from"] = getattr(options, "complete_from", None)
    return files | {f"--lora {text}": split_lora_option(text)[0] for text in getattr(options, "lora", ())}


def lora_metadata(options: argparse.Namespace) -> dict[str, list[str]]:
    """Return the entry for --lora in a clip's metadata, or none."""
    return {"lora": options.lora} if options.lora else {}
