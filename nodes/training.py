"""The nodes that train a LoRA and save it.

What they do is imported when they run: the host imports every pack when it starts, and few starts train.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..svd_core.lora import save_lora
from .host import comfy as host
from .shared import inputs
from .shared.model import LoadedModel
from .training_set import CATEGORY, TrainingSet

if TYPE_CHECKING:
    from ..svd_core.training.export import TrainedLora

AUTO = "auto"
PRECISIONS = (AUTO, "float32", "bf16", "fp16")
LONGEST_NAME = 200  # bytes; file systems take 255, and unfinished files and notices have longer names


class SVDReelTrainLora:
    """Trains a LoRA."""

    DISPLAY_NAME = "Train SVD LoRA"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Trains a LoRA on clips, temporal layers included, and hands on the model with it. While it runs, the node "
        "shows a picture animated from time to time. Cancel saves: run it again with the same widgets and it goes on. "
        "State, encoded clips, loss curve and validation clips stay in output/svd_reel_training."
    )
    SEARCH_ALIASES = ["train lora", "finetune", "camera lora", "character lora", "motion lora", "TrainLoraNode"]
    RETURN_TYPES = ("SVD_LORA", "SVD_MODEL", "IMAGE", "IMAGE", "STRING")
    RETURN_NAMES = ("lora", "model", "loss", "validation", "report")
    OUTPUT_TOOLTIPS = (
        "For Save SVD LoRA, or for Load SVD LoRA with another strength.",
        "The model with the LoRA at strength 1.",
        "The loss over the steps.",
        "A picture animated before, during and after training, a row for each time.",
        "What was trained on, with which settings, where it is kept.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.socket("SVD_MODEL", "The model to train on, straight from Load SVD Model."),
                "training_set": inputs.socket("SVD_TRAINING_SET", "From Set up Training Clips."),
                "steps": inputs.whole(
                    0,
                    0,
                    100000,
                    "Training steps. 0 takes 800 (nano: 300). 300 to 800 teach a camera, 1000 to 3000 a character; "
                    "more copies the clips.",
                ),
                "targets": inputs.choice(
                    (AUTO, "temporal", "spatial", "both", "all"),
                    "Layers to train. temporal: motion and camera. spatial: look. both: characters. all: feed-forward "
                    "layers too. auto: temporal for a camera move, else both.",
                ),
                "rank": inputs.whole(
                    0,
                    0,
                    256,
                    "Size of the LoRA. 0 takes 8 for a camera move, else 16 (nano: 8). Larger learns more and copies "
                    "sooner.",
                ),
                "seed": inputs.SEED,
            },
            "optional": {
                "picture": inputs.socket(
                    "IMAGE", "A picture to animate meanwhile, not one to train on. Without it: a photograph of a cup."
                ),
                "learning_rate": inputs.decimal(
                    0.0,
                    0.0,
                    1.0,
                    "Highest learning rate. 0 takes 0.0001 (nano: 0.002). Lower it where the loss jumps.",
                    step=0.0001,
                    advanced=True,
                ),
                "batch": inputs.whole(0, 0, 64, "Clips at once. 0 takes 1 (nano: 2). Costs memory.", advanced=True),
                "accumulation": inputs.whole(
                    0, 0, 64, "Batches of one step. 0 takes 4 (nano: 1). Costs time instead of memory.", advanced=True
                ),
                "precision": inputs.choice(
                    PRECISIONS,
                    "Format in which the network computes; what is trained is kept in float32. auto: bf16 on an "
                    "accelerator, float32 on a CPU.",
                    advanced=True,
                ),
                "save_memory": inputs.choice(
                    (AUTO, "on", "off"),
                    "Gradient checkpointing: far less memory for a third more time. auto: on, but for nano.",
                    advanced=True,
                ),
                "validate_every": inputs.whole(
                    0, 0, 100000, "Steps between validation clips. 0: four times in all.", advanced=True
                ),
                "trigger": inputs.text("", "Note on how to use the LoRA, kept in its file.", advanced=True),
            },
        }

    def execute(
        self,
        model: LoadedModel,
        training_set: TrainingSet,
        steps: int,
        targets: str,
        rank: int,
        seed: int,
        picture: Tensor | None = None,
        learning_rate: float = 0.0,
        batch: int = 0,
        accumulation: int = 0,
        precision: str = AUTO,
        save_memory: str = AUTO,
        validate_every: int = 0,
        trigger: str = "",
    ) -> tuple:
        from .training_run import run_training

        given = {"steps": steps, "rank": rank, "rate": learning_rate, "batch": batch, "accumulation": accumulation}
        given |= {"validate_every": validate_every, "targets": targets, "precision": precision}
        chosen = {name: value for name, value in given.items() if value not in (0, AUTO)} | {"seed": seed}
        if save_memory != AUTO:
            chosen["gradient_checkpointing"] = save_memory == "on"
        # The host runs nodes in inference mode, whose tensors cannot be trained on.
        with torch.inference_mode(False), torch.enable_grad():
            return run_training(model, training_set, chosen, picture, trigger)


class SVDReelSaveLora:
    """Saves a LoRA."""

    DISPLAY_NAME = "Save SVD LoRA"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Saves a trained LoRA where Load SVD LoRA finds it, with a text beside it that says what it is made of and "
        "under which licence. Never overwrites: the next free number is added to the name."
    )
    SEARCH_ALIASES = ["save lora", "export lora", "SaveLora"]
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("path",)
    OUTPUT_TOOLTIPS = ("Where the file is.",)
    FUNCTION = "execute"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "lora": inputs.socket("SVD_LORA", "The LoRA from Train SVD LoRA."),
                "name": inputs.text("my_svd_lora", "Name of the file in models/loras, without its ending."),
            }
        }

    def execute(self, lora: "TrainedLora", name: str) -> tuple:
        from ..svd_core.training.export import halved

        plain = name.strip().removesuffix(".safetensors")
        if not plain or Path(plain).name != plain or plain.startswith("."):
            raise ValueError(f"a LoRA cannot be called {name!r}; write a name without slashes, such as my_svd_lora")
        if len(plain.encode()) > LONGEST_NAME or not plain.isprintable():
            raise ValueError(
                f"the name of a LoRA has {len(plain.encode())} bytes or signs that cannot be printed; write at most "
                f"{LONGEST_NAME}, such as my_svd_lora"
            )
        folder = host.lora_folder()
        path, number = folder / f"{plain}.safetensors", 2
        while path.exists():
            path, number = folder / f"{plain}_{number}.safetensors", number + 1
        return (str(save_lora(path, halved(lora.adapters), lora.notes)),)


NODES = [SVDReelTrainLora, SVDReelSaveLora]
