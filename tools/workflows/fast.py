"""Workflows that take fewer or cheaper steps."""

from .graph import Graph
from .pieces import FIRST_STEPS, NANO, SVD_XT, Weights, load, sample, sample_picture, save

ANIMATELCM = Weights("AnimateLCM-SVD-xt.safetensors", "checkpoints", "wangfuyun/AnimateLCM-SVD-xt/resolve/main")


def animatelcm_few_steps(graph: Graph) -> Graph:
    """AnimateLCM-SVD: 25 frames in 4 steps."""
    graph.note(f"""
# AnimateLCM: 25 frames in 4 steps

Needs two files, because the first contains only the video network:

{ANIMATELCM.line}
{SVD_XT.line}
{FIRST_STEPS}""")
    graph.note("""
- **Load SVD Model** loads the network from AnimateLCM, and the image encoder and VAE from SVD-XT (*complete_from*).
- The schedule *lcm* and the solver *lcm* belong together and only suit this model. The solver adds fresh noise after
  each step; it depends on the seed, so a clip can be repeated.
- **4 steps** are the author's choice; 1 to 8 are useful. More steps give more detail.
- **Guidance 1 to 1.2**. With 1 at both ends, each step takes half the time.
- 4 steps of two passes are 8 passes, compared with 60 for SVD-XT with 30 steps. Motion is softer.
- **No download available?** Choose nano in Load SVD Model and *none* in *complete_from*. nano was not trained for so
  few steps, so its clip is rough; the picture of this workflow was made that way.
""")
    first = graph.stage("1. Picture and model")
    picture = sample_picture(first)
    model = first.add(
        "SVDReelLoadModel",
        model_name=ANIMATELCM.name,
        complete_from=SVD_XT.name,
        models=[*ANIMATELCM.models, *SVD_XT.models],
        small={"model_name": NANO, "complete_from": "none"},
    )
    prepare = graph.stage("2. Motion and conditioning")
    motion = prepare.add("SVDReelMotion", preset="AnimateLCM")
    condition = prepare.add(
        "SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"], motion=motion["SVD_MOTION"]
    )
    plan = graph.stage("3. Four steps")
    sigmas = plan.add("SVDReelSchedule", kind="lcm", steps=4)
    guidance = plan.add("SVDReelGuidance", low=1.0, high=1.2)
    make = graph.stage("4. Sample and decode")
    told = {"guidance": guidance["SVD_GUIDANCE"], "sigmas": sigmas["SIGMAS"]}
    latent = sample(make, model, condition, solver="lcm", **told)
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    save(graph.stage("5. Video"), graph.name, frames["IMAGE"], 7.0)
    return graph


def fast_draft(graph: Graph) -> Graph:
    """Everything that saves time with the released weights, in one graph."""
    graph.note(f"""
# Fast drafts with the released weights

Nothing to download: the clip is made by the tiny model inside the pack. For real results, choose SVD-XT in Load SVD
Model; everything else follows.
{FIRST_STEPS}""")
    graph.note("""
A draft of SVD-XT takes about a seventh of the work of 30 steps. Each part can be removed separately:

- **Make Noise Schedule**: *align_your_steps* was made for 10 steps of SVD; 8 to 12 are useful.
- **Sample SVD Clip**: *dpmpp_2m* is more exact than *euler* in few steps, at the same cost.
- **Shape Guidance**: guidance is only active between the noise levels 0.3 and 50. Outside, each step skips the second
  pass.
- **Reuse Features**: every other step reuses the inner features of the step before. Set *interval* to 1 for exact
  steps.

When you like the draft, remove Reuse Features, set *karras*, 25 steps and *euler*, and keep the seed. The motion
stays similar, but not identical.
""")
    picture, model = load(graph.stage("1. Picture and model"), None)
    condition = graph.stage("2. Conditioning").add("SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"])
    plan = graph.stage("3. Fewer and cheaper steps")
    sigmas = plan.add("SVDReelSchedule", kind="align_your_steps", steps=10)
    guidance = plan.add("SVDReelGuidance", low=1.0, high=2.0, sigma_low=0.3, sigma_high=50.0)
    reuse = plan.add("SVDReelReuseFeatures")
    make = graph.stage("4. Sample and decode")
    told = {"guidance": guidance["SVD_GUIDANCE"], "sigmas": sigmas["SIGMAS"], "control": reuse["SVD_CONTROL"]}
    latent = sample(make, model, condition, solver="dpmpp_2m", **told)
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"])
    save(graph.stage("5. Video"), graph.name, frames["IMAGE"], 7.0)
    return graph
