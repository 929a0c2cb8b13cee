"""Help pictures of clips: the nodes make them with the embedded model, few frames and few steps."""

import math
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image
from safetensors import safe_open

import svd_core as svd
from svd_core.flow.between import frames_between
from svd_core.pictures.sheets import to_picture
from svd_core.training.data.stills import check_move, move_still
from svd_core.training.job import clip_plan
from tools.workflows.library import PACK

from .sheets import WIDTH, page, rows_of_frames, scaled, stacked, table, text_lines
from .studio import CALM, FRAMES, STEPS, Studio, some

SHOWN = 5  # frames of a clip
TRAINED = 48  # steps of the training that is shown


def animate(studio: Studio) -> Image.Image:
    """Show the photograph and its clip, made by Animate Image."""
    clip = studio.run("SVDReelAnimate", model=studio.model, image=studio.photograph, frames=FRAMES, steps=STEPS,
                      motion_bucket_id=200)[0]  # fmt: skip
    heads = ("the photograph", *(f"frame {place}" for place in _places(4)))
    return rows_of_frames([("", [studio.photograph[0], *some(clip, 4)])], heads=heads)


def motion(studio: Studio) -> Image.Image:
    """Show three motion buckets."""
    return rows_of_frames([(f"motion bucket {bucket}", some(studio.clip(bucket), SHOWN)) for bucket in (10, 127, 255)])


def sampler(studio: Studio) -> Image.Image:
    """Show the last frame over the steps: the sample and the model's estimate."""
    model, steps = svd.load_model("nano"), []
    settings = svd.AnimateSettings(frames=FRAMES, steps=10, motion_bucket=200)
    svd.animate(model, studio.photograph, settings, on_step=steps.append)
    shown = [steps[index] for index in (0, 2, 4, 6, 8)]
    rows = {
        "what is sampled": [
            step.x / math.sqrt(1 + after.sigma**2) for step, after in zip(shown, steps[1::2], strict=True)
        ],
        "what the model takes it for": [step.denoised for step in shown],
    }
    heads = [f"noise {step.sigma:.3g}" for step in shown]
    pictures = [
        (words, [((model.decode(latents)[-1].movedim(0, -1) + 1) / 2).clamp(0, 1) for latents in row])
        for words, row in rows.items()
    ]
    return rows_of_frames(pictures, heads=heads)


def report(studio: Studio) -> Image.Image:
    """Show four panels of the page, 216 pixels high and 26 apart, 28 from its edges."""
    sheet = to_picture(studio.run("SVDReelReport", frames=studio.lively, image=studio.photograph)[2])
    lower, right = sheet.height - 28, 28 + 2 * (sheet.width - 2 * 28 - 2 * 26) // 3 + 26
    panels = sheet.crop((22, lower - 2 * 216 - 26 - 6, right + 6, lower + 6))
    return panels.resize((WIDTH, round(panels.height * WIDTH / panels.width)), Image.LANCZOS)


def compare(studio: Studio) -> Image.Image:
    """Show two clips of one seed, below one another."""
    clips = [(name, some(studio.clip(bucket), 4)) for name, bucket in (("first", 20), ("second", 220))]
    return rows_of_frames(clips)


def sweep(studio: Studio) -> Image.Image:
    """Show a sheet of four clips."""
    sheet = studio.run(
        "SVDReelSweep",
        model=studio.model,
        image=studio.photograph,
        frames=FRAMES,
        steps=6,
        full_steps=6,
        buckets="60, 200",
    )[0]
    return scaled(sheet)


def storyboard(studio: Studio) -> Image.Image:
    """Show a storyboard of three parts of the photograph."""
    picture = studio.photograph
    parts = [picture, picture[:, 40:290, 60:310], picture[:, 180:330, 180:330]]
    images = torch.cat([_resized(part, 256) for part in parts])
    panels = (
        "seconds,move,transition,title\n1,zoom in 1.15,cut,The table\n1,pan right 0.1,cross-fade 0.4,The cup\n"
        "1,zoom in 1.1,cut,The spoon"
    )
    film = studio.run(
        "SVDReelStoryboard", model=studio.model, panels=panels, images=images, steps=6, motion_bucket_id=20
    )
    return scaled(film[1])


def camera_control(studio: Studio) -> Image.Image:
    """Show the imposed frames and the resulting clip."""
    camera = studio.run("SVDReelCameraPath", path="pan right 0.2, zoom in 1.15")[0]
    control, warped, holes = studio.run(
        "SVDReelCameraControl", model=studio.model, image=studio.photograph, camera=camera,
        latent=studio.prepared(CALM)[2],
    )  # fmt: skip
    shaded = warped * (1 - 0.6 * holes[..., None])
    rows = [
        ("imposed (what the picture does not show is dark here)", some(shaded, SHOWN)),
        ("the clip", some(studio.clip(CALM, control=control), SHOWN)),
    ]
    return rows_of_frames(rows)


def inbetween(studio: Studio) -> Image.Image:
    """Show a clip from one part of the photograph to another."""
    first, last = studio.photograph[:, :320, :320], studio.photograph[:, 64:, 64:]
    latent = studio.run(
        "SVDReelInbetween", model=studio.model, image=first, end_image=last, frames=FRAMES, sigmas=studio.sigmas
    )[0]
    frames = some(studio.decoded(latent), 4)
    return rows_of_frames([("the two pictures", [first[0], last[0], *[torch.ones(8, 8, 3)] * 2]), ("the clip", frames)])


def loop(studio: Studio) -> Image.Image:
    """Show a loop and its first frame again."""
    latent = studio.run(
        "SVDReelLoop", model=studio.model, image=studio.photograph, frames=FRAMES, sigmas=studio.sigmas,
        motion=studio.run("SVDReelMotion", motion_bucket_id=200)[0],
    )[0]  # fmt: skip
    frames = studio.decoded(latent)
    places = [0, 2, 4, len(frames) - 1]
    heads = (*(f"frame {place + 1}" for place in places), "1 again")
    return rows_of_frames([("", [*(frames[place] for place in places), frames[0]])], heads=heads, marks={0: 4})


def extend(studio: Studio) -> Image.Image:
    """Show a clip and its extension."""
    positive, negative, _ = studio.prepared(60)
    latent = studio.run(
        "SVDReelExtend", model=studio.model, latent=studio.sampled(60), positive=positive, negative=negative,
        chunk_frames=FRAMES, new_frames=5, overlap=3, sigmas=studio.sigmas,
    )[0]  # fmt: skip
    frames = studio.decoded(latent)
    first, then = [0, 2, 4, 6, 7], list(range(8, 13))
    rows = [
        (f"the clip: frames {', '.join(str(place + 1) for place in first)}", [frames[place] for place in first]),
        (f"its continuation: frames {then[0] + 1} to {then[-1] + 1}", [frames[place] for place in then]),
    ]
    return rows_of_frames(rows)


def motion_mask(studio: Studio) -> Image.Image:
    """Show the mask, the clip, and where it differs from its first frame."""
    y, x = torch.meshgrid(torch.arange(384.0), torch.arange(384.0), indexing="ij")
    mask = (((x - 185) / 130) ** 2 + ((y - 130) / 120) ** 2 < 1).float()[None]
    control, shown = studio.run(
        "SVDReelMotionMask", model=studio.model, image=studio.photograph, mask=mask, latent=studio.prepared(255)[2]
    )
    clip = studio.clip(255, control=control)
    change = (3 * (clip - clip[:1]).abs().mean(-1, keepdim=True)).clamp(0, 1).expand(-1, -1, -1, 3)
    rows = [
        ("the mask, and the clip at motion bucket 255", [shown[0, ..., None].expand(-1, -1, 3), *some(clip, 4)]),
        ("where the frames differ from the first one", [torch.ones_like(clip[0]), *some(change, 4)]),
    ]
    return rows_of_frames(rows)


def cut_and_drag(studio: Studio) -> Image.Image:
    """Show preview, pasted frames and clip."""
    y, x = torch.meshgrid(torch.arange(384.0), torch.arange(384.0), indexing="ij")
    mask = (((x - 185) / 128) ** 2 + ((y - 155) / 145) ** 2 < 1).float()[None]
    control, preview, pasted, _ = studio.run(
        "SVDReelCutAndDrag", model=studio.model, image=studio.photograph, mask=mask, latent=studio.prepared(CALM)[2],
        path="0.48,0.4; 0.6,0.3; 0.68,0.4",
    )  # fmt: skip
    clip = studio.clip(CALM, control=control)
    upper, _ = page(250)
    upper.paste(scaled(preview, 236), (202, 10))
    rows = [("pasted", some(pasted, SHOWN)), ("the clip", some(clip, SHOWN))]
    return stacked([upper, rows_of_frames(rows)])


def control_by_clip(studio: Studio) -> Image.Image:
    """Show the driving clip, the rough frames and the clip."""
    flipped = studio.photograph.flip(2)
    driving = studio.run("SVDReelCameraPath", path="pan right 0.15, roll cw 8")[0]
    drive = studio.run(
        "SVDReelCameraControl", model=studio.model, image=flipped, camera=driving, latent=studio.prepared(CALM)[2]
    )[1]
    control, rough, holes = studio.run(
        "SVDReelControlByClip", model=studio.model, image=studio.photograph, clip=drive,
        latent=studio.prepared(CALM)[2], use="camera",
    )  # fmt: skip
    rows = [
        ("the driving clip", some(drive, SHOWN)),
        ("rough (what is not imposed is dark here)", some(rough * (1 - 0.6 * holes[..., None]), SHOWN)),
        ("the clip", some(studio.clip(CALM, control=control), SHOWN)),
    ]
    return rows_of_frames(rows)


def edit_clip(studio: Studio) -> Image.Image:
    """Show the source, the edited frames and the clip."""
    path = studio.run("SVDReelCameraPath", path="pan right 0.12, zoom in 1.1")[0]
    source = studio.run(
        "SVDReelCameraControl", model=studio.model, image=studio.photograph, camera=path,
        latent=studio.prepared(CALM)[2],
    )[1]  # fmt: skip
    edited = source[:1].clone()
    height, width = edited.shape[1:3]
    edited[:, height // 3 : height // 2, width // 3 : width // 2] = torch.tensor([0.85, 0.15, 0.1])
    control, carried, _ = studio.run(
        "SVDReelEditClip", model=studio.model, image=edited, clip=source, latent=studio.prepared(CALM)[2], denoise=0.4
    )
    rows = [
        ("the source", some(source, SHOWN)),
        ("edited: a red patch on its first frame, carried along", some(carried, SHOWN)),
        ("the clip", some(studio.clip(CALM, control=control), SHOWN)),
    ]
    return rows_of_frames(rows)


def steady(studio: Studio) -> Image.Image:
    """Show the last frame with burning guidance, and with rescale."""
    hot = studio.run("SVDReelGuidance", shape="constant", high=6.0)[0]
    control = studio.run("SVDReelSteady", rescale=0.7)[0]
    given = ({}, {"guidance": hot}, {"guidance": hot, "control": control})
    frames = [studio.clip(127, **options)[-1] for options in given]
    return rows_of_frames([("", frames)], heads=("guidance 1", "guidance 6", "guidance 6, rescale 0.7"))


def reuse_features(studio: Studio) -> Image.Image:
    """Show the last frame with increasing reuse."""
    frames, heads = [], []
    for interval, share in ((1, 1.0), (2, 0.62), (3, 0.5)):
        control = studio.run("SVDReelReuseFeatures", interval=interval)[0]
        frames.append(studio.clip(200, control=control)[-1])
        heads.append(f"interval {interval}: {share:g} of the time" if interval > 1 else "exact")
    return rows_of_frames([("", frames)], heads=heads)


def color_match(studio: Studio) -> Image.Image:
    """Show a clip with an artificial drift, and after the match."""
    grow = torch.linspace(0, 1, len(studio.lively)).reshape(-1, 1, 1, 1)
    drifting = (studio.lively * (1 + grow * torch.tensor([-0.35, 0.05, 0.5])) + 0.06 * grow).clamp(0, 1)
    matched = studio.run("SVDReelColorMatch", frames=drifting, strength=1.0)[0]
    return rows_of_frames([("colours drift", some(drifting, SHOWN)), ("matched, strength 1", some(matched, SHOWN))])


def finish(studio: Studio) -> Image.Image:
    """Show two frames and the frames added between them."""
    first, last = studio.lively[2], studio.lively[5]
    between = frames_between(first, last, (0.25, 0.5, 0.75))
    heads = ("frame 1", "put in", "put in", "put in", "frame 2")
    return rows_of_frames([("", [first, *between, last])], heads=heads)


def load_lora(studio: Studio) -> Image.Image:
    """Show the embedded LoRA at three strengths."""
    rows = []
    for strength in (1.0, 0.0, -1.0):
        model = studio.run(
            "SVDReelLoadLora", model=studio.model, lora_name="nano_pan_left (embedded)", strength=strength,
            temporal_strength=strength,
        )[0]  # fmt: skip
        rows.append((f"strength {strength:g}" if strength else "without", some(studio.clip(127, model=model), SHOWN)))
    return rows_of_frames(rows)


def training_set(studio: Studio) -> Image.Image:
    """Show three clips of one photograph."""
    plan, path = clip_plan(studio.model.config, frames=FRAMES), check_move("pan left", FRAMES)
    picture, generator = studio.photograph.movedim(-1, 1) * 2 - 1, torch.Generator().manual_seed(5)
    rows = []
    for number in range(3):
        made = move_still(picture, path, plan, 7.0, generator, direction=-1.0 if number == 2 else 1.0)
        frames = ((made.frames.movedim(1, -1) + 1) / 2).clamp(0, 1)
        words = "the opposite way, learned with strength -1" if number == 2 else "pan left"
        rows.append((f"{words}: {made.speed:.1f} % of the diagonal a second", some(frames, SHOWN)))
    return rows_of_frames(rows)


def train_lora(studio: Studio) -> Image.Image:
    """Show the validation sheet of a short training run."""
    return scaled(_trained(studio)[3])


def save_lora(studio: Studio) -> Image.Image:
    """Show the description in a saved file, and the notice beside it."""
    lora = _trained(studio)[0]
    with tempfile.TemporaryDirectory() as folder, _outputs(Path(folder)):
        path = Path(studio.run("SVDReelSaveLora", lora=lora, name="pan_left")[0])
        with safe_open(path, "pt") as file:
            notes = file.metadata()
        notice = path.with_name(f"{path.stem}.NOTICE.txt").read_text(encoding="utf-8")
        files = [(file.name, f"{file.stat().st_size:,} bytes") for file in sorted(path.parent.iterdir())]
    rows = [("models/loras", ""), *files]
    told = "\n".join(f"{name.removeprefix('svd.lora.')}: {text[:150]}" for name, text in sorted(notes.items()))
    return stacked([table(rows, (2, 1)), text_lines(told, "In the file"), text_lines(notice, "In the notice")])


def _trained(studio: Studio) -> tuple:
    """Return the outputs of a short training run, made once."""
    if not hasattr(studio, "trained"):
        clips = studio.run(
            "SVDReelTrainingSet", images=studio.photograph, camera_move="pan left", frames=4, clips_per_picture=8,
        )[0]  # fmt: skip
        with tempfile.TemporaryDirectory() as folder, _outputs(Path(folder)):
            studio.trained = studio.run(
                "SVDReelTrainLora", model=studio.model, training_set=clips, steps=TRAINED, validate_every=TRAINED // 2
            )
    return studio.trained


class _outputs:
    """Redirects the nodes' output to a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.host = folder, sys.modules[f"{PACK}.nodes.host.comfy"]

    def __enter__(self) -> None:
        self.before = self.host.output_folder
        self.host.output_folder = lambda: self.folder

    def __exit__(self, *error: object) -> None:
        self.host.output_folder = self.before


def _places(count: int) -> list[int]:
    return [place + 1 for place in torch.linspace(0, FRAMES - 1, count).round().long().tolist()]


def _resized(image: torch.Tensor, side: int) -> torch.Tensor:
    planes = torch.nn.functional.interpolate(image.movedim(-1, 1), (side, side), mode="bicubic", antialias=True)
    return planes.movedim(1, -1).clamp(0, 1)
