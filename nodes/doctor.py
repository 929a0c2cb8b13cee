"""The node that checks a machine with a model file."""

from .host import comfy as host
from .host.paths import profile_file
from .load import NONE, model_location, model_names
from .shared import inputs

ALL_MEMORY = 2**50  # bytes; more than a card has, so that the host unloads everything


class SVDReelDoctor:
    """Check a model file on this machine, and measure what gains on it."""

    DISPLAY_NAME = "Check My Setup (SVD)"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Checks a model file on this machine: whether the file is whole, whether half precision works, whether memory "
        "limits leave the clip as it is, how fast steps are, and which options gain. Run it when clips fail, are "
        "black or slow, and paste its page into an issue."
    )
    SEARCH_ALIASES = ["doctor", "diagnose", "benchmark", "test model", "black frames", "NaN", "slow", "self test"]
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("text", "page")
    OUTPUT_TOOLTIPS = (
        "One line for each check, for Preview Any.",
        "The same with all numbers as Markdown, to paste into an issue.",
    )
    FUNCTION = "execute"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        names = model_names()
        return {
            "required": {
                "model_name": inputs.choice(
                    names, "The model file to check, as in Load SVD Model. nano checks the machine without a download."
                ),
                "quick": inputs.switch(
                    True,
                    "Reads only the header of the file, uses smaller clips and compiles nothing: less than a minute. "
                    "Switched off it reads the whole file and measures at the model's own size, in a few minutes.",
                ),
            },
            "optional": {
                "complete_from": inputs.choice(
                    [NONE, *names],
                    "A full checkpoint from which a missing image encoder and VAE are loaded.",
                    advanced=True,
                ),
                "keep_profile": inputs.switch(
                    True,
                    "Keeps what was measured in output/svd_reel/profile.json. On a graphics card, choices left on "
                    "auto then follow it.",
                    advanced=True,
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, **inputs_given) -> float:
        """Return NaN, which equals nothing: a check runs every time."""
        return float("nan")

    def execute(self, model_name: str, quick: bool, complete_from: str = NONE, keep_profile: bool = True) -> dict:
        # Imported on first use, because ComfyUI imports every pack at start-up.
        from ..svd_core.doctor.examine import FULL, QUICK, STAGES, examine
        from ..svd_core.doctor.profile import write_profile

        device = host.compute_device()
        location = model_location(model_name)
        base = None if complete_from == NONE else model_location(complete_from)
        host.make_room(ALL_MEMORY, device)
        progress, begun = host.Progress(len(STAGES)), []

        def on_work(what: str) -> None:
            host.check_interrupt()
            if what:
                begun.append(what)
                progress.update(min(len(begun), len(STAGES)))

        made = examine(location, device, complete_from=base, extent=QUICK if quick else FULL, on_work=on_work)
        text = made.diagnosis.text()
        if keep_profile and made.profile is not None:
            text += f"\nprofile: {write_profile(made.profile, device, profile_file())}"
        return {"ui": {"text": (text,)}, "result": (text, made.diagnosis.markdown())}


NODES = [SVDReelDoctor]
