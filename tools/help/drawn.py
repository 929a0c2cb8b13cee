"""Help pictures without clips: drawings by the nodes themselves, and charts of their numbers."""

import json
from dataclasses import replace

from PIL import Image

from svd_core.charts import FAINT, INK, LINE, PALETTE, Bar, Chart, Curve, draw_bars, draw_charts, font
from svd_core.cli.plan import config_by_name
from svd_core.controls.windows import Windows
from svd_core.model.orbit import OrbitPath
from svd_core.networks.activation_bytes import decoder_activation_bytes
from svd_core.pictures import as_batch, fit
from svd_core.pipelines.settings import AnimateSettings
from svd_core.plan.memory_plan import GIB, make_plan
from svd_core.plan.page import draw_plan
from tools.workflows.drawn_inputs import (
    angle_table,
    depth_frames,
    line_frames,
    mug,
    on_checks,
    orbit_map,
    pose,
    prepared_mug,
    ray_maps,
)
from tools.workflows.library import ROOT, load_pack

from .sheets import MARGIN, WIDTH, page, rows_of_frames, scaled, stacked, table, text_lines, tiles
from .studio import Studio
from .tables import node_class

RELEASES = {
    "svd": "SVD",
    "svd_xt": "SVD-XT",
    "svd_xt_1_1": "SVD-XT 1.1",
    "animatelcm": "AnimateLCM",
    "nano": "nano (embedded)",
}


def load_model(studio: Studio) -> Image.Image:
    """Draw a table of what the releases were made for."""
    rows = [("model", "frames", "size", "steps", "guidance")]
    for variant, name in RELEASES.items():
        # AnimateLCM is SVD-XT's network with other weights.
        known = config_by_name("svd_xt" if variant in ("animatelcm", "nano") else variant)
        config = studio.model.config if variant == "nano" else replace(known, variant=variant)
        settings = AnimateSettings().resolve(config)
        guidance = [settings.min_guidance, settings.max_guidance]
        words = "none" if guidance == [1, 1] else f"{guidance[0]:g} to {guidance[1]:g}"
        rows.append((name, str(settings.frames), f"{settings.width}x{settings.height}", str(settings.steps), words))
    return table(rows, (3, 1.4, 2, 1.2, 2))


def condition(studio: Studio) -> Image.Image:
    """Draw the three fits of a wide image."""
    wide = studio.photograph[:, 90:306]
    heads = ("the picture", "crop", "pad", "stretch")
    frames = [wide[0]]
    for mode in heads[1:]:
        fitted, _ = fit(as_batch(wide), 256, 256, mode)
        frames.append((fitted[0].movedim(0, -1) + 1) / 2)
    return rows_of_frames([("", frames)], heads=heads)


def guidance(studio: Studio) -> Image.Image:
    """Draw every guidance shape."""
    shapes = ("linear", "constant", "triangle", "trapezoid", "cosine")
    drawn = [studio.run("SVDReelGuidance", shape=shape, low=1.0, high=2.5)[1] for shape in shapes]
    return tiles([*drawn, studio.run("SVDReelGuidance", shape="custom", points="1, 3, 2, 2.5")[1]], 2)


def schedule(studio: Studio) -> Image.Image:
    """Draw every kind of schedule."""
    kinds = (("karras", 25), ("align_your_steps", 10), ("exponential", 25), ("lcm", 4))
    return tiles([studio.run("SVDReelSchedule", kind=kind, steps=steps)[1] for kind, steps in kinds], 2)


def motion_amount(studio: Studio) -> Image.Image:
    """Draw the presets and a bucket curve."""
    run = studio.run
    return tiles(
        [
            run("SVDReelMotionAmount", preset="calm")[1],
            run("SVDReelMotionAmount", preset="lively")[1],
            run("SVDReelMotionAmount", bucket_curve="0:20, 0.4:40, 1:180")[1],
            run("SVDReelMotionAmount", start_sigma=200.0, fps_curve="0:7, 1:20")[1],
        ],
        2,
    )


def sample_picture(studio: Studio) -> Image.Image:
    """Show all pictures, cut to one shape."""
    names = node_class("SVDReelSamplePicture").INPUT_TYPES()["required"]["picture"][0]
    pictures = [studio.run("SVDReelSamplePicture", picture=name)[0] for name in names]
    return tiles([picture[:, : round(picture.shape[2] * 9 / 16)] for picture in pictures], 3)


def camera_path(studio: Studio) -> Image.Image:
    """Draw a path of two moves over the photograph."""
    words = "pan right 0.15, zoom in 1.2 ease then tilt up 0.1"
    return scaled(studio.run("SVDReelCameraPath", path=words, image=studio.photograph[:, 84:300])[1])


def decode(studio: Studio) -> Image.Image:
    """Draw the memory of the three decoding methods."""
    names = {"store": "memory is plenty", "recompute": "less", "host": "least"}
    coder = config_by_name("svd_xt").vae.decoder
    values = {
        words: decoder_activation_bytes(coder, 25, 72, 128, strategy=strategy) / GIB
        for strategy, words in names.items()
    }
    bars = [Bar(words, (value,), f"{value:.1f} GiB") for words, value in values.items()]
    return draw_bars("Decoding 25 frames of 1024x576 in half precision", bars, width=WIDTH)


def plan(studio: Studio) -> Image.Image:
    """Draw a plan of SVD-XT for 8 GB."""
    return scaled(draw_plan(make_plan(config_by_name("svd_xt"), 25, 1024, 576, 8 * GIB, steps=30)))


def duration(studio: Studio) -> Image.Image:
    """Draw the frames of a video of 5 seconds on a line."""
    frames, factor, fps, count, motion_fps, text = studio.run("SVDReelDuration")
    sheet, pen = page(210)
    left, right, y = 30, WIDTH - 30, 60
    pen.text((left, 14), f"{frames} frames of the model, {factor - 1} between each two", fill=INK, font=font(17))
    pen.line((left, y, right, y), fill=LINE)
    for number in range(count):
        x = left + (right - left) * number / (count - 1)
        own = number % factor == 0
        radius = 5 if own else 1.5
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=PALETTE[0] if own else FAINT)
    for second in range(int(count / fps) + 1):
        x = left + (right - left) * second * fps / (count - 1)
        pen.text((min(x, right - 14) - 4, y + 12), f"{second} s", fill=FAINT, font=font(13))
    for number, line in enumerate(text.splitlines()):
        pen.text((left, y + 46 + 24 * number), line, fill=INK, font=font(15))
    return sheet


def windows(studio: Studio) -> Image.Image:
    """Draw the weight of each window in each frame."""
    frames, control = 59, Windows(25, 8)
    curves = [
        Curve(
            shares.tolist(), f"window {number}: frames {int(rows[0]) + 1} to {int(rows[-1]) + 1}", (rows + 1).tolist()
        )
        for number, (rows, shares) in enumerate(control.shares(frames), 1)
    ]
    marks = {0.0: "0%", 0.5: "50%", 1.0: "100%"}
    title = f"{frames} frames in windows of 25 that share 8: weight of each window"
    return draw_charts("", [Chart(title, curves, {1: "frame 1", frames: f"frame {frames}"}, marks)], width=WIDTH)


def prepare_object(studio: Studio) -> Image.Image:
    """Draw a transparent picture of an object, and the prepared square."""
    return rows_of_frames([("", [on_checks(mug(240, 240)), prepared_mug()])], heads=("the picture", "what SV3D sees"))


def orbit(studio: Studio) -> Image.Image:
    """Draw the cameras of an orbit; a result would need SV3D's weights."""
    level, raised = OrbitPath.level(), OrbitPath.rising(45, 10)
    curve = Curve(list(raised.elevations), "elevation", list(range(1, raised.frames + 1)))
    marks = {10.0: "10", 45.0: "45"}
    chart = Chart("elevation_start 45, elevation 10: degrees of every view", [curve], {1: "1", 21: "21"}, marks)
    views = [prepared_mug(), orbit_map(level), angle_table(level)]
    heads = ("the picture, view 21", "the cameras from above", "angles")
    return stacked([rows_of_frames([("", views)], heads=heads), draw_charts("", [chart], width=WIDTH)])


def camera_weights(studio: Studio) -> Image.Image:
    """Draw a camera path and the rays of four of its frames; a result would need the weights."""
    moves = "pan right 0.15, zoom in 1.2"
    drawn = scaled(studio.run("SVDReelCameraPath", path=moves, image=studio.photograph)[1])
    return stacked([drawn, rows_of_frames([("rays", ray_maps(moves))])])


def poses(studio: Studio) -> Image.Image:
    """Draw pose drawings, the picture's own first; a result would need the weights."""
    heads = ("the picture's own", "frame 2", "frame 3", "frame 4")
    return rows_of_frames([("", [pose(share) for share in (0, 0.35, 0.7, 1)])], heads=heads)


def control_net(studio: Studio) -> Image.Image:
    """Draw control pictures of both kinds; a result would need the ControlNet's weights."""
    lines = line_frames(studio.photograph)
    return rows_of_frames([("lines, one per frame", lines), ("depth, near is bright", depth_frames())])


def line_art(studio: Studio) -> Image.Image:
    """Draw the photograph and its lines, with three amounts of detail."""
    drawn = [studio.run("SVDReelLineArt", images=studio.photograph, detail=detail)[0][0] for detail in (0.5, 1.0, 2.0)]
    heads = ("the picture", "detail 0.5", "detail 1", "detail 2")
    return rows_of_frames([("", [studio.photograph[0], *drawn])], heads=heads)


def model_info(studio: Studio) -> Image.Image:
    """Draw the description of the embedded model, without the path on this machine."""
    text = studio.run("SVDReelModelInfo")[0].replace(str(ROOT), "...")
    return text_lines(text)


def doctor(studio: Studio) -> Image.Image:
    """Draw what the check says of the embedded model on the processor that makes the picture."""
    return text_lines(studio.run("SVDReelDoctor", keep_profile=False)[0], columns=84)


def export_model(studio: Studio) -> Image.Image:
    """Draw the graph of the template with ComfyUI's sampler, our nodes in blue."""
    workflow = json.loads((ROOT / "workflows" / "svd_with_comfyui_nodes.json").read_text(encoding="utf-8"))
    boxes = {node["id"]: node for node in workflow["nodes"] if node["type"] not in ("Note", "MarkdownNote")}
    names = load_pack().NODE_DISPLAY_NAME_MAPPINGS
    left, upper = (min(node["pos"][axis] for node in boxes.values()) for axis in (0, 1))
    right, lower = (max(node["pos"][axis] + node["size"][axis] for node in boxes.values()) for axis in (0, 1))
    scale = (WIDTH - 2 * MARGIN) / (right - left)
    sheet, pen = page(round((lower - upper) * scale) + 2 * MARGIN)
    areas = {}
    for key, node in boxes.items():
        x, y = (MARGIN + (value - least) * scale for value, least in zip(node["pos"], (left, upper), strict=True))
        wide, high = (side * scale for side in node["size"])
        areas[key] = (x, y, x + 0.8 * wide, y + max(high, 50))
    for _, start, slot, end, entry, kind in workflow["links"]:
        if start in areas and end in areas:
            ends = (areas[start][2], areas[start][1] + 8 + 7 * slot, areas[end][0], areas[end][1] + 8 + 7 * entry)
            pen.line(ends, fill=PALETTE[len(kind) % len(PALETTE)], width=2)
    for key, area in areas.items():
        ours = boxes[key]["type"].startswith("SVDReel")
        pen.rounded_rectangle(area, 5, fill=(222, 234, 250) if ours else (240, 240, 240), outline=LINE)
        title = names.get(boxes[key]["type"], boxes[key].get("title") or boxes[key]["type"])
        _wrapped(pen, title, area[0] + 5, area[1] + 3, area[2] - area[0] - 8)
    return sheet


def node_card(node: type) -> Image.Image:
    """Draw a node as the editor shows it: its name, its inputs on the left, its outputs on the right."""
    groups = node.INPUT_TYPES()
    inputs = [*groups.get("required", {}), *groups.get("optional", {})]
    rows = max(len(inputs), len(node.RETURN_NAMES))
    sheet, pen = page(2 * MARGIN + 40 + 22 * rows)
    left, right = WIDTH // 5, WIDTH - WIDTH // 5
    pen.rounded_rectangle((left, MARGIN, right, MARGIN + 36 + 22 * rows), 8, fill=(222, 234, 250), outline=LINE)
    pen.text((left + 12, MARGIN + 6), node.DISPLAY_NAME, fill=INK, font=font(17))
    for place, name in enumerate(inputs):
        pen.text((left + 12, MARGIN + 34 + 22 * place), name, fill=INK, font=font(14))
    for place, name in enumerate(node.RETURN_NAMES):
        x = right - 12 - pen.textlength(name, font=font(14))
        pen.text((x, MARGIN + 34 + 22 * place), name, fill=FAINT, font=font(14))
    return sheet


def _wrapped(pen, text: str, x: float, y: float, wide: float) -> None:
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and pen.textlength(longer, font=font(13)) > wide:
            pen.text((x, y), line, fill=INK, font=font(13))
            line, y = word, y + 15
        else:
            line = longer
    pen.text((x, y), line, fill=INK, font=font(13))
