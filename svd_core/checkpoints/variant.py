"""What shapes cannot tell: variant, frames, size, head widths - from metadata, else names, else official defaults."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import CheckpointError

# variant: frames, width, height (spec section 1.2)
NATIVE = {
    "svd": (14, 1024, 576),
    "svd_xt": (25, 1024, 576),
    "svd_xt_1_1": (25, 1024, 576),
    "sv3d_u": (21, 576, 576),
    "sv3d_p": (21, 576, 576),
    "nano": (14, 128, 128),
    "custom": (14, 1024, 576),
    "animatelcm": (25, 1024, 576),
}
BY_VECTOR = {256: "sv3d_u", 1280: "sv3d_p"}
VERSION_1_1 = re.compile(r"(?<!\d)1[-_. ]1(?!\d)")
XT = re.compile(r"(?<![a-z])xt(?![a-z])|svdxt")
ANIMATELCM = re.compile(r"animate[-_ ]?lcm")  # AnimateLCM-SVD-xt, made of either XT (spec section 11.2)
SVD = re.compile(r"svd|stable[-_ ]?video[-_ ]?diffusion|img2vid")


@dataclass(frozen=True)
class Hints:
    """Metadata `svd.*` of a file, None where it is silent."""

    head_channels: int | None = None
    clip_head_channels: int | None = None
    frames: int | None = None
    width: int | None = None
    height: int | None = None
    variant: str | None = None


def read_hints(metadata: Mapping[str, str]) -> Hints:
    """The `svd.*` keys of a safetensors file's metadata; raises CheckpointError for values that make no sense."""
    numbers: dict[str, int] = {}
    for name in ("head_channels", "clip_head_channels", "frames", "width", "height"):
        text = metadata.get(f"svd.{name}")
        if text is None:
            continue
        if not re.fullmatch(r"[1-9]\d{0,5}", str(text).strip()):
            raise CheckpointError(f"metadata key svd.{name} is '{text}'; it must be a whole number of at least 1")
        numbers[name] = int(text)
    for side in ("width", "height"):
        if numbers.get(side, 8) % 8:
            raise CheckpointError(f"metadata key svd.{side} is {numbers[side]}; pixel sizes are multiples of 8")
    variant = metadata.get("svd.variant")
    if variant is not None and variant not in NATIVE:
        raise CheckpointError(f"metadata key svd.variant is '{variant}'; it must be one of {', '.join(NATIVE)}")
    return Hints(variant=variant, **numbers)


def guess_variant(name: str, vector_channels: int, frames: int | None, official_size: bool) -> str:
    """Variant by vector width, else by file or folder name, else (official UNet size) by a folder's frame count."""
    if vector_channels in BY_VECTOR:
        return BY_VECTOR[vector_channels]
    name = name.lower()
    if ANIMATELCM.search(name):
        return "animatelcm"
    extended, known = bool(XT.search(name)), bool(SVD.search(name))
    if (extended or known) and VERSION_1_1.search(name):
        return "svd_xt_1_1"  # 1.1 exists as XT only
    if extended:
        return "svd_xt"
    if known:
        return "svd"
    return {14: "svd", 25: "svd_xt"}.get(frames or 0, "custom") if official_size else "custom"
