"""The node that estimates memory and time of a clip and plans its run."""

from ..svd_core.model.guidance_passes import fixed_mode
from ..svd_core.pipelines.planned import planned_clip
from ..svd_core.plan.control_costs import controls_text
from ..svd_core.plan.memory_plan import GIB, PRESETS, RESERVE, make_plan
from ..svd_core.plan.page import draw_plan
from ..svd_core.plan.rate import measure_rate
from ..svd_core.sampling.limits import DEPTH
from ..svd_core.sampling.schedules import make_sigmas
from .host import comfy as host
from .shared import inputs
from .shared.controls import ControlChain
from .shared.model import LoadedModel

MEASURED = "measured"


class SVDReelPlan:
    """Plan memory and time of a clip."""

    DISPLAY_NAME = "Plan Memory and Time (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Estimates memory and time of a clip, stage by stage, before anything runs. Connect its plan to Sample SVD "
        "Clip and Decode SVD Clip to keep them within that memory; the clip stays the same."
    )
    SEARCH_ALIASES = ["vram", "low vram", "memory estimate", "out of memory", "how long", "6 GB", "8 GB"]
    RETURN_TYPES = ("STRING", "IMAGE", "SVD_PLAN")
    RETURN_NAMES = ("report", "page", "plan")
    OUTPUT_TOOLTIPS = (
        "Memory, operations and time of every stage as text.",
        "The same as bars, with a line at the memory limit.",
        "The plan, for Sample SVD Clip and Decode SVD Clip.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": inputs.MODEL,
                "width": inputs.WIDTH,
                "height": inputs.HEIGHT,
                "frames": inputs.FRAMES,
                "steps": inputs.whole(0, 0, 1000, "Sampling steps. 0 uses the model's own number. Time grows with it."),
                "memory": inputs.choice(
                    [MEASURED, *(f"{preset} GB" for preset in PRESETS)],
                    "Memory limit. measured uses what is free on this machine now. Choose a number to plan for a "
                    "card of that size, or to leave room for other programs.",
                ),
            },
            "optional": {
                "measure_time": inputs.switch(
                    True,
                    "Measures the speed of this machine for a fraction of a second to estimate the time. "
                    "Switch it off to plan for another machine.",
                    advanced=True,
                ),
                "control": inputs.socket(
                    "SVD_CONTROL",
                    "The control nodes of this clip. The report lists them with what they cost together in UNet "
                    "passes, time and memory.",
                ),
                "reuse_interval": inputs.whole(
                    1,
                    1,
                    20,
                    "Interval of Reuse Features or Export SVD to ComfyUI Model to plan with. 1 is without reuse. 2 "
                    "or 3 takes less time and keeps features on the device, 0.3 GB for SVD-XT; the plan includes "
                    "both.",
                    advanced=True,
                ),
                "reuse_depth": inputs.whole(
                    DEPTH,
                    1,
                    11,
                    "Depth of Reuse Features or Export SVD to ComfyUI Model to plan with. More takes longer and, "
                    "from 3, keeps 0.6 GB for SVD-XT.",
                    advanced=True,
                ),
            },
        }

    def execute(
        self,
        model: LoadedModel,
        width: int,
        height: int,
        frames: int,
        steps: int,
        memory: str,
        measure_time: bool = True,
        control: ControlChain | None = None,
        reuse_interval: int = 1,
        reuse_depth: int = DEPTH,
    ) -> tuple:
        wanted = {"width": width, "height": height, "frames": frames, "steps": steps}
        wanted = {name: value or None for name, value in wanted.items()}
        clip = planned_clip(model.config, **wanted, reuse=(reuse_interval, reuse_depth))
        device = host.compute_device()
        itemsize = model.compute_dtype.itemsize
        plan = make_plan(
            model.config,
            clip.frames,
            clip.width,
            clip.height,
            memory_bytes(memory, device),
            steps=clip.steps,
            guided=clip.guided,
            itemsize=itemsize,
            rate=measure_rate(device, model.compute_dtype) if measure_time else None,
            reuse=clip.reuse,
            guidance=fixed_mode(device, clip.frames, clip.height // 8, clip.width // 8),
        )
        text = plan.text()
        if control is not None:
            size = (clip.frames, clip.width, clip.height, make_sigmas(clip.schedule, clip.steps))
            controls = [link[0] for link in control.links]
            given = {"guided": clip.guided, "itemsize": itemsize, "control_scale": model.config.control_scale}
            text += "\n  " + controls_text(controls, model.config.unet, *size, **given)
        return (text, draw_plan(plan), plan)


def memory_bytes(choice: str, device) -> int:
    """Return the bytes of a choice of the widget; "measured" adds the reserve that a plan subtracts to what is free."""
    if choice != MEASURED:
        return int(choice.split()[0]) * GIB
    return (host.free_bytes(device) or max(PRESETS) * GIB) + RESERVE


NODES = [SVDReelPlan]
