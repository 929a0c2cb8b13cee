// The Paint Motion Mask widget: what moves is painted on the picture, and its soft edge is shown.

import { button, make } from '../host.mjs'
import { formatObjects, parseObjects } from '../logic/strokes.mjs'
import { Pen, PictureEditor, replaced, tinted } from './picture_editor.mjs'

const TINT = '#ff5a28'

export class MotionMaskEditor extends PictureEditor {
  constructor(node) {
    super(node, {
      id: 'svd_motion_mask',
      label: 'Motion mask painted on the picture',
      height: 330,
      names: ['painted', 'feather', 'invert'],
    })
    this.strokes = []
    this.pen = new Pen(this, { grey: true })
    const back = button('\u21b6', 'Remove the last stroke', () => this.save(this.strokes.slice(0, -1)))
    const clear = button('clear', 'Remove everything painted', () => this.save([]))
    this.bar.append(...this.pen.elements, make('span', 'svdr-space'), back, clear)
    this.read()
  }

  locked() {
    return Boolean(replaced(this.node, ['mask', 'painted']))
  }

  save(strokes) {
    if (!this.locked()) this.write({ painted: formatObjects(strokes.length ? [strokes] : []) })
  }

  read() {
    if (!this.picture) return
    try {
      this.strokes = parseObjects(String(this.value('painted') ?? '')).flat()
    } catch (error) {
      return this.say(error.message, true)
    }
    this.shown = null
    const from = replaced(this.node, ['mask', 'painted'])
    if (from) this.say(`The connected ${from} is used instead of the painted mask.`)
    else this.say((this.strokes.length ? 'The painted parts move.' : 'Paint what shall move.') + this.hint())
  }

  /** Return the mask with its soft edge inside the painted parts, tinted. */
  overlay() {
    if (this.shown && !this.stroke) return this.shown
    const mask = this.maskOf(this.stroke ? [...this.strokes, this.stroke] : this.strokes)
    const { width, height } = mask
    const soft = make('canvas', '', { width, height })
    const context = soft.getContext('2d')
    const radius = (Number(this.value('feather') ?? 3) / 200) * Math.sqrt(width * height)
    context.filter = radius >= 0.5 ? `blur(${radius.toFixed(1)}px)` : 'none'
    context.drawImage(mask, 0, 0)
    context.filter = 'none'
    context.globalCompositeOperation = 'destination-in'
    context.drawImage(mask, 0, 0)
    if (this.value('invert')) {
      context.globalCompositeOperation = 'source-out'
      context.fillRect(0, 0, width, height)
    }
    return (this.shown = tinted(soft, TINT))
  }

  grab(place) {
    this.stroke = this.pen.start(this.shareOf(place))
    return { always: true }
  }

  drag(what, place) {
    this.pen.extend(this.stroke, this.shareOf(place))
  }

  drop() {
    const stroke = this.pen.end(this.stroke)
    this.stroke = null
    this.save([...this.strokes, stroke])
  }

  hover(place) {
    this.under = place
    this.canvas.style.cursor = this.locked() ? 'default' : 'crosshair'
  }

  draw(context) {
    const box = this.box()
    this.drawPicture(context)
    context.globalAlpha = 0.6
    context.drawImage(this.overlay(), box.x, box.y, box.w, box.h)
    context.globalAlpha = 1
    if (!this.under || this.locked() || this.pen.kind === 'box') return
    context.beginPath()
    context.arc(this.under.x, this.under.y, Number(this.pen.width.value) * box.w, 0, 7)
    context.strokeStyle = '#fff'
    context.lineWidth = 1
    context.stroke()
  }
}
