"""Is the file what it says: key table, sizes, fingerprint, whole numbers, and every part loads."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch

from ..checkpoints import CheckpointError, inspect_checkpoint, read_state_dict, split_state_dict
from ..checkpoints.describe import CheckpointInfo
from ..checkpoints.load import NANO
from ..networks.variants import RELEASES, release_config
from .findings import Finding

KNOWN = {"d758ffb5": "nano, the model inside this package"}
"""Fingerprints of known UNets. They survive a change of precision; docs/spec.md section 1.3."""

BLOCK = 2**24
PARTS = {"unet": "UNet", "vae": "VAE", "image_encoder": "image encoder"}


def check_file(path: str | Path, *, quick: bool = False, on_work: Callable[[], None] = lambda: None) -> list[Finding]:
    """Return what is right and wrong with a checkpoint; reads all of it unless `quick`.

    on_work: called often; an exception raised in it ends the check.
    """
    try:
        info = inspect_checkpoint(path)
    except CheckpointError as error:
        return [Finding("file", "bad", f"{error}.")]
    names = _names(info)
    if names.verdict == "bad":
        return [names]
    return [names, _fingerprint(path), *([] if quick else _contents(path, info, on_work))]


def _names(info: CheckpointInfo) -> Finding:
    """Compare the tensors with the key table of the networks, and their sizes with those of the release."""
    missing = [PARTS[name] for name in PARTS if name not in info.parts]
    if info.problems:
        return Finding("file", "bad", f"{'; '.join(info.problems)}.", "Do not use this file.")
    of_release = info.variant in RELEASES and info.config.unet == release_config(info.variant).unet
    sizes = f", with the sizes of the release {info.variant}" if of_release else ""
    seen = (
        f"{info.path.name} is {info.variant}, {info.layout} layout: all {info.tensors:,} tensors have the names and "
        f"shapes of the key table{sizes}."
    )
    if missing:
        advice = "Give a full checkpoint with --complete-from (complete_from in Load SVD Model)."
        return Finding("file", "note", f"{seen} It has no {' and no '.join(missing)}.", advice)
    return Finding("file", "good", seen)


@torch.no_grad()
def fingerprint(path: str | Path) -> str:
    """Return 8 hexadecimal digits of a hash of the UNet's blend weights in float16; "" without a UNet."""
    unet = split_state_dict(read_state_dict(path), strict=False).unet
    names = sorted(name for name in unet or () if name.endswith("mix_factor"))
    if not names:
        return ""
    values = torch.cat([unet[name].float().reshape(-1) for name in names]).half()
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()[:8]


def _fingerprint(path: str | Path) -> Finding:
    digits = fingerprint(path)
    if not digits:
        return Finding("fingerprint", "note", "the file has no UNet to recognise.")
    if digits in KNOWN:
        return Finding("fingerprint", "good", f"{digits} is {KNOWN[digits]}.")
    seen = f"{digits} is not in the list of {len(KNOWN)} known models."
    return Finding("fingerprint", "note", seen, "Compare it with that of others who have the same file.")


def _contents(path: str | Path, info: CheckpointInfo, on_work: Callable[[], None]) -> list[Finding]:
    """Read every tensor for NaN and infinity; hash a single file."""
    source = read_state_dict(path)
    damaged = []
    for name in source:
        on_work()
        tensor = source[name]
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            damaged.append(name)
    if damaged:
        seen = f"{len(damaged)} of {info.tensors:,} tensors hold NaN or infinity, first {min(damaged)}."
        numbers = Finding("weights", "bad", seen, "Download the file again.")
    else:
        numbers = Finding("weights", "good", f"all {info.parameters:,} numbers are finite.")
    file = NANO if str(path) == "nano" else Path(path)
    if not file.is_file() or file.suffix != ".safetensors":
        return [numbers]
    seen = f"SHA-256 is {_sha256(file, on_work)}."
    return [numbers, Finding("hash", "note", seen, "Compare it with the one on the page that you downloaded from.")]


def _sha256(path: Path, on_work: Callable[[], None]) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            on_work()
            found.update(block)
    return found.hexdigest()
