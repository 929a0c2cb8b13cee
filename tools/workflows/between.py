"""Workflows of clips between given pictures, described; all with the embedded model."""

from .graph import Graph
from .pieces import EMBEDDED, FIRST_STEPS, PICTURE, load, measure, save


def first_and_last_frame(graph: Graph) -> Graph:
    """From one picture to another."""
    graph.note(f"""
# From a first picture to a last one

{EMBEDDED}

1. Choose the first and the last picture in the two **Load Image** nodes; until then both show the same.
2. Press **Run**. While it samples, the sampler shows all frames.
3. The clip appears in **Save Video** and in the folder *output/video*.
""")
    graph.note("""
- The clip begins and ends exactly at your pictures. They should show one scene: the same place a little later, from
  another side, or at another time of day. A last picture of another aspect is cut to that of the first.
- **Set Motion**: if little changes between the pictures use 15 to 24 *fps*, if much changes 7.
- **The middle is blurred or shows both pictures**: try the other *mode*, another seed, or pictures closer together.
- **More than two pictures**: join them with Batch Images and connect the batch to *end_image*; the clip passes
  through all. *return to the first picture* makes a loop of them.
- Each step takes two passes of the model, so it takes twice as long as a free clip.
""")
    pictures = graph.stage("1. Pictures and model")
    first, model = load(pictures, None)
    first.title = "Load Image (first picture)"
    last = pictures.add("LoadImage", title="Load Image (last picture)", image=PICTURE)
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


def seamless_loop(graph: Graph) -> Graph:
    """A picture that moves and returns, as an endless animation."""
    graph.note(f"""
# A picture that moves for ever

{EMBEDDED}
{FIRST_STEPS.replace("Save Video", "Save Animated WEBP").replace("output/video", "output/loop")}""")
    graph.note("""
- **blend** and **take turns** lead the clip back to your picture: things go and return. **roll** takes half the time;
  good for light, water and smoke, but nothing travels, and fewer than 25 steps leave a join.
- **Measure Clip** says under *loop* how the step from the last frame to the first compares with the others: near 1,
  nobody sees it.
- **Too much goes back and forth**: lower *motion_bucket_id*. **Too little moves**: raise it, or try other seeds.
- A loop through several pictures: use Sample between Images with *return to the first picture*.
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
