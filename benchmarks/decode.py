"""How fast is the exact decode of a clip and how much memory does it need, compared with diffusers and ComfyUI?"""

import json
import sys

import torch

from . import rss
from .options import Setting, parser, setting
from .results import Report
from .side_by_side import COLUMNS, compare
from .subjects import decode_case, decoder_of

CPU, GPU = ("real", "8x128x192"), ("real", "25x576x1024")


def run(chosen: Setting) -> Report:
    """Decode all frames together in every implementation, because chunks give other pictures."""
    size = "x".join(map(str, chosen.clip))
    report = chosen.report("decode", f"Decode: {size}, {chosen.scale} width, {chosen.dtype}, exact", COLUMNS)
    model = decoder_of(chosen)
    compare(
        report,
        chosen,
        lambda name: decode_case(name, model, chosen),
        lambda name: ["decode", "--child", name, *chosen.words()],
    )
    return report


@torch.no_grad()
def main() -> None:
    """Print the peak memory of one implementation as JSON; runs in a child process."""
    made = parser(__doc__)
    made.add_argument("--child", required=True)
    given = made.parse_args()
    chosen = setting(given, "decode", CPU, GPU)
    model = decoder_of(chosen)
    for parameter in model.vae.parameters():
        parameter.sum()  # a mapped file is resident only after it is read
    case = decode_case(given.child, model, chosen)
    print(json.dumps({"bytes": rss.over_start(case, chosen.device)}))


if __name__ == "__main__":
    sys.exit(main())
