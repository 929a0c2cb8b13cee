"""The nodes that train a LoRA and save it.

`svd_core.training` is imported on first use, because ComfyUI imports every pack at start-up.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..svd_core.lora import save_lora
from .host.paths import plain_name, save_folder
from .shared import inputs
from .shared.model import LoadedModel
from .training_set import CATEGORY, TrainingSet

if TYPE_CHECKING:
    from ..svd_core.training.export import TrainedLora

AUTO = "auto"
PRECISIONS = (AUTO, "float32", "bf16", "fp16")


class SVDReelTrainLora:
    """Train a LoRA."""

    DISPLAY_NAME = "Train SVD LoRA"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Trains a LoRA on clips, including temporal layers, and outputs the model with it. During training, the node "
        "shows an image animated at intervals. Cancelling saves the state: run again with the same widgets to "
        "continue. State, encoded clips, loss curve and validation clips stay in output/svd_reel_training."
    )
    SEARCH_ALIASES = ["train lora", "finetune", "camera lora", "character lora", "motion lora", "TrainLoraNode"]
    RETURN_TYPES = ("SVD_LORA", "SVD_MODEL", "IMAGE", "IMAGE", "STRING")
    RETURN_NAMES = ("lora", "model", "loss", "validation", "report")
    OUTPUT_TOOLTIPS = (
        "The LoRA, for Save SVD LoRA, or for Load SVD LoRA with another strength.",
        "The model with the LoRA at strength 1.",
        "The loss over the steps as a chart.",
        "The validation image animated before, during and after training, one row each.",
        "Training data, settings and folder in words.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.socket("SVD_MODEL", "The model to train on, directly from Load SVD Model."),
                "training_set": inputs.socket("SVD_TRAINING_SET", "The training data from Set up Training Clips."),
                "steps": inputs.whole(
                    0,
                    0,
                    100000,
                    "Training steps. 0 uses 800 (nano: 300). A camera move takes 300 to 800, a character 1000 to "
                    "3000; more steps copy the clips.",
                ),
                "targets": inputs.choice(
                    (AUTO, "temporal", "spatial", "both", "all"),
                    "Layers to train. temporal learns motion and camera, spatial learns look, both suits characters, "
                    "all adds the feed-forward layers. auto uses temporal for a camera move, otherwise both.",
                ),
                "rank": inputs.whole(
                    0,
                    0,
                    256,
                    "Rank (size) of the LoRA. 0 uses 8 for a camera move, otherwise 16 (nano: 8). A higher rank "
                    "learns more and copies the clips sooner.",
                ),
                "seed": inputs.SEED,
            },
            "optional": {
                "picture": inputs.socket(
                    "IMAGE",
                    "An image to animate for validation, not one of the training set. Without it, a photograph "
                    "of a cup is used.",
                ),
                "learning_rate": inputs.decimal(
                    0.0,
                    0.0,
                    1.0,
                    "Peak learning rate. 0 uses 0.0001 (nano: 0.002). Lower it if the loss jumps.",
                    step=0.0001,
                    advanced=True,
                ),
                "batch": inputs.whole(
                    0, 0, 64, "Clips per batch. 0 uses 1 (nano: 2). More needs more memory.", advanced=True
                ),
                "accumulation": inputs.whole(
                    0,
                    0,
                    64,
                    "Batches accumulated per step. 0 uses 4 (nano: 1). More takes time instead of memory.",
                    advanced=True,
                ),
                "precision": inputs.choice(
                    PRECISIONS,
                    "Number format in which the network computes; trained weights stay in float32. auto uses bf16 on "
                    "a graphics card, fp16 on cards before RTX 30, which have no bf16, and float32 elsewhere.",
                    advanced=True,
                ),
                "save_memory": inputs.choice(
                    (AUTO, "on", "off"),
                    "Gradient checkpointing: much less memory for a third more time. auto switches it on, except for "
                    "nano.",
                    advanced=True,
                ),
                "validate_every": inputs.whole(
                    0, 0, 100000, "Steps between validation clips. 0 makes four in total.", advanced=True
                ),
                "trigger": inputs.text("", "A note on how to use the LoRA, saved in its file.", advanced=True),
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
        # ComfyUI runs nodes in inference mode, whose tensors cannot be trained.
        with torch.inference_mode(False), torch.enable_grad():
            return run_training(model, training_set, chosen, picture, trigger)


class SVDReelSaveLora:
    """Save a LoRA."""

    DISPLAY_NAME = "Save SVD LoRA"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Saves a trained LoRA into output/loras, where Load SVD LoRA finds it, with a text file that describes what "
        "it is made of and its licence. It never overwrites a file; it adds the next free number to the name."
    )
    SEARCH_ALIASES = ["save lora", "export lora", "SaveLora"]
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("path",)
    OUTPUT_TOOLTIPS = ("The path of the saved file.",)
    FUNCTION = "execute"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "lora": inputs.socket("SVD_LORA", "The LoRA from Train SVD LoRA."),
                "name": inputs.text("my_svd_lora", "Name of the file in output/loras, without extension."),
            }
        }

    def execute(self, lora: "TrainedLora", name: str) -> tuple:
        from ..svd_core.training.export import halved

        plain, folder = plain_name(name, "name"), save_folder("loras")
        path, number = folder / f"{plain}.safetensors", 2
        while path.exists():
            path, number = folder / f"{plain}_{number}.safetensors", number + 1
        return (str(save_lora(path, halved(lora.adapters), lora.notes)),)


NODES = [SVDReelTrainLora, SVDReelSaveLora]
