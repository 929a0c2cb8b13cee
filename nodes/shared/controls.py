"""The value of the SVD_CONTROL socket: a chain of controls in the order in which the sampler applies them."""

import logging
from dataclasses import dataclass

from ...svd_core.controls.amount import MotionCurves
from ...svd_core.controls.signal import imposes_motion
from ...svd_core.sampling.controls import Control

log = logging.getLogger("svd_reel")


@dataclass(frozen=True, eq=False)
class ControlChain:
    """Controls of chained nodes: one link per node, with one control for all clips or one for each clip."""

    links: tuple[tuple[Control, ...], ...] = ()

    def then(self, controls: list[Control]) -> "ControlChain":
        """Return this chain with one more link."""
        return ControlChain((*self.links, tuple(controls)))

    def imposing(self, controls: list[Control], bucket: float) -> "ControlChain":
        """Return this chain with controls that impose a signal, at a motion bucket; below 0 the bucket stays.

        A bucket curve that is in the chain already stays too.
        """
        if any(imposes_motion(link) for link in self.links):
            log.warning(
                "two nodes impose motion on one clip, and the last one sets its start; to combine a camera with "
                "dragged objects, connect the camera to Cut and Drag"
            )
        curved = any(isinstance(control, MotionCurves) and control.bucket for link in self.links for control in link)
        chain = self.then(controls)
        if bucket < 0 or curved or not imposes_motion(controls):
            return chain
        return chain.then([MotionCurves(bucket=((0.0, float(bucket)),))])

    @property
    def closed(self) -> bool:
        """Whether a control closes the clip into a loop."""
        return any(control.closed for link in self.links for control in link if control.active)

    def finishing(self, clips: int) -> tuple[tuple[Control, ...], ...]:
        """Return, for each of `clips` clips, the controls that also edit the decoded frames."""
        found = ([c for c in self.of_clip(clip, clips) if c.active and c.edits_frames] for clip in range(clips))
        rows = tuple(tuple(row) for row in found)
        return rows if any(rows) else ()

    def of_clip(self, clip: int, clips: int) -> tuple[Control, ...]:
        """Return the controls of clip number `clip`, counted from 0, of `clips`."""
        for link in self.links:
            if len(link) not in (1, clips):
                raise ValueError(
                    f"a control was made for {len(link)} clips, but the latent has {clips}; connect the latent that "
                    "the control was made with"
                )
        return tuple(link[clip % len(link)] for link in self.links)
