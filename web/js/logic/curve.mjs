// Curves over a clip as in nodes/motion_amount.py ("0:60, 0.5:180, 1:127") and lists of numbers ("1, 2.5, 1").

const short = (value, digits = 3) => String(Number(value.toFixed(digits)) || 0)

/** Return points [position, value], evenly spread where the text has no positions; throws for other texts. */
export function parseCurve(text) {
  const words = text.replaceAll(',', ' ').split(/\s+/).filter(Boolean)
  const colons = words.filter(word => word.includes(':')).length
  if (colons && colons < words.length) throw new Error('write a position for every value, or for none')
  return words.map((word, k) => {
    const place = word.lastIndexOf(':')
    const point =
      place < 0
        ? [k / Math.max(words.length - 1, 1), Number(word)]
        : [Number(word.slice(0, place)), Number(word.slice(place + 1))]
    if (!point.every(Number.isFinite) || word.endsWith(':') || word.startsWith(':'))
      throw new Error(`"${word}" is not a point; write 0.5:180`)
    return point
  })
}

/** Return the text of points with their positions. */
export const formatCurve = (points, digits = 1) => points.map(([x, y]) => `${short(x)}:${short(y, digits)}`).join(', ')

/** Return the text of the values alone, for lists whose points are evenly spread. */
export const formatList = (values, digits = 2) => values.map(value => short(value, digits)).join(', ')

/** Return the value at `position`: linear between points, the nearest one outside. */
export function valueAt(points, position) {
  const right = points.findIndex(([x]) => x >= position)
  if (right <= 0) return points[right < 0 ? points.length - 1 : 0][1]
  const [[x0, y0], [x1, y1]] = [points[right - 1], points[right]]
  return y0 + ((y1 - y0) * (position - x0)) / (x1 - x0)
}

/** Return the points of a CURVE of the host, or of a plain list. */
export const curvePoints = curve =>
  (Array.isArray(curve) ? curve : (curve?.points ?? [])).map(([x, y]) => [Number(x), Number(y)])

/** Return guidance scales as svd_core.sampling.guidance does: shape from `low` to `high` at t in 0..1. */
export function guidanceAt(shape, low, high, t) {
  const rise = high - low
  if (shape === 'constant') return high
  if (shape === 'triangle') return low + rise * 2 * Math.abs(t - Math.floor(t + 0.5))
  if (shape === 'cosine') return low + (rise * (1 - Math.cos(Math.PI * t))) / 2
  if (shape === 'trapezoid') return low + rise * Math.min(1, 10 * Math.min(t, 1 - t))
  return low + rise * t
}
