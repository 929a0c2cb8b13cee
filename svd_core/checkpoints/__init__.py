"""Load models from checkpoint files: single files and diffusers folders, safetensors only (spec section 1)."""

from .describe import CheckpointInfo, inspect_checkpoint
from .load import load_model, read_state_dict
from .source import CheckpointError
from .split import Parts, split_state_dict

__all__ = [
    "CheckpointError",
    "CheckpointInfo",
    "Parts",
    "inspect_checkpoint",
    "load_model",
    "read_state_dict",
    "split_state_dict",
]
