"""Workflows that try, compare and film: the motion lab, two clips side by side, the storyboard."""

from .graph import Graph
from .pieces import EMBEDDED, FIRST_STEPS, load, measure, sample, save

PANELS = """image,seconds,move,bucket,seed,transition,title
1,1.2,zoom in 1.15 ease,40,1,cut,Closer
1,1.2,pan right 0.12 ease,20,2,cross-fade 0.4,Along
1,1.6,zoom out 1.1 then hold 2,60,3,cross-fade 0.4,Away"""


def motion_lab(graph: Graph) -> Graph:
    """Sweep quick clips, and continue with the best in single nodes."""
    graph.note(f"""
# Find the right motion before the long run

{EMBEDDED}

1. For your own picture, connect **Load Image** in place of **Sample Picture**.
2. Press **Run**. The progress bar counts over all clips of the grid.
3. **The sheet** shows them with their measured motion, the best in a green frame. The best clip, sampled with all
   steps, is in *output/video*.
""")
    graph.note("""
- **Motion Lab** combines every value of *buckets*, *seeds* and *sigma_max* with all others, so keep the lists short.
  6 to 10 *steps* show how a clip will move.
- *score* decides which clip is best. closest: motion near *wanted_motion*, in per cent of the width per frame. most
  motion: as much as possible without drift. steadiest: the least flicker among clips that move.
- Its outputs *motion*, *seed* and *sigma_max* connect to any other node. Here the single nodes make the same clip
  again, so that you can add a control, other guidance or another schedule. Bypass them if you only want the best
  clip.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    lab = graph.stage("2. Motion lab")
    best = lab.add("SVDReelSweep", model=model["SVD_MODEL"], image=picture["IMAGE"], buckets="40, 127, 220")
    lab.add("PreviewImage", title="The sheet", images=best["sheet"])
    save(lab, graph.name, best["frames"], 7.0)
    plan = graph.stage("3. The best, in single nodes")
    condition = plan.add(
        "SVDReelCondition",
        model=model["SVD_MODEL"],
        image=picture["IMAGE"],
        motion=best["motion"],
        seed=best["seed"],
    )
    sigmas = plan.add("SVDReelSchedule", steps=20, sigma_max=best["sigma_max"])
    make = graph.stage("4. Sample and decode")
    latent = sample(make, model, condition, seed=best["seed"], sigmas=sigmas["SIGMAS"])
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    measure(graph.stage("5. Measures"), frames=frames["IMAGE"], image=picture["IMAGE"])
    return graph


def compare_clips(graph: Graph) -> Graph:
    """Play two clips of one picture and one seed in step."""
    graph.note(f"""
# Two settings, compared in step

{EMBEDDED}

1. Press **Run**. Both clips play in **Compare Clips**; drag the line.
2. Change one widget of **Animate Image (much motion)** and press **Run** again. Only that clip is made again.
3. For your own picture, connect **Load Image** in place of **Sample Picture**.
""")
    graph.note("""
- Both clips have the same seed and differ in *motion_bucket_id* alone, so what you see is the effect of the bucket.
- *view* side by side shows both whole. The button below pauses, the arrows step from frame to frame.
- Compare anything: a clip before and after **Match Clip Colours**, a draft and the final clip, or two models.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    make = graph.stage("2. Two clips")
    clips = [
        make.add(
            "SVDReelAnimate",
            title=f"Animate Image ({name} motion)",
            model=model["SVD_MODEL"],
            image=picture["IMAGE"],
            motion_bucket_id=bucket,
        )
        for name, bucket in (("little", 20), ("much", 220))
    ]
    shown = graph.stage("3. Compare")
    shown.add("SVDReelCompare", first=clips[0]["IMAGE"], second=clips[1]["IMAGE"])
    return graph


def storyboard_animatic(graph: Graph) -> Graph:
    """Make a film from three panels of one image, each with its own camera move."""
    graph.note(f"""
# From a storyboard to a film

{EMBEDDED}
{FIRST_STEPS.replace("the sampler shows", "the node shows")}""")
    graph.note("""
- **Film a Storyboard** reads a table: one row per panel, with any of the columns image, seconds, move, bucket, seed,
  transition, fade, title. Empty cells and missing columns use the widgets.
- *image* is the number of an image in the batch, or a file name in ComfyUI's input folder. Here all three panels show
  image 1. For more images, join them with Batch Images, or write file names. With an empty table, every image of the
  batch is a panel.
- *move* is a camera path in words, as in Camera Path. *transition* is how a panel starts: cut, or cross-fade with its
  seconds. Cross-fades add no time: the film lasts exactly the sum of the seconds.
- Panels longer than the model's clip are sampled in overlapping windows; *longer* offers other methods.
- **The contact sheet** shows every panel with its time. For long films, python -m svd_core storyboard board.csv
  --output film.mp4 writes frame by frame and resumes where it stopped.
""")
    picture, model = load(graph.stage("1. Pictures and model"), None)
    make = graph.stage("2. Film")
    film = make.add("SVDReelStoryboard", model=model["SVD_MODEL"], images=picture["IMAGE"], panels=PANELS)
    finish = graph.stage("3. Sheet and video")
    finish.add("PreviewImage", title="Contact sheet", images=film["sheet"])
    save(finish, graph.name, film["film"], film["fps"])
    return graph
