"""Workflows that train LoRAs and use them, described; all with the embedded model."""

from .graph import Graph, Node
from .pieces import FIRST_STEPS, load, measure, save

CAMERA_LORA = "nano_pan_left (embedded)"
TRAINING = """
1. Choose your pictures in **Load Image**, or write a folder into *folder* of Set up Training Clips.
2. Press **Run**. A small picture shows what has been learned so far.
3. The clip appears in **Save Video**, the LoRA in *models/loras*; everything else stays in *output/svd_reel_training*.
"""


def lora_camera_move(graph: Graph) -> Graph:
    """A camera LoRA for the embedded model, in both directions."""
    graph.note(f"""
# A LoRA that moves the camera

Nothing to download: model and LoRA are inside the pack. The LoRA was trained on photographs over which a camera pans to
the left, so that what is in the picture goes to the right.
{FIRST_STEPS}""")
    graph.note("""
- The strengths are the dial: both 1 as trained, both -1 to turn the camera round, both 0 for exactly the model without
  it.
- The motion bucket still sets the speed.
- **With your own LoRA** for SVD or SVD-XT: put it into *models/loras*, choose it in Load SVD LoRA, and its model in
  Load SVD Model. Several of these nodes in a row add up.
- Train one yourself with the workflow *train_camera_lora*.
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

Nothing to download: the tiny model inside the pack learns a camera that pans to the left, on a CPU, in some minutes.
{TRAINING}""")
    graph.note("""
- **Set up Training Clips** moves a camera over your pictures at random speeds; the motion bucket tells the speed, so it
  stays a dial. Write another *camera_move*: tilt up, zoom in, roll cw, or several with a comma.
- One picture is enough to see it work; 30 or more make a LoRA that holds for others. Put them into a folder.
- **Cancel** saves. Run again with the same widgets and it goes on.
- **For SVD or SVD-XT** choose it in Load SVD Model and set *steps* to 0 (800): 12 GB at 576x320 and 14 frames.
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

Nothing to download: a clip of your picture, made by the tiny model inside the pack, stands in for footage. Replace it
by your own: 5 to 20 clips of one character, a few seconds each.
{TRAINING}""")
    graph.note("""
- **Your footage**: write the folder of the videos into *folder* of Set up Training Clips, or connect the frames of Load
  Video and Get Video Components to *images*. Scene cuts are found, clips without motion left out, the motion bucket of
  each is measured.
- *targets* both trains look and motion. Load the LoRA with one of its strengths at 0, and you have one without the
  other.
- **For SVD or SVD-XT** choose it in Load SVD Model and set *steps* to 1500.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    footage = graph.stage("2. Footage").add(
        "SVDReelAnimate",
        title="Stands in for footage",
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
        "SVDReelLoadLora", title="Its strengths", model=model["SVD_MODEL"], lora_name="none", lora=trained["SVD_LORA"]
    )
    clip = make.add("SVDReelAnimate", model=used["SVD_MODEL"], image=picture["IMAGE"])
    make.add("SVDReelSaveLora", lora=trained["SVD_LORA"], name="nano_character")
    save(graph.stage("6. Video"), graph.name, clip["IMAGE"], clip["FLOAT"])
    return graph


def _show(graph: Graph, number: int, trained: Node) -> None:
    pages = graph.stage(f"{number}. What was learned")
    pages.add("PreviewImage", title="Loss", images=trained["loss"])
    pages.add("PreviewImage", title="A picture before, meanwhile, after", images=trained["validation"])
