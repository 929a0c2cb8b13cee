// Pictures drawn through homographies on a 2-D canvas, by triangles where the view is not parallel to the picture.

import { project } from '../logic/camera.mjs'

const COLUMNS = 10

/** Draw a picture as a frame of w x h pixels at (x, y) shows it. plane: homography in picture widths from the centre. */
export function drawWarped(context, picture, plane, x, y, w, h) {
  context.save()
  context.beginPath()
  context.rect(x, y, w, h)
  context.clip()
  context.translate(x + w / 2, y + h / 2)
  const [, , [gx, gy, gz]] = plane
  if (Math.abs(gx) + Math.abs(gy) < 1e-4 * Math.abs(gz)) {
    const [[a, c, e], [b, d, f]] = plane.map(row => row.map(value => value / gz))
    context.transform(a, b, c, d, e * w, f * w)
    context.drawImage(
      picture,
      -w / 2,
      (-w / 2) * (picture.height / picture.width),
      w,
      w * (picture.height / picture.width),
    )
  } else drawMesh(context, picture, plane, w)
  context.restore()
}

function drawMesh(context, picture, plane, w) {
  const ratio = picture.height / picture.width,
    rows = Math.max(2, Math.round(COLUMNS * ratio))
  const at = (i, j) => project(plane, i / COLUMNS - 0.5, (j / rows - 0.5) * ratio)?.map(value => value * w)
  for (let i = 0; i < COLUMNS; i++)
    for (let j = 0; j < rows; j++) {
      const [a, b, c, d] = [at(i, j), at(i + 1, j), at(i, j + 1), at(i + 1, j + 1)]
      const [sx, sy, sw, sh] = [
        (i / COLUMNS) * picture.width,
        (j / rows) * picture.height,
        picture.width / COLUMNS,
        picture.height / rows,
      ]
      if (a && b && c) drawTriangle(context, picture, a, b, c, sx, sy, sw, sh)
      if (d && c && b) drawTriangle(context, picture, d, c, b, sx + sw, sy + sh, -sw, -sh)
    }
}

/** Draw half a cell: its corner `a` at (sx, sy) of the picture, `b` one side sw further, `c` one side sh further. */
function drawTriangle(context, picture, a, b, c, sx, sy, sw, sh) {
  const middle = [(a[0] + b[0] + c[0]) / 3, (a[1] + b[1] + c[1]) / 3]
  const wide = point => {
    // covers the seam to the neighbours
    const [dx, dy] = [point[0] - middle[0], point[1] - middle[1]],
      length = Math.hypot(dx, dy) || 1
    return [point[0] + dx / length, point[1] + dy / length]
  }
  context.save()
  context.beginPath()
  for (const [k, point] of [a, b, c].map(wide).entries()) context[k ? 'lineTo' : 'moveTo'](...point)
  context.clip()
  const [ux, uy, vx, vy] = [(b[0] - a[0]) / sw, (b[1] - a[1]) / sw, (c[0] - a[0]) / sh, (c[1] - a[1]) / sh]
  context.transform(ux, uy, vx, vy, a[0] - ux * sx - vx * sy, a[1] - uy * sx - vy * sy)
  context.drawImage(picture, 0, 0)
  context.restore()
}
