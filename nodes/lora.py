"""The node that adds a LoRA to a model."""

import logging
from dataclasses import replace
from pathlib import Path

from ..svd_core.files import printable
from ..svd_core.lora import Lora, LoraReport, embedded_loras, load_lora, match_lora
from ..svd_core.lora.apply import parameter_shapes
from .host import comfy as host
from .host.lora import with_lora
from .shared import inputs
from .shared.model import LoadedModel

EMBEDDED = " (embedded)"
FOLDER = "loras"
NONE = "none"
log = logging.getLogger("svd_reel")


def lora_names() -> list[str]:
    """Return the choices of the widget: none, the LoRAs inside this pack, then files in models/loras."""
    files = [name for name in host.model_files(FOLDER) if name.lower().endswith(".safetensors")]
    return [NONE, *(name + EMBEDDED for name in embedded_loras()), *files]


def lora_location(name: str) -> str:
    """Return the path of a LoRA name, or the name of an embedded one; raise FileNotFoundError if it is missing."""
    plain = name.removesuffix(EMBEDDED)
    if plain != name and plain in embedded_loras():
        return plain
    path = host.model_path(FOLDER, name)
    if path is None:
        raise FileNotFoundError(
            f"LoRA {printable(name)!r} not found; put its .safetensors file into models/loras and press R"
        )
    return path


class SVDReelLoadLora:
    """Add a LoRA to a model."""

    DISPLAY_NAME = "Load SVD LoRA"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Adds a LoRA that was trained on SVD, including its temporal layers, in any common naming. Chain several of "
        "these nodes to add several LoRAs. It also applies after Export SVD to ComfyUI Model. The report lists the "
        "matched layers."
    )
    SEARCH_ALIASES = ["LoraLoader", "lora", "camera lora", "motion lora", "peft", "dora", "locon"]
    RETURN_TYPES = ("SVD_MODEL", "STRING")
    RETURN_NAMES = ("model", "report")
    OUTPUT_TOOLTIPS = (
        "The model with the LoRA. The input model is unchanged.",
        "Which tensors of the file matched, by kind of layer, and which did not.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.MODEL,
                "lora_name": inputs.choice(
                    lora_names(),
                    "A .safetensors file in models/loras. Embedded LoRAs are for the nano model. none passes the "
                    "model on unchanged.",
                ),
                "strength": inputs.decimal(
                    1.0,
                    -20.0,
                    20.0,
                    "Strength of the spatial layers, which set look, subject and style. 0 is off, 1 is as trained, "
                    "0.5 to 1.2 is usual; negative values do the opposite.",
                    step=0.05,
                ),
                "temporal_strength": inputs.decimal(
                    1.0,
                    -20.0,
                    20.0,
                    "Strength of the temporal layers, which set motion and camera. 0 is off, 1 is as trained, -1 "
                    "reverses most camera moves. Set one of the two strengths to 0 for look without motion, or "
                    "motion without look.",
                    step=0.05,
                ),
            },
            "optional": {
                "lora": inputs.socket("SVD_LORA", "A LoRA from Train SVD LoRA, instead of a file.", advanced=True),
            },
        }

    @classmethod
    def IS_CHANGED(
        cls, lora_name: str, model=None, strength: float = 1.0, temporal_strength: float = 1.0, lora=None
    ) -> str:
        """Return modification time and size, so that a replaced file is loaded again."""
        # ComfyUI passes None for inputs that come from a link.
        if lora_name in (None, NONE) or lora_name.endswith(EMBEDDED):
            return str(lora_name)
        stat = Path(lora_location(lora_name)).stat()
        return f"{stat.st_mtime_ns}:{stat.st_size}"

    def execute(
        self,
        model: LoadedModel,
        lora_name: str,
        strength: float,
        temporal_strength: float,
        lora: Lora | None = None,
    ) -> tuple:
        if lora is None and lora_name == NONE:
            return (model, "no LoRA")
        lora = lora or load_lora(lora_location(lora_name))
        changed, report = add_lora(model, lora, strength, temporal_strength)
        strengths = f"strength {strength:g} for spatial layers, {temporal_strength:g} for temporal layers"
        return (changed, f"{report.text()}\n  {strengths}")


def add_lora(model: LoadedModel, lora: Lora, spatial: float, temporal: float) -> tuple[LoadedModel, LoraReport]:
    """Return the model with one more LoRA, and the report; log partial matches."""
    shapes = parameter_shapes(model.unet.model.diffusion_model)
    terms, report = match_lora(lora, shapes, model.config.unet, spatial, temporal)
    if warning := report.warning():
        log.warning(warning)
    if not terms:
        return model, report
    return replace(model, unet=with_lora(model.unet, terms)), report


NODES = [SVDReelLoadLora]
