"""A freshly trained LoRA as one that could have been read from a file."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..lora import Lora
from ..lora.delta import LoraLayer
from ..lora.names import stem
from ..lora.read import StoredLayer
from .adapters import AdapterWeights


@dataclass(frozen=True, eq=False)
class TrainedLora(Lora):
    """A LoRA with the adapters it is made of and the notes that its file shall carry (`save_lora` takes both)."""

    adapters: AdapterWeights = field(default_factory=dict)
    notes: Mapping[str, object] = field(default_factory=dict)


def halved(adapters: AdapterWeights) -> AdapterWeights:
    """Return adapters in half precision, as they are stored; nothing that a clip would show is lost."""
    return {path: (down.half(), up.half(), alpha) for path, (down, up, alpha) in adapters.items()}


def trained_lora(name: str, adapters: AdapterWeights, notes: Mapping[str, object]) -> TrainedLora:
    """Return adapters as a LoRA that `lora.match_lora` and `lora.apply_loras` take."""
    layers = {}
    for path, (down, up, alpha) in adapters.items():
        stored = f"diffusion_model.{path}"
        keys = tuple(f"{stored}.{end}" for end in ("lora_down.weight", "lora_up.weight", "alpha"))
        layer = LoraLayer(down.detach().cpu(), up.detach().cpu(), alpha / down.shape[0])
        layers[stem(stored)] = StoredLayer(stored, keys, layer)
    return TrainedLora(name, layers, adapters=adapters, notes=notes)
