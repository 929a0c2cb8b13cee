"""Workflows that train and use LoRAs, all with the embedded model."""

from .graph import Graph
from .node import Node
from .pieces import FIRST_STEPS, load, measure, save

CAMERA_LORA = "nano_pan_left (embedded)"
TRAINING = """
1. Connect your image by **Load Image** in place of **Sample Picture**, or write a folder into *folder* of Set up
   Training Clips.
2. Press **Run**. A small picture shows what has been learned so far.
3. The clip appears in **Save Video**, the LoRA in *models/loras*, everything else in *output/svd_reel_training*.
"""


def lora_camera_move(graph: Graph) -> Graph:
    """A camera LoRA for the embedded model, in both directions."""
    graph.note(f"""
# A LoRA that moves the camera

Nothing to download: model and LoRA are inside the pack. The LoRA was trained on photographs over which a camera pans
to the left, so the content moves to the right.
{FIRST_STEPS}""")
    graph.note("""
- The two strengths control the move: both 1 as trained, both -1 to reverse the camera, both 0 for exactly the model
  without it.
- The motion bucket still sets the speed.
- **With your own LoRA** for SVD or SVD-XT: put it into *models/loras*, choose it in Load SVD LoRA, and choose its
  model in Load SVD Model. Chain several of these nodes to add several LoRAs.
- Train your own with the workflow *train_camera_lora*.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    style = graph.stage("2. LoRA, both ways")
    left = style.add("SVDReelLoadLora", title="Camera to the left", model=model["SVD_MODEL"], lora_name=CAMERA_LORA)
    right = style.add(
        "SVDReelLoadLora",
        title="Camera to the right",
        model=model["SVD_MODEL"],
        lora_name=CAMERA_LORA,
        strength=-1.0,  # this LoRA changes both kinds of layers
        temporal_strength=-1.0,
    )
    make = graph.stage("3. Animate")
    clips = [
        make.add("SVDReelAnimate", title=title, model=way["SVD_MODEL"], image=picture["IMAGE"])
        for title, way in (("Clip to the left", left), ("Clip to the right", right))
    ]
    measure(
        graph.stage("4. Measure"), frames=clips[0]["IMAGE"], image=picture["IMAGE"], title="Report of the first clip"
    )
    finish = graph.stage("5. Save")
    save(finish, graph.name, clips[0]["IMAGE"], clips[0]["FLOAT"])
    save(finish, f"{graph.name}_right", clips[1]["IMAGE"], clips[1]["FLOAT"])
    return graph


def train_camera_lora(graph: Graph) -> Graph:
    """A camera move learned from photographs."""
    graph.note(f"""
# Train a camera move from photographs

Nothing to download: the tiny model inside the pack learns a camera that pans to the left, on a CPU, within minutes.
{TRAINING}""")
    graph.note("""
- **Set up Training Clips** moves a camera over your images at random speeds. Each clip is labelled with its speed as
  motion bucket, so the bucket still controls speed. Try another *camera_move*: tilt up, zoom in, roll cw, or several
  separated by commas.
- One image is enough to see it work. A LoRA that works on other images needs 30 or more; put them into a folder.
- **Cancel** saves the state. Run again with the same widgets to continue.
- **For SVD or SVD-XT**, choose it in Load SVD Model and set *steps* to 0 (800): 12 GB at 576x320 and 14 frames.
- *steps* is 120 here, to be quick; 300 are better.
""")
    picture, model = load(graph.stage("1. Pictures and model"), None)
    learn = graph.stage("2. Clips and training")
    clips = learn.add("SVDReelTrainingSet", images=picture["IMAGE"], camera_move="pan left", clips_per_picture=24)
    trained = learn.add("SVDReelTrainLora", model=model["SVD_MODEL"], training_set=clips["SVD_TRAINING_SET"], steps=120)
    _show(graph, 3, trained)
    make = graph.stage("4. Use it at once")
    clip = make.add("SVDReelAnimate", model=trained["SVD_MODEL"], image=picture["IMAGE"])
    make.add("SVDReelSaveLora", lora=trained["SVD_LORA"], name="nano_pan_left")
    save(graph.stage("5. Video"), graph.name, clip["IMAGE"], clip["FLOAT"])
    return graph


def train_character_lora(graph: Graph) -> Graph:
    """A character, or any subject, learned from clips."""
    graph.note(f"""
# Train a character from a few short clips

Nothing to download: the footage here is a clip of your image, made by the tiny model inside the pack. Replace it with
your own: 5 to 20 clips of one character, a few seconds each.
{TRAINING}""")
    graph.note("""
- **Your footage**: write the folder of the videos into *folder* of Set up Training Clips, or connect the frames of
  Load Video and Get Video Components to *images*. Scene cuts are detected, clips without motion are left out, and the
  motion bucket of each clip is measured.
- *targets* both trains look and motion. Load the LoRA with one of its strengths at 0 to use only the other.
- **For SVD or SVD-XT**, choose it in Load SVD Model and set *steps* to 1500.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    footage = graph.stage("2. Footage").add(
        "SVDReelAnimate",
        title="Placeholder footage",
        model=model["SVD_MODEL"],
        image=picture["IMAGE"],
        motion_bucket_id=200,
    )
    learn = graph.stage("3. Clips and training")
    clips = learn.add("SVDReelTrainingSet", images=footage["IMAGE"], images_fps=7.0, least_motion=0.0)
    trained = learn.add(
        "SVDReelTrainLora",
        model=model["SVD_MODEL"],
        training_set=clips["SVD_TRAINING_SET"],
        steps=60,
        targets="both",
        picture=picture["IMAGE"],
    )
    _show(graph, 4, trained)
    make = graph.stage("5. Use it at once")
    used = make.add(
        "SVDReelLoadLora", title="LoRA strengths", model=model["SVD_MODEL"], lora_name="none", lora=trained["SVD_LORA"]
    )
    clip = make.add("SVDReelAnimate", model=used["SVD_MODEL"], image=picture["IMAGE"])
    make.add("SVDReelSaveLora", lora=trained["SVD_LORA"], name="nano_character")
    save(graph.stage("6. Video"), graph.name, clip["IMAGE"], clip["FLOAT"])
    return graph


def _show(graph: Graph, number: int, trained: Node) -> None:
    pages = graph.stage(f"{number}. What was learned")
    pages.add("PreviewImage", title="Loss", images=trained["loss"])
    pages.add("PreviewImage", title="Validation: before, during, after", images=trained["validation"])
