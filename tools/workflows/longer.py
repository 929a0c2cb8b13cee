"""Workflows of clips longer than the model's own, all with the embedded model."""

from .graph import Graph
from .pieces import FIRST_STEPS, load, measure, sample, save


def longer_clip(graph: Graph) -> Graph:
    """Extend a clip to five seconds."""
    graph.note(f"""
# Five seconds: extend a clip

Nothing to download: the clip is made by the tiny model inside the pack, in a minute or two. For real results, choose
SVD-XT in Load SVD Model, and see below.
{FIRST_STEPS}""")
    graph.note("""
- **Extend SVD Clip** samples further chunks. Each starts from a frame near the end of the clip so far and is held to
  the frames after it. No frame is repeated, and the existing frames stay as they were.
- nano makes 8 frames; with 3 shared, 27 new ones are six chunks. 35 frames at 7 fps are 5 seconds.
- **With SVD-XT**: *overlap* 6 and *new_frames* 19, one chunk; 44 frames at 9 fps are 5 seconds. **With SVD**:
  *overlap* 4 and *new_frames* 20, two chunks; 34 frames at 7 fps.
- **Colours drift**: raise *colour_lock*. **The subject changes**: raise *anchor*. **A jerk at a join**: raise
  *overlap*, or *repeats* to 2.
- Details fade from chunk to chunk. The published models show it after three or four chunks, the tiny one sooner.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    first = graph.stage("2. The first clip")
    condition = first.add("SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"])
    told = {"positive": condition["positive"], "negative": condition["negative"]}
    clip = first.add("SVDReelSampler", model=model["SVD_MODEL"], latent=condition["LATENT"], **told)
    more = graph.stage("3. What follows")
    longer = more.add(
        "SVDReelExtend", model=model["SVD_MODEL"], latent=clip["LATENT"], new_frames=27, overlap=3, **told
    )
    frames = more.add("SVDReelDecode", vae=model["VAE"], latent=longer["LATENT"])
    finish = graph.stage("4. Video and measures")
    save(finish, graph.name, frames["IMAGE"], 7.0)
    measure(finish, frames=frames["IMAGE"], image=picture["IMAGE"], title="Report: drift and joins")
    return graph


def longer_clip_15_seconds(graph: Graph) -> Graph:
    """Sample fifteen seconds in one run, in windows."""
    graph.note(f"""
# Fifteen seconds in one run

Nothing to download: the clip is made by the tiny model inside the pack, in a few minutes. For real results, choose
SVD-XT in Load SVD Model; everything else follows.
{FIRST_STEPS}""")
    graph.note("""
- **Prepare Image for SVD** is set to 105 frames: 15 seconds at 7 fps.
- **Denoise in Windows** gives the model as many frames at once as it was trained on, and blends the windows. It needs
  the memory of one window. Time grows with the number of windows; the log shows both.
- Every window stays close to your image, so this suits water, clouds, fire, hair and crowds. To get away from it, set
  *rolling* to 5 or 20, or use the workflow *longer_clip*.
- Guidance is the same in all frames, because rising guidance would burn the end of such a long clip. 1 is right for
  nano; for SVD and SVD-XT set *high* to 2.
- **For a loop**, set *ends* to *closed loop*.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    prepare = graph.stage("2. Conditioning and windows")
    condition = prepare.add("SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"], frames=105)
    windows = prepare.add("SVDReelWindows", model=model["SVD_MODEL"], latent=condition["LATENT"])
    make = graph.stage("3. Sample and decode")
    guidance = make.add("SVDReelGuidance", shape="constant", low=1.0, high=1.0)
    latent = sample(make, model, condition, guidance=guidance["SVD_GUIDANCE"], control=windows["SVD_CONTROL"])
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    save(graph.stage("4. Video"), graph.name, frames["IMAGE"], 7.0)
    return graph
