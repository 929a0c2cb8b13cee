"""Workflows for one kind of film each: product, portrait, square."""

from .graph import Graph
from .pieces import SVD_XT, fold_conditioning, load, sample

WIDTH, HEIGHT = 1024, 576  # of the sample picture

RUN = """
1. Press **Run**.
2. The video appears in **Finish Film** and in the folder *output/video*.
3. For your own picture, connect **Load Image** in place of **Sample Picture**.
"""


def portrait_9_16(graph: Graph) -> Graph:
    """Animate an upright portrait."""
    graph.note(f"""
# An animated portrait, 9:16

Needs one file:

{SVD_XT.line}
{RUN}""")
    graph.note("""
- **Prepare Image** cuts the middle out of the image, 576x1024; *fit* pad keeps all of it. **Finish Film** swaps the
  sizes of its list for upright clips: 1920x1080 becomes 1080x1920.
- A calm motion bucket moves hair and cloth and leaves the face alone. **Nothing moves**: raise *motion_bucket_id*,
  with *preset* at *from the widgets*, or try other seeds. **The face changes**: lower it.
- **Keep Clip Steady** holds the first frame at your image and the colours of the others at the first. Lower guidance
  (2 at the end) keeps skin from burning out.
""")
    picture, model = load(graph.stage("1. Picture and model"), SVD_XT)
    prepare = graph.stage("2. Upright, calm")
    motion = prepare.add("SVDReelMotion", preset="portrait or product", motion_bucket_id=90)
    condition = prepare.add(
        "SVDReelCondition",
        model=model["SVD_MODEL"],
        image=picture["IMAGE"],
        motion=motion["SVD_MOTION"],
        width=576,
        height=1024,
        small={"width": 144, "height": 256},
    )
    steer = graph.stage("3. Mild and steady")
    guidance = steer.add("SVDReelGuidance", low=1.0, high=2.0)
    steady = steer.add("SVDReelSteady", rescale=0.5, first_frame=1.0, colour_anchor=0.2)
    make = graph.stage("4. Sample")
    latent = sample(make, model, condition, guidance=guidance["SVD_GUIDANCE"], control=steady["SVD_CONTROL"])
    graph.stage("5. Film").add(
        "SVDReelFinish",
        latent=latent["LATENT"],
        vae=model["VAE"],
        fps=24.0,
        interpolate=4,
        size="1920x1080",
        fit="crop",
        filename_prefix=f"video/{graph.name}",
        small={"size": "640x360"},
    )
    return graph


def social_square(graph: Graph) -> Graph:
    """Make a square loop."""
    graph.note(f"""
# A square loop for social media

Needs one file:

{SVD_XT.line}
{RUN}""")
    graph.note("""
- The clip is made at 768x768, as many pixels as 1024x576, and ends where it began, so players repeat it without a
  jump. Finish Film also adds frames between the last and the first (*ending* loop) and scales to 1080x1080.
- **Too much moves back and forth**: lower *motion_bucket_id*. **Too little moves**: raise it, or try other seeds.
- **Twice as long**: *ending* ping-pong, for any clip. **For the web**: *quality* 70 makes a third of the size;
  *codec* vp9 writes a webm.
""")
    picture, model = load(graph.stage("1. Picture and model"), SVD_XT)
    make = graph.stage("2. Sample the loop")
    motion = make.add("SVDReelMotion", motion_bucket_id=100)
    latent = make.add(
        "SVDReelLoop",
        model=model["SVD_MODEL"],
        image=picture["IMAGE"],
        motion=motion["SVD_MOTION"],
        width=768,
        height=768,
        small={"width": 0, "height": 0},
    )
    graph.stage("3. Film").add(
        "SVDReelFinish",
        latent=latent["LATENT"],
        vae=model["VAE"],
        fps=30.0,
        interpolate=4,
        size="width and height",
        width=1080,
        height=1080,
        ending="loop",
        filename_prefix=f"video/{graph.name}",
        small={"width": 360, "height": 360},
    )
    return graph


def product_b_roll(graph: Graph) -> Graph:
    """Animate a locked product with a slow dolly and a light sweep."""
    graph.note(f"""
# Product b-roll: locked product, slow dolly, light sweep

Needs one file:

{SVD_XT.line}
{RUN}""")
    graph.note("""
- **The product** comes with the sample picture. For your own: right-click **Load Image**, *Open in MaskEditor*, paint,
  save, and connect its *MASK*.
- **Camera Path** describes the dolly in words: dolly in 0.12 comes an eighth nearer. Try orbit left 8 ease. The
  product stands in front of a plain, so the background moves less than the product.
- **Lock the product** pastes the product of your photograph, moved by the camera, over the clip. Label and logo stay
  as they are, and the model makes everything around them. Bypass the node (Ctrl+B) to let the model make the product
  as well.
- **The light** is a soft bar. *blend_factor* of Light sweep sets its strength. Open **Sweep of Light** to draw its path
  and to change its slant. Keep the bar wide and soft: Finish Film adds frames that follow
  moving objects, and it cannot track light.
""")
    picture, model = load(graph.stage("1. Picture and model"), SVD_XT)
    product = picture["mask"]
    prepare = graph.stage("2. Camera and conditioning")
    path = prepare.add("SVDReelCameraPath", path="dolly in 0.12 ease")
    motion = prepare.add("SVDReelMotion", preset="portrait or product", motion_bucket_id=90)
    condition = prepare.add(
        "SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"], motion=motion["SVD_MOTION"]
    )
    steer = graph.stage("3. Where everything goes")
    control = steer.add(
        "SVDReelCameraControl",
        title="Control Camera: the picture",
        model=model["SVD_MODEL"],
        image=picture["IMAGE"],
        camera=path["SVD_CAMERA"],
        latent=condition["LATENT"],
        foreground=product,
    )
    shape = steer.add("MaskToImage", title="Mask to picture", mask=product)
    moved = steer.add(
        "SVDReelCameraControl",
        title="Control Camera: the mask",
        model=model["SVD_MODEL"],
        image=shape["IMAGE"],
        camera=path["SVD_CAMERA"],
        latent=condition["LATENT"],
        foreground=product,
    )
    make = graph.stage("4. Sample and decode")
    latent = sample(make, model, condition, control=control["SVD_CONTROL"])
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    bar = graph.stage("5. A bar of light", below=True)
    light = bar.add("SolidMask", title="White bar", value=1.0, width=400, height=2 * HEIGHT)
    soft = bar.add("FeatherMask", title="Soft sides", mask=light["MASK"], left=200, right=200)
    dark = bar.add("SolidMask", title="Black ground", value=0.0, width=WIDTH, height=HEIGHT)
    lit = bar.add(
        "MaskComposite", title="The bar", destination=dark["MASK"], source=soft["MASK"], x=0, y=0, operation="add"
    )
    shining = bar.add("MaskToImage", title="Bar to picture", mask=lit["MASK"])
    join = graph.stage("6. Lock and light")
    place = join.add("ImageToMask", title="Where the product is", image=moved["warped"], channel="red")
    locked = join.add(
        "ImageCompositeMasked",
        title="Lock the product",
        destination=frames["IMAGE"],
        source=control["warped"],
        mask=place["MASK"],
    )
    swept = join.add(
        "SVDReelCutAndDrag",
        title="Drag the light",
        model=model["SVD_MODEL"],
        image=shining["IMAGE"],
        mask=lit["MASK"],
        latent=condition["LATENT"],
        path="0.2,0.5; 0.95,0.5",
        rotation="10",
    )
    lit_frames = join.add(
        "ImageBlend",
        title="Light sweep",
        image1=locked["IMAGE"],
        image2=swept["pasted"],
        blend_factor=0.4,
        blend_mode="screen",
    )
    graph.stage("7. Film").add(
        "SVDReelFinish",
        images=lit_frames["IMAGE"],
        fps=24.0,
        interpolate=4,
        size="1920x1080",
        filename_prefix=f"video/{graph.name}",
        small={"size": "640x360"},
    )
    fold_conditioning(graph, motion, condition)
    graph.fold(
        "Where the Product Is",
        "Moves the mask of the product with the camera: a mask for every frame.",
        [shape, moved, place],
    )
    graph.fold(
        "Sweep of Light",
        "A soft bar of light that crosses the image. Open it to draw its path and to change its slant.",
        [light, soft, dark, lit, shining, swept],
    )
    return graph
