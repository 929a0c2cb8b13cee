"""Workflows for little memory."""

from .graph import Graph
from .pieces import FIRST_STEPS, SVD_XT, load, sample, save


def low_vram_8gb(graph: Graph) -> Graph:
    """SVD-XT at full size on a card of 8 GB, with the plan in front."""
    graph.note(f"""
# SVD-XT at 1024x576 on a card of 8 GB

Needs one file:

{SVD_XT.line}
{FIRST_STEPS}""")
    graph.note("""
- **Plan Memory and Time** shows before the run what every stage needs and about how long it takes. Choose your card
  in *memory*: 6 to 24 GB, or *measured* for what is free now.
- Sampling and decoding follow the plan. The clip is the same with every choice.
- If memory still runs out, they continue in smaller chunks automatically, and the log says so.
""")
    picture, model = load(graph.stage("1. Picture and model"), SVD_XT)
    planning = graph.stage("2. Plan")
    plan = planning.add("SVDReelPlan", model=model["SVD_MODEL"], memory="8 GB")
    planning.add("PreviewImage", title="What it needs", images=plan["IMAGE"])
    condition = graph.stage("3. Conditioning").add("SVDReelCondition", model=model["SVD_MODEL"], image=picture["IMAGE"])
    make = graph.stage("4. Sample and decode")
    latent = sample(make, model, condition, plan=plan["SVD_PLAN"])
    frames = make.add("SVDReelDecode", vae=model["VAE"], latent=latent["LATENT"], plan=plan["SVD_PLAN"])
    save(graph.stage("5. Video"), graph.name, frames["IMAGE"], 7.0)
    return graph
