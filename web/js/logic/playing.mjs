// Arithmetic of clips that play.

/** Return the frame that is shown at a time in seconds. */
export const frameAt = (time, fps, frames) => Math.min(frames - 1, Math.max(0, Math.floor(time * fps + 1e-6)))

/** Return the seconds between two places of a clip that repeats; 0 where its duration is not known yet. */
export function apart(a, b, duration) {
  const between = Math.abs(a - b)
  return Number.isFinite(duration) ? Math.min(between, Math.abs(duration - between)) : 0
}

/** Return where x lies in a box, 0 at its left and 1 at its right edge. */
export const shareAt = (x, { left, width }) => Math.min(1, Math.max(0, (x - left) / (width || 1)))
