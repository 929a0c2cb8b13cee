"""Workflows of clips between given pictures, all with the embedded model."""

from .graph import Graph
from .pieces import EMBEDDED, FIRST_STEPS, SVD_XT, load, measure, sample_picture, save


def first_and_last_frame(graph: Graph) -> Graph:
    """Sample a clip from one image to another."""
    graph.note(f"""
# From a first image to a last one

{EMBEDDED}

1. Choose the first and the last picture, or connect two **Load Image** nodes. At the start, both show the same picture.
2. Press **Run**. While it samples, the sampler shows all frames.
3. The clip appears in **Save Video** and in the folder *output/video*.
""")
    graph.note("""
- The clip starts and ends exactly at your images. They should show one scene: the same place a little later, from
  another side, or at another time of day. A last image of another aspect ratio is cut to that of the first.
- **Set Motion**: use 15 to 24 *fps* if little changes between the images, 7 if much changes.
- **The middle is blurred or shows both images**: try the other *mode*, another seed, or images that are closer
  together.
- **More than two images**: join them with Batch Images and connect the batch to *end_image*; the clip passes through
  all of them. *return to the first picture* makes a loop.
- Each step takes two model passes, so sampling takes twice as long as usual.
""")
    pictures = graph.stage("1. Pictures and model")
    first, model = load(pictures, None)
    first.title = "The first picture"
    last = sample_picture(pictures, "The last picture")
    make = graph.stage("2. Sample and decode")
    motion = make.add("SVDReelMotion")
    latent = make.add(
        "SVDReelInbetween",
        model=model["SVD_MODEL"],
        image=first["IMAGE"],
        end_image=last["IMAGE"],
        motion=motion["SVD_MOTION"],
    )
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    save(graph.stage("3. Video"), graph.name, frames["IMAGE"], 7.0)
    return graph


def generative_inbetween(graph: Graph) -> Graph:
    """Sample between two images with weights that were trained for it."""
    graph.note(f"""
# From a first image to a last one, with weights trained for it

Needs two files:

{SVD_XT.line}
- *backward_motion.safetensors* in *models/svd*: made once of the unet folder of Generative Inbetweening (linked on
  the page of [svd_keyframe_interpolation](https://github.com/jeanne-wang/svd_keyframe_interpolation)) and svd:
  *python -m svd_core convert unet backward_motion.safetensors --backward-motion svd.safetensors*

Licence: Apache-2.0 for Generative Inbetweening, and that of Stable Video Diffusion, which limits commercial use.

1. Choose the first and the last picture, or connect two **Load Image** nodes.
2. Press **Run**. Each step runs the model twice.
""")
    graph.note("""
- The images should show one scene, such as two moments of a moving subject.
- **As published**: *repeats* 5 in Sample between Images, for 3.5 times the time.
- Without the weights, *mode* match or blend does with what SVD knows: the workflow *first_and_last_frame*.
""")
    pictures = graph.stage("1. Pictures and model")
    first, model = load(pictures, SVD_XT)
    first.title = "The first picture"
    last = sample_picture(pictures, "The last picture")
    weights = pictures.add(
        "SVDReelLoadBetweenWeights", without="mute", made=True, model=model["SVD_MODEL"],
        file="backward_motion.safetensors",
    )  # fmt: skip
    make = graph.stage("2. Sample and decode")
    motion = make.add("SVDReelMotion")
    latent = make.add(
        "SVDReelInbetween",
        small={"mode": "match"},
        model=model["SVD_MODEL"],
        image=first["IMAGE"],
        end_image=last["IMAGE"],
        motion=motion["SVD_MOTION"],
        mode="fine-tuned",
        between_weights=weights["SVD_BETWEEN_WEIGHTS"],
    )
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    save(graph.stage("3. Video"), graph.name, frames["IMAGE"], 7.0)
    return graph


def seamless_loop(graph: Graph) -> Graph:
    """Make an endless animation of one image."""
    graph.note(f"""
# An image that moves in an endless loop

{EMBEDDED}
{FIRST_STEPS.replace("Save Video", "Save Animated WEBP").replace("output/video", "output/loop")}""")
    graph.note("""
- **blend** and **take turns** lead the clip back to your image: things move and return. **roll** takes half the time.
  It is good for light, water and smoke, but nothing travels, and fewer than 25 steps leave a visible join.
- **Measure Clip** reports under *loop* how the step from the last frame to the first compares with the others. Near
  1, nobody sees it.
- **Too much moves back and forth**: lower *motion_bucket_id*. **Too little moves**: raise it, or try other seeds.
- For a loop through several images, use Sample between Images with *return to the first picture*.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    make = graph.stage("2. Sample and decode")
    motion = make.add("SVDReelMotion")
    latent = make.add("SVDReelLoop", model=model["SVD_MODEL"], image=picture["IMAGE"], motion=motion["SVD_MOTION"])
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    finish = graph.stage("3. Animation and measures")
    finish.add(
        "SaveAnimatedWEBP",
        title="Save Animated WEBP",
        images=frames["IMAGE"],
        fps=7.0,
        lossless=False,
        quality=90,
        filename_prefix=f"loop/{graph.name}",
    )
    measure(finish, frames=frames["IMAGE"], image=picture["IMAGE"])
    return graph
