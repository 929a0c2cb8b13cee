"""One short call of every command that writes files, for tests of what holds for all of them."""

from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file

from svd_core.video import write_clip

from .checkpoint_files import TINY, tiny_tensors
from .family_golden import read_golden
from .golden_rule import DATA, fill_by_rule
from .storyboards import write_folder

SMALL = ("--steps", "1", "--frames", "2", "--device", "cpu")


def write_inputs(folder: Path) -> None:
    """Write the pictures, the clip and the storyboard that the commands read."""
    folder.mkdir()
    write_folder(folder)
    (folder / "one").mkdir()
    Image.linear_gradient("L").resize((80, 72)).save(folder / "one" / "photo.png")
    write_clip(torch.rand(3, 32, 32, 3, generator=torch.Generator().manual_seed(0)), folder / "clip.webp", fps=7)


def calls(inputs: Path, out: Path, model: str) -> dict[str, list[str]]:
    """Return the arguments of every command, which read from `inputs` and write into `out`."""
    photo = str(inputs / "one" / "photo.png")
    given = {
        "animate": [photo, "--model", model, *SMALL, "--output", str(out / "clip.webp")],
        "batch": [str(inputs / "one"), "--model", model, "--set", "steps=1", "--set", "frames=2", "--kind", "webp"]
        + ["--device", "cpu", "--threads", "1", "--output", str(out)],
        "report": [str(inputs / "clip.webp"), "--json", str(out / "r.json"), "--page", str(out / "r.png")],
        "plan": ["--model", "svd", "--memory", "8", "--page", str(out / "plan.png")],
        "finish": [str(inputs / "clip.webp"), "--output", str(out / "film.mp4")],
        "convert": [model, str(out / "half.safetensors"), "--dtype", "fp16"],
        "lab": [photo, "--model", model, *SMALL, "--buckets", "127", "--output", str(out / "sheet.png")]
        + ["--csv", str(out / "t.csv"), "--json", str(out / "t.json")],
        "storyboard": [str(inputs / "board.csv"), "--model", model, "--device", "cpu", "--width", "32", "--height"]
        + ["32", "--steps", "1", "--fps", "10", "--output", str(out / "film.webp"), "--timing", str(out / "t.csv")],
        "train": [str(inputs / "one"), "--stills", "pan left", "--model", model, "--output", str(out / "l.safetensors")]
        + ["--width", "64", "--height", "64", "--frames", "2", "--steps", "2", "--rank", "1", "--batch", "1"]
        + ["--clips-per-still", "1", "--validate-every", "0", "--device", "cpu"],
    }
    return {name: [name, *arguments] for name, arguments in given.items()}


def folder_calls(inputs: Path, out: Path, model: str) -> dict[str, list[str]]:
    """Return calls that write folders: frames of a clip, and a model in parts."""
    photo = str(inputs / "one" / "photo.png")
    return {
        "animate frames": ["animate", photo, "--model", model, *SMALL, "--output", str(out / "frames")],
        "convert folder": ["convert", model, str(out / "model"), "--dtype", "fp16"],
    }


def write_family(folder: Path) -> None:
    """Write tiny models of other kinds than SVD, and what their commands read, for `family_calls`."""
    save_file(dict(tiny_tensors()), folder / "tiny.safetensors", metadata=TINY)
    shapes = read_golden(DATA / "family" / "mimic_tiny.safetensors").shapes
    save_file(fill_by_rule({k: v for k, v in shapes.items() if "pose_net" in k}, 3), folder / "poses.safetensors")
    shapes = read_golden(DATA / "family" / "sv3d_p_tiny.safetensors").shapes
    save_file(fill_by_rule(shapes, 43), folder / "sv3d_p.safetensors", TINY | {"svd.variant": "sv3d_p"})
    write_clip(torch.rand(4, 64, 64, 3, generator=torch.Generator().manual_seed(1)), folder / "drawings", fps=8)


def family_calls(inputs: Path, out: Path) -> dict[str, list[str]]:
    """Return calls of the commands for other models than SVD."""
    photo, tiny = str(inputs / "one" / "photo.png"), ["--model", str(inputs / "tiny.safetensors"), "--device", "cpu"]
    return {
        "orbit": ["orbit", photo, "--model", str(inputs / "sv3d_p.safetensors"), "--steps", "1", "--device", "cpu"]
        + ["--output", str(out / "orbit.webp"), "--mask", str(out / "mask"), "--angles", str(out / "angles.csv")],
        "character": ["character", photo, "--poses", str(inputs / "drawings"), *tiny, "--width", "64", "--height", "64"]
        + ["--pose-network", str(inputs / "poses.safetensors"), "--steps", "1", "--window", "3", "--overlap", "1"]
        + ["--output", str(out / "dance.webp")],
        "depth": ["depth", str(inputs / "drawings"), *tiny, "--window", "3", "--kind", "depthcrafter", "--steps", "1"]
        + ["--overlap", "1", "--output", str(out / "depth.webp")],
    }
