"""Licences of the official files: what they ask of everyone who passes a file on, and the notice beside a new file.

Facts from the licence texts in short, not advice. NOTICE of this repository holds the same sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path


@dataclass(frozen=True)
class Licence:
    """The licence of a model file: its name, the sentence that must stay with every copy, and what else it asks for."""

    name: str
    sentence: str
    asks: tuple[str, ...]


_COMMON = (
    "hand on a copy of the agreement, and this sentence in a text file named Notice",
    "say what was changed in a changed file",
    "read the agreement before using the model commercially: it limits that",
)
RESEARCH = Licence(
    "Stable Video Diffusion Non-Commercial Community License Agreement (November 21, 2023)",
    "Stable Video Diffusion is licensed under the Stable Video Diffusion Research License, Copyright (c) Stability AI "
    "Ltd. All Rights Reserved.",
    _COMMON,
)
COMMUNITY = Licence(
    "Stability AI Non-Commercial Research Community License Agreement (February 2, 2024)",
    "This Stability AI Model is licensed under the Stability AI Non-Commercial Research Community License, Copyright "
    "(c) Stability AI Ltd. All Rights Reserved.",
    _COMMON,
)
APACHE = Licence(
    "Apache License, Version 2.0",
    "SVD Reel's nano model is licensed under the Apache License, Version 2.0.",
    ("hand on a copy of the licence", "say what was changed in a changed file"),
)
# Its page on Hugging Face names no licence. Its author wrote that most AnimateLCM models are built upon Stable
# Diffusion and Stable Video Diffusion and follow their licences (github.com/G-U-N/AnimateLCM, issue 17). The code
# there is MIT.
ANIMATELCM = Licence(
    "that of the Stable Video Diffusion it was distilled from; AnimateLCM-SVD-xt's own page names none",
    "AnimateLCM-SVD (Fu-Yun Wang and others) was distilled from Stable Video Diffusion. "
    f"Made of XT: {RESEARCH.sentence} Made of XT 1.1: {COMMUNITY.sentence}",
    (*_COMMON, "look at the page that the file came from, in case its author has named a licence since"),
)
_APACHE_CODE = ("hand on a copy of the Apache License 2.0", *_COMMON)
MOTIONCTRL = Licence(
    "Apache License 2.0 (MotionCtrl, TencentARC), on weights trained from Stable Video Diffusion",
    f"MotionCtrl-SVD is licensed under the Apache License, Version 2.0. It was trained from SVD: {RESEARCH.sentence}",
    _APACHE_CODE,
)
CAMERACTRL = Licence(
    "Apache License 2.0 (CameraCtrl, Hao He and others), on weights trained with Stable Video Diffusion",
    f"CameraCtrl-SVD is licensed under the Apache License, Version 2.0. It was trained with SVD: {RESEARCH.sentence}",
    _APACHE_CODE,
)
MIMICMOTION = Licence(
    "Apache License 2.0 (MimicMotion, Tencent), on a UNet that was fine-tuned from SVD-XT 1.1",
    f"MimicMotion is licensed under the Apache License, Version 2.0. It was fine-tuned from SVD: {COMMUNITY.sentence}",
    _APACHE_CODE,
)
CONTROLNEXT = Licence(
    "Apache License 2.0 (ControlNeXt, DV Lab), on a UNet that was fine-tuned from SVD-XT 1.1",
    f"ControlNeXt-SVD is licensed under the Apache License, Version 2.0. It was fine-tuned from SVD: "
    f"{COMMUNITY.sentence}",
    _APACHE_CODE,
)
CONTROLNET = Licence(
    "that of Stable Video Diffusion, from which the SVD ControlNets were trained",
    f"SVD ControlNets were trained from Stable Video Diffusion: {RESEARCH.sentence}",
    _COMMON,
)
DEPTHCRAFTER = Licence(
    "DepthCrafter's own licence (Tencent): academic, research and education only, not commercial",
    "DepthCrafter (Tencent) may be used for academic, research and education purposes only. It was fine-tuned from "
    f"SVD: {RESEARCH.sentence}",
    ("do not use the model or its results commercially", *_COMMON),
)
NORMALCRAFTER = Licence(
    "not stated for the weights (NormalCrafter's code is MIT), on a UNet that was fine-tuned from SVD-XT",
    f"NormalCrafter's page names no licence of its weights. It was fine-tuned from SVD: {RESEARCH.sentence}",
    (*_COMMON, "look at the page that the file came from, in case its author has named a licence since"),
)
BACKWARD_MOTION = Licence(
    "Apache License 2.0 (Generative Inbetweening, Xiaojuan Wang and others), on weights fine-tuned from SVD",
    f"Generative Inbetweening is licensed under the Apache License, Version 2.0. It was fine-tuned from SVD: "
    f"{RESEARCH.sentence}",
    _APACHE_CODE,
)
UNKNOWN = Licence(
    "unknown",
    "The licence that came with the model also applies to this file.",
    ("look at the page that the file came from: shapes and names do not tell whose model it is",),
)
BY_VARIANT = {
    "svd": RESEARCH,
    "svd_xt": RESEARCH,
    "svd_xt_1_1": COMMUNITY,
    "sv3d_u": COMMUNITY,
    "sv3d_p": COMMUNITY,
    "animatelcm": ANIMATELCM,
    "nano": APACHE,
    "motionctrl": MOTIONCTRL,
    "cameractrl": CAMERACTRL,
    "mimicmotion": MIMICMOTION,
    "controlnext": CONTROLNEXT,
    "controlnet": CONTROLNET,
    "depthcrafter": DEPTHCRAFTER,
    "normalcrafter": NORMALCRAFTER,
    "backward_motion": BACKWARD_MOTION,
}


def licence_of(variant: str) -> Licence:
    """Return the licence of a variant or of a network added to it, by its key in BY_VARIANT; UNKNOWN for others."""
    return BY_VARIANT.get(variant, UNKNOWN)


def licence_text(variant: str) -> str:
    """Return the licence of a variant in a few lines."""
    licence = licence_of(variant)
    return "\n".join([f"licence: {licence.name}", f"  {licence.sentence}", *(f"  - {line}" for line in licence.asks)])


def notice_path(path: Path) -> Path:
    """Return the path of the notice beside a file of weights: NAME.NOTICE.txt, or NAME.NOTICE.2.txt and so on.

    A notice of an earlier file of that name is replaced; any other text keeps its file.
    """
    names = (path.with_name(f"{path.stem}.NOTICE{f'.{number}' if number > 1 else ''}.txt") for number in count(1))
    return next(found for found in names if not found.exists() or _is_notice_of(found, path.name))


def _is_notice_of(found: Path, name: str) -> bool:
    """Return whether a file is a notice that this program wrote for a file of this name."""
    first = notice_heading(name).encode()
    try:
        with found.open("rb") as file:
            return file.read(len(first)) == first
    except OSError:
        return False


def notice_heading(name: str) -> str:
    """Return the first line of the notice for a file."""
    return f"Notice for {name}\n"


def notice_text(name: str, variant: str, changes: Sequence[str]) -> str:
    """Return the notice for a model file that was made of another."""
    licence = licence_of(variant)
    lines = [
        notice_heading(name), licence.sentence, "", f"Licence of the model: {licence.name}.",
        "The licence asks everyone who passes this file on to:", *(f"- {line}" for line in licence.asks), "",
        "Changes, made with SVD Reel:", *(f"- {line}" for line in changes),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"
