// A drawn widget over the picture of a node, and masks painted on it.

import { button, isLinked, make } from '../host.mjs'
import { drawStrokes, simplified } from '../logic/strokes.mjs'
import { DrawnEditor } from './drawn_editor.mjs'
import { UpstreamPicture } from './picture.mjs'

const MASK_SIDE = 384 // pixels of the longer side of masks on the screen

/** Shows the picture in the middle; places are shares of its sides. */
export class PictureEditor extends DrawnEditor {
  constructor(node, options) {
    super(node, options)
    this.margin = options.margin ?? 0
    this.picture = new UpstreamPicture(node, 'image', () => {
      this.sync(true)
      this.ask()
    })
  }

  /** Return the rectangle of the picture in the drawing. */
  box() {
    const [w, h] = this.size
    const ratio = this.picture.ratio
    const wide = Math.min(w * (1 - 2 * this.margin), h * (1 - 2 * this.margin) * ratio)
    return { x: (w - wide) / 2, y: (h - wide / ratio) / 2, w: wide, h: wide / ratio }
  }

  shareOf({ x, y }) {
    const box = this.box()
    return [(x - box.x) / box.w, (y - box.y) / box.h]
  }

  placeOf([u, v]) {
    const box = this.box()
    return { x: box.x + u * box.w, y: box.y + v * box.h }
  }

  drawPicture(context) {
    const { x, y, w, h } = this.box()
    context.drawImage(this.picture.canvas, x, y, w, h)
  }

  hint() {
    return this.picture?.real === false ? ' Connect an image, or run once, to see it here.' : ''
  }

  /** Return the size of masks: that of the picture, smaller. */
  maskSize() {
    const { width, height } = this.picture.canvas
    const scale = MASK_SIDE / Math.max(width, height)
    return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))]
  }

  /** Return a canvas with strokes in white. */
  maskOf(strokes) {
    const [width, height] = this.maskSize()
    const canvas = make('canvas', '', { width, height })
    drawStrokes(canvas.getContext('2d'), strokes, width, height)
    return canvas
  }
}

/** Buttons for brush, eraser and box with the width of the pen, and the stroke that they make. */
export class Pen {
  constructor(editor, { grey = false } = {}) {
    this.editor = editor
    this.kind = 'brush'
    this.kinds = ['brush', 'erase', 'box'].map(kind => {
      const made = button(kind, `${kind}: paint on the picture`, () => this.use(kind))
      made.dataset.kind = kind
      return made
    })
    this.width = range('Width of the pen', 0.005, 0.2, 0.04, 0.005)
    this.grey = range('How much the painted part moves', 0.1, 1, 1, 0.1)
    this.elements = [...this.kinds, this.width, ...(grey ? [this.grey] : [])]
    this.use('brush')
  }

  use(kind) {
    this.kind = kind
    for (const made of this.kinds) made.classList.toggle('svdr-on', made.dataset.kind === kind)
    this.editor.toolChanged?.()
  }

  leave() {
    for (const made of this.kinds) made.classList.remove('svdr-on')
  }

  /** Return a new stroke at a share [u, v]. */
  start(share) {
    const box = this.kind === 'box'
    const level = this.kind === 'erase' ? 1 : Number(this.grey.value)
    return {
      kind: this.kind,
      radius: box ? 0 : Number(this.width.value),
      level,
      points: box ? [share, share] : [share],
    }
  }

  extend(stroke, share) {
    if (stroke.kind === 'box') stroke.points[1] = share
    else stroke.points.push(share)
  }

  end(stroke) {
    return stroke.kind === 'box' ? stroke : { ...stroke, points: simplified(stroke.points) }
  }
}

function range(title, min, max, value, step) {
  const made = make('input', 'svdr-range', { type: 'range', title, min, max, step })
  made.value = value
  made.addEventListener('pointerdown', event => event.stopPropagation())
  return made
}

/** Return a canvas in one colour with the shape of a mask. */
export function tinted(mask, colour) {
  const canvas = make('canvas', '', { width: mask.width, height: mask.height })
  const context = canvas.getContext('2d')
  context.drawImage(mask, 0, 0)
  context.globalCompositeOperation = 'source-in'
  context.fillStyle = colour
  context.fillRect(0, 0, canvas.width, canvas.height)
  return canvas
}

/** Return whether something else than the drawing gives the value. */
export const replaced = (node, names) => names.find(name => isLinked(node, name))
