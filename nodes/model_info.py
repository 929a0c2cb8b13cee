"""The node that describes a model file and saves converted copies."""

from pathlib import Path

from ..svd_core.checkpoints import inspect_checkpoint
from ..svd_core.checkpoints.licence import licence_text
from .host import comfy as host
from .host.paths import plain_name, save_folder
from .load import model_location, model_names
from .shared import inputs

LOOK = "only look"
# choice: precision, layout, part, target folder in output/, suffix of the name
FIXES: dict[str, tuple[str | None, str, str, str, str]] = {
    "save as fp16": ("fp16", "single", "all", "svd", "_fp16"),
    "save as bf16": ("bf16", "single", "all", "svd", "_bf16"),
    "save as fp8": ("fp8", "single", "all", "svd", "_fp8"),
    "make a single file": (None, "single", "all", "svd", ""),
    "make a diffusers folder": (None, "diffusers", "all", "diffusers", ""),
    "extract the UNet": (None, "single", "unet", "svd", "_unet"),
    "extract the VAE": (None, "single", "vae", "vae", "_vae"),
    "extract the image encoder": (None, "single", "image_encoder", "clip_vision", "_image_encoder"),
}


class SVDReelModelInfo:
    """Describe or convert a model file."""

    DISPLAY_NAME = "Inspect and Convert Model (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Describes a model file: variant, parts, precision, size, problems, and the terms of its licence. It can "
        "also save a converted copy: in half precision or 8 bits, as one file or a diffusers folder, or only a part."
    )
    SEARCH_ALIASES = [
        "checkpoint info",
        "inspect model",
        "convert checkpoint",
        "fp8",
        "extract vae",
        "licence",
        "prune",
    ]
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("text", "path")
    OUTPUT_TOOLTIPS = (
        "The description as text, for Preview Any.",
        "The path of the file, or of the saved copy.",
    )
    FUNCTION = "execute"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model_name": inputs.choice(
                    model_names(),
                    "A file or folder that Load SVD Model offers. Only its header is read.",
                ),
                "fix": inputs.choice(
                    (LOOK, *FIXES),
                    "Saves a converted copy with a notice of its licence, in the output folder for its kind, where the "
                    "loaders find it; the original stays. fp16 halves a float32 file without visible loss; fp8 halves "
                    "that again with a small loss. The VAE and the image encoder are saved in the format of ComfyUI's "
                    "own loaders.",
                ),
                "new_name": inputs.text(
                    "",
                    "Name of the saved copy, without extension. Empty adds a suffix to the original name.",
                    advanced=True,
                ),
            },
        }

    def execute(self, model_name: str, fix: str, new_name: str) -> dict:
        location = model_location(model_name)
        info = inspect_checkpoint(location)
        text, path = f"{info.text()}\n{licence_text(info.variant)}", str(info.path)
        if fix != LOOK:
            # Imported on first use, because ComfyUI imports every pack at start-up.
            from ..svd_core.checkpoints.convert import convert

            dtype, layout, part, folder, ending = FIXES[fix]
            target = _target(folder, new_name.strip() or f"{info.path.stem}{ending}", layout)
            progress = host.Progress(1)
            made = convert(
                location,
                target,
                dtype=dtype,
                layout=layout,
                part=part,
                on_progress=lambda done, total: progress.update(done, total=total),
            )
            text, path = f"{text}\n\nsaved: {made} ({_size(made):,} bytes)", str(made)
        return {"ui": {"text": (text,)}, "result": (text, path)}


def _target(folder: str, name: str, layout: str) -> Path:
    """Return the path of a new model in the output folder; raise ValueError for existing files and other names."""
    name = plain_name(name, "new_name")
    target = save_folder(folder) / (f"{name}.safetensors" if layout == "single" else name)
    if target.exists():
        raise ValueError(f"{target} already exists; enter another name in new_name, or remove the file")
    return target


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size


NODES = [SVDReelModelInfo]
