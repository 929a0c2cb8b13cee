"""Workflows of the motion lab and the storyboard, described; both with the embedded model."""

from .graph import Graph
from .pieces import EMBEDDED, FIRST_STEPS, load, measure, sample, save

PANELS = """image,seconds,move,bucket,seed,transition,title
1,1.2,zoom in 1.15 ease,40,1,cut,Closer
1,1.2,pan right 0.12 ease,20,2,cross-fade 0.4,Along
1,1.6,zoom out 1.1 then hold 2,60,3,cross-fade 0.4,Away"""


def motion_lab(graph: Graph) -> Graph:
    """A grid of quick clips, the best of which is made whole and goes on into single nodes."""
    graph.note(f"""
# Find the motion before you wait for it

{EMBEDDED}

1. Choose your picture in **Load Image**.
2. Press **Run**. The bar counts over all clips of the grid.
3. **The sheet** shows them with their measured motion, the best in a green frame. In *output/video* is the best with
   all steps.
""")
    graph.note("""
- **Motion Lab**: every value of *buckets*, *seeds* and *sigma_max* is tried with each of the others, so keep the lists
  short. 6 to 10 *steps* show how a clip will move.
- *score* says what is best. closest: motion near *wanted_motion*, in per cent of the width a frame. most motion: as
  much as there is without drift. steadiest: the least flicker of those that move.
- Its outputs *motion*, *seed* and *sigma_max* wire into any other node. Here the single nodes make the same clip again:
  the place to add a control, other guidance or another schedule. Bypass them if the best clip is all you want.
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


def storyboard_animatic(graph: Graph) -> Graph:
    """Three panels of one picture, each with its own move, as one film."""
    graph.note(f"""
# A storyboard becomes a film

{EMBEDDED}
{FIRST_STEPS.replace("the sampler shows", "the node shows")}""")
    graph.note("""
- **Film a Storyboard** reads a table: a row for each panel, with any of the columns image, seconds, move, bucket, seed,
  transition, fade, title. What a row leaves open comes from the widgets.
- *image* is the number of a picture in the batch, or a file name in ComfyUI's input folder. Here all three panels show
  picture 1. For more pictures join them with Batch Images, or write file names. With an empty table every picture of
  the batch is a panel.
- *move* is a camera path in words, as in Camera Path. *transition* is how a panel begins: cut, or cross-fade with its
  seconds. Cross-fades take no time: the film lasts exactly the sum of the seconds.
- Panels longer than the model's clip are made in overlapping windows; *longer* has other ways.
- **The contact sheet** shows every panel with its time. Long films: python -m svd_core storyboard board.csv --output
  film.mp4 writes to the file frame by frame and goes on where it was stopped.
""")
    picture, model = load(graph.stage("1. Pictures and model"), None)
    make = graph.stage("2. Film")
    film = make.add("SVDReelStoryboard", model=model["SVD_MODEL"], images=picture["IMAGE"], panels=PANELS)
    finish = graph.stage("3. Sheet and video")
    finish.add("PreviewImage", title="Contact sheet", images=film["sheet"])
    save(finish, graph.name, film["film"], film["fps"])
    return graph
