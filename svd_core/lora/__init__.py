"""LoRAs for SVD: read in every known spelling, applied to models, and saved (spec section 11.1)."""

from .apply import apply_loras, match_lora
from .delta import LoraError
from .read import Lora, embedded_loras, load_lora
from .report import LoraReport
from .save import save_lora

__all__ = [
    "Lora",
    "LoraError",
    "LoraReport",
    "apply_loras",
    "embedded_loras",
    "load_lora",
    "match_lora",
    "save_lora",
]
