"""What moving previews cost while a clip is sampled: `python -m tools.previews [MODEL] [--steps N] [--rounds N]`.

It runs without ComfyUI: frames are made and encoded as for a browser that watches, and written as the message is.
Processor time is compared, in alternating runs with and without previews. The last line counts the work of one
preview at the size of SVD against that of one step.
"""

import argparse
import json
import statistics
import time

import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

import svd_core as svd
from svd_core.model.latent_colours import NANO, measure_colours

from .workflows.library import ROOT, load_pack

SVD_LATENTS = (25, 4, 72, 128)
COUNTS = ROOT / "benchmarks" / "results" / "counts.json"


def preview_module():
    """Return the pack's previews, for a browser that takes every message."""
    preview = load_pack().nodes.host.preview
    preview.host.is_watched = lambda: True
    preview.host.running_node = lambda: "3"
    preview.host.send = lambda event, content: json.dumps(content)
    return preview


def sampled(model, picture: Image.Image, steps: int, show) -> tuple[float, float, int]:
    """Sample a clip; return seconds of processor time, those of previews among them, and the number of previews."""
    spent, shown, end = 0.0, 0, 0.0
    start = time.process_time()

    def on_step(step) -> None:
        nonlocal spent, shown, end
        if show is not None:
            before = time.process_time()
            show(step.index + 1, step.steps, step.denoised)
            spent, shown = spent + time.process_time() - before, show.sent
        end = time.process_time()

    svd.animate(model, picture, svd.AnimateSettings(steps=steps, seed=23), on_step=on_step)
    return end - start, spent, shown


def one_preview(preview, colours) -> tuple[float, float]:
    """Return seconds of one preview at the size of SVD, and its multiplications and additions in GFLOP."""
    latents = torch.randn(SVD_LATENTS)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        preview.ClipPreview(colours)(1, 1, latents)
        seconds.append(time.process_time() - start)
    with FlopCounterMode(display=False) as counter:
        colours.frames(latents)
    return min(seconds), counter.get_total_flops() / 1e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="nano")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    preview, model = preview_module(), svd.load_model(given.model, device="cpu")
    pictures = ROOT / "web" / "pictures"
    picture = Image.open(pictures / "landscape.jpg").convert("RGB")
    colours = NANO
    if given.model != "nano":
        samples = [Image.open(path).convert("RGB") for path in sorted(pictures.glob("*.jpg"))]
        colours = measure_colours(
            [svd.pictures.as_batch(one) for one in samples],
            model.encode_latent,
            lambda latents: model.decode(latents, 1),
        )
    rows = []
    for _ in range(given.rounds):
        rows.append(
            (
                sampled(model, picture, given.steps, None),
                sampled(model, picture, given.steps, preview.ClipPreview(colours)),
            )
        )
    without, with_them = (statistics.median(pair[k][0] for pair in rows) for k in (0, 1))
    shares = [pair[1][1] / pair[1][0] for pair in rows]
    print(
        f"{given.model}, {given.steps} steps: {without:.2f} s without, {with_them:.2f} s with {rows[0][1][2]} previews;"
    )
    print(f"the previews took {100 * statistics.median(shares):.2f} % of the processor time of sampling")
    seconds, work = one_preview(preview, colours)
    step = next(row for row in json.loads(COUNTS.read_text())["rows"] if "both passes" in row["stage"])["TFLOP"]
    print(
        f"25 frames of 1024x576: a preview takes {seconds:.3f} s of one core, and {work:.3f} GFLOP on the device "
        f"against {1000 * step:.0f} of a step ({100 * work / 1000 / step:.1g} %)"
    )


if __name__ == "__main__":
    main()
