"""The option `--lora` of the commands that run a model."""

import argparse
from collections.abc import Sequence

from ..lora.read import Lora, load_lora


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


def read_lora_options(texts: Sequence[str]) -> list[tuple[Lora, float, float]]:
    """The LoRAs of the options, read from disk, with their strengths; ValueError where one cannot be."""
    return [(load_lora(path), *strengths) for path, *strengths in map(split_lora_option, texts)]


def split_lora_option(text: str) -> tuple[str, float, float]:
    """File, spatial and temporal strength of FILE[:STRENGTH[:TEMPORAL]]; colons inside the file's name may stay."""
    head, numbers = text, []
    while len(numbers) < 2:
        start, colon, end = head.rpartition(":")
        number = _number(end)
        if not colon or number is None:
            break
        head, numbers = start, [number, *numbers]
    if not head:
        raise ValueError(f"--lora {text} names no file; write FILE, FILE:0.8 or FILE:0:1")
    spatial = numbers[0] if numbers else 1.0
    return head, spatial, numbers[1] if len(numbers) > 1 else spatial


def lora_metadata(options: argparse.Namespace) -> dict[str, list[str]]:
    """What a clip keeps of the option."""
    return {"lora": options.lora} if options.lora else {}


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None
