"""The option `--lora` of the commands that run a model."""

import argparse


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
