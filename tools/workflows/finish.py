"""Workflows of finished films."""

from .graph import Graph
from .pieces import EMBEDDED, INTERPOLATOR, NANO, UPSCALER, load, sample, save

RUN = """
1. Press **Run**. While the video is written, the node shows the remaining time.
2. The video appears in **Finish Film** and in the folder *output/video*.
3. For your own picture, connect **Load Image** in place of **Sample Picture**.
"""


def finish_4k(graph: Graph) -> Graph:
    """Turn an image into five seconds of video."""
    graph.note(f"""
# From an image to five seconds in 4K

{EMBEDDED}

The video is small at first, so that a try takes a minute or two on any machine. For 4K, set *size* in Finish Film to
*3840x2160 (4K)*: that takes some minutes on a CPU, and at most 3 GB of memory.
{RUN}""")
    graph.note(f"""
- **Plan Duration** converts seconds to frames: 5 seconds at 24 fps are 121 frames, 25 of SVD-XT with 4 between each
  pair. nano makes fewer frames at once, so the plan asks for slightly more than nano was trained on.
- **Sharper 4K**: add Load Upscale Model with this file and connect it to *upscale_model*:
{UPSCALER.line}
- Frames pass through the upscale model, resizing, interpolation and the encoder a few at a time; the whole video is
  never in memory.
- **Upright images**: swap width and height of Animate Image; the sizes of Finish Film swap automatically.
- **Bands in the sky**: *bit_depth* 10. **For editing**: *codec* prores. **Repeats without a jump**: *ending*
  ping-pong.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    plan = graph.stage("2. Plan").add("SVDReelDuration", seconds=5.0, fps=24.0, model=model["SVD_MODEL"])
    clip = graph.stage("3. Animate").add(
        "SVDReelAnimate", model=model["SVD_MODEL"], image=picture["IMAGE"], frames=plan["frames"]
    )
    graph.stage("4. Film").add(
        "SVDReelFinish",
        fps=plan["fps"],
        interpolate=plan["interpolate"],
        images=clip["IMAGE"],
        size="640x360",
        fit="crop",
        filename_prefix=f"video/{graph.name}",
    )
    return graph


def interpolate_with_model(graph: Graph) -> Graph:
    """ComfyUI's interpolation model inside the stream, and the built-in interpolation for comparison."""
    graph.note(f"""
# Added frames, with a model and without

The clip is made by the tiny model inside the pack. The upper video needs one file:

{INTERPOLATOR.line}

This is FILM; the same node loads RIFE files. **Load Frame Interpolation Model** was added in ComfyUI 0.20. On older
versions delete it; the upper video is then the same as the lower.
{RUN}""")
    graph.note("""
- The upper video uses the model for its added frames, the lower one the motion found in the frames. Both look alike
  where things move a little. The model is better where things move far or hide one another.
- **Run Frame Interpolation Model** does the same to a batch of frames, and so does RIFE VFI of the pack
  ComfyUI-Frame-Interpolation. Put either after Animate Image and set *interpolate* of Finish Film to 1.
""")
    start = graph.stage("1. Picture and models")
    picture, model = load(start, None)
    interpolator = start.add(
        "FrameInterpolationModelLoader",
        title="Load Frame Interpolation Model",
        model_name=INTERPOLATOR.name,
        models=INTERPOLATOR.models,
        without="mute",
    )
    clip = graph.stage("2. Animate").add("SVDReelAnimate", model=model["SVD_MODEL"], image=picture["IMAGE"])
    films = graph.stage("3. Films")
    common = {"images": clip["IMAGE"], "fps": 28.0, "interpolate": 4, "size": "640x360"}
    films.add(
        "SVDReelFinish",
        title="Finish Film (by the model)",
        interp_model=interpolator["INTERP_MODEL"],
        filename_prefix=f"video/{graph.name}",
        **common,
    )
    films.add(
        "SVDReelFinish", title="Finish Film (by the motion)", filename_prefix="video/interpolate_by_motion", **common
    )
    return graph


def draft_then_final(graph: Graph) -> Graph:
    """Sample the same clip as a draft, then in full."""
    graph.note(f"""
# A draft in 10 steps, the final clip in 25

{EMBEDDED}

1. Press **Run**; for your own picture, connect **Load Image** in place of **Sample Picture**.
2. Select the three nodes of the final stage and press Ctrl+M, so that only the draft runs.
3. Press **Run** with one seed after the other, until you like the draft.
4. Press Ctrl+M on the final stage again, enter the same seed in its sampler, and press **Run**. The draft is not
   sampled again.
""")
    graph.note("""
- With the same seed, the final clip has the composition and the motion of the draft, and finer details. The draft's
  noise levels (*align_your_steps*) were made for SVD at 10 steps: about as good as 20 of the usual ones.
- Each sampler has its own *seed* widget: keep the two equal.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    condition = graph.stage("2. Conditioning").add("SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"])
    for title, name, schedule in (
        ("3. Draft", "draft", {"kind": "align_your_steps", "steps": 10}),
        ("4. Final", "final", {"kind": "karras", "steps": 25}),
    ):
        stage = graph.stage(title)
        sigmas = stage.add("SVDReelSchedule", **schedule)
        latent = sample(stage, model, condition, sigmas=sigmas["SIGMAS"])
        stage.add(
            "SVDReelFinish",
            title=f"Finish Film ({name})",
            latent=latent["LATENT"],
            vae=model["VAE"],
            fps=7.0 if name == "draft" else 28.0,
            interpolate=1 if name == "draft" else 4,
            filename_prefix=f"video/{graph.name}_{name}",
        )
    return graph


def vhs_output(graph: Graph) -> Graph:
    """Another pack's video node after our frames."""
    graph.note(f"""
# Frames for Video Helper Suite

{EMBEDDED}

**Video Combine** is a node of another pack, ComfyUI-VideoHelperSuite. Install it through ComfyUI Manager. Without it,
delete the node: **Save Video** of ComfyUI saves the same frames.

1. Press **Run**; for your own picture, connect **Load Image** in place of **Sample Picture**.
2. The clip appears in **Video Combine** and in the folder *output*.
""")
    graph.note("""
- *frame_rate* is the playback speed; the clip was made for 7.
- Video Combine keeps all frames in memory and needs FFmpeg for most formats. For 4K, use **Finish Film**, which
  streams and does not need FFmpeg.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    clip = graph.stage("2. Animate").add("SVDReelAnimate", model=model["SVD_MODEL"], image=picture["IMAGE"])
    graph.stage("3. Video Helper Suite").add(
        "VHS_VideoCombine",
        title="Video Combine",
        images=clip["IMAGE"],
        frame_rate=7.0,
        format="image/webp",
        filename_prefix=graph.name,
        without="mute",
    )
    save(graph.stage("4. ComfyUI's own", below=True), f"{graph.name}_beside", clip["IMAGE"], clip["FLOAT"])
    return graph


def check_setup(graph: Graph) -> Graph:
    """Check the machine and a model file, and make a clip beside it."""
    graph.note(f"""
# Check my setup

{EMBEDDED}

1. Choose a model file in **Check My Setup**, or leave nano to check the machine alone.
2. Press **Run**. The node shows a line for each check: *good* is as it should be, *note* is worth knowing, and *bad*
   says what to do.
3. To report a problem, connect *page* to Preview Any, run again, and copy its text into the issue.
""")
    graph.note("""
- *quick* takes less than a minute. Switch it off to read the whole file and to measure at the model's own size.
- With *keep_profile*, what was measured is kept in the output folder. On a graphics card, choices on auto follow it.
- The same on the command line: svd-reel doctor --model FILE --report page.md.
""")
    graph.stage("1. Check").add("SVDReelDoctor", model_name=NANO)
    picture, model = load(graph.stage("2. Model and picture"), None)
    clip = graph.stage("3. Animate").add("SVDReelAnimate", model=model["SVD_MODEL"], image=picture["IMAGE"])
    graph.stage("4. Film").add("SVDReelFinish", images=clip["IMAGE"], fps=28.0, filename_prefix=f"video/{graph.name}")
    return graph


def inspect_model(graph: Graph) -> Graph:
    """Describe a model file, and make a video with it."""
    graph.note(f"""
# What is in a model file

{EMBEDDED}

1. Choose a file in **Inspect and Convert Model**. It only reads the header, so large files take no time.
2. Press **Run**. The node shows the model's variant, parts, precision, size, problems, and the terms of its licence.
3. The video on the right is made with the model of **Load SVD Model**.
""")
    graph.note("""
- *fix* saves a converted copy: *fp16* halves a float32 file without visible loss, *fp8* halves that again. *extract
  the VAE* makes a file for ComfyUI's Load VAE. The original file stays; press R to see the new one in the lists.
- Some licences require a sentence to be kept with every copy. It is written beside the new file.
- The same on the command line: python -m svd_core convert IN OUT --dtype fp16.
""")
    start = graph.stage("1. Model and picture")
    start.add("SVDReelModelInfo", model_name=NANO)
    picture, model = load(start, None)
    clip = graph.stage("2. Animate").add("SVDReelAnimate", model=model["SVD_MODEL"], image=picture["IMAGE"])
    graph.stage("3. Film").add("SVDReelFinish", images=clip["IMAGE"], fps=28.0, filename_prefix=f"video/{graph.name}")
    return graph
