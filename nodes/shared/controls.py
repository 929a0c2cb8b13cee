"""What travels on the SVD_CONTROL socket: controls in the order in which the sampler asks them."""

from dataclasses import dataclass

from ...svd_core.sampling.controls import Control


@dataclass(frozen=True, eq=False)
class ControlChain:
    """One link per control node; a link has one control for every clip, or one for each clip of a batch."""

    links: tuple[tuple[Control, ...], ...] = ()

    def then(self, controls: list[Control]) -> "ControlChain":
        """This chain with one more link."""
        return ControlChain((*self.links, tuple(controls)))

    def frames_at_once(self, frames: int) -> int:
        """How many frames of a clip of `frames` the model sees at once with these controls."""
        return min([frames, *(control.frames_at_once(frames) for link in self.links for control in link)])

    @property
    def features_depth(self) -> int:
        """Pairs of blocks outside the features that controls keep from step to step; 0 where none do."""
        return max((c.features_depth for link in self.links for c in link), default=0)

    @property
    def closed(self) -> bool:
        """Whether a control makes the last frame lead to the first."""
        return any(control.closed for link in self.links for control in link if control.active)

    def finishing(self, clips: int) -> tuple[tuple[Control, ...], ...]:
        """The controls of each of so many clips that still have something to do in the decoded frames."""
        found = ([c for c in self.of_clip(clip, clips) if c.active and c.edits_frames] for clip in range(clips))
        rows = tuple(tuple(row) for row in found)
        return rows if any(rows) else ()

    def of_clip(self, clip: int, clips: int) -> tuple[Control, ...]:
        """The controls of clip number `clip`, counted from 0, of so many."""
        for link in self.links:
            if len(link) not in (1, clips):
                raise ValueError(
                    f"a control is for {len(link)} clips, the latent holds {clips}; connect the latent that the "
                    "control was made with"
                )
        return tuple(link[clip % len(link)] for link in self.links)
