"""Workflows of SV3D: an object turned around."""

from .graph import Graph
from .pieces import PICTURE, Weights, load_model, save

SV3D_P = Weights("sv3d_p.safetensors", "checkpoints", "stabilityai/sv3d/resolve/main")


def turntable_sv3d(graph: Graph) -> Graph:
    """21 views of an object, their masks and angles."""
    graph.note(f"""
# A turntable of an object with SV3D

Needs one file (accept the terms on its page first):

{SV3D_P.line}

Licence: Stability AI Community License; it limits commercial use, so read it before you sell results.

1. Choose a picture of **one object** in **Load Image**: transparent, or on white. For any other ground, connect the
   mask of a background-removal node to *mask* of **Prepare Object for SV3D**.
2. Press **Run**. 50 steps make 21 views of 576x576.
3. The turntable appears in **Save Video** and loops without a seam.
""")
    graph.note("""
- View 1 is 17 degrees on, view 21 is the picture itself. Connect ComfyUI's
  *Preview as Text* to *angles* to read all angles.
- **elevation** is the height from which the picture was taken, in degrees. A wrong value bends the object.
- **From above**: *elevation_start* 45 in Orbit Object moves the camera down during the turn.
- **A draft**: *steps* 20. **The orbit cuts the object off**: *object_ratio* 0.7.
- *frames*, *mask* and *angles* belong together: pass them on to a 3D reconstruction.
- sv3d_u works as well; it takes no angles.
""")
    start = graph.stage("1. Picture and model")
    picture = start.add("LoadImage", title="Load Image (your object)", image=PICTURE)
    model = load_model(start, SV3D_P, without="mute")
    ready = graph.stage("2. Object")
    prepared = ready.add("SVDReelPrepareObject", image=picture["IMAGE"])
    ready.add("PreviewImage", title="What SV3D sees", images=prepared["image"])
    turn = graph.stage("3. Orbit")
    orbit = turn.add("SVDReelOrbit", without="mute", model=model["SVD_MODEL"], image=prepared["image"], prepared=True)
    video = graph.stage("4. Video and masks")
    save(video, graph.name, orbit["frames"], orbit["fps"], without="mute")
    video.add("MaskPreview", title="The object in every view", without="mute", mask=orbit["mask"])
    return graph
