// What every drawn widget shares: its element, its canvas, the pointer, and the values it edits.

import { addElement, app, chain, guard, isLinked, make, rememberStep, setWidget, widgetOf } from '../host.mjs'

export const COLOURS = { first: '#50aaff', last: '#ff9628', mark: '#ffffff', dim: '#8d93a0', hole: '#0b0c0e' }
const REACH = 11 // screen pixels around a handle that belong to it

/** A widget that draws the values of other widgets, and writes them back when the pointer is released. */
export class DrawnEditor {
  /** names: widgets that it edits or follows. */
  constructor(node, { id, label, height, names }) {
    this.node = node
    this.names = names
    this.dragged = null
    this.hovered = false
    this.size = [0, 0]
    this.canvas = make('canvas', '', {})
    this.bar = make('div', 'svdr-bar')
    this.stage = make('div', 'svdr-stage', {}, this.canvas)
    this.status = make('div', 'svdr-status')
    this.status.setAttribute('aria-live', 'polite')
    this.element = make('div', 'svdr-editor', { tabIndex: 0 }, this.bar, this.stage, this.status)
    this.element.dataset.testid = id
    this.element.setAttribute('role', 'application')
    this.element.setAttribute('aria-label', label)
    this.widget = addElement(node, id, this.element, height)
    this.listen()
    node.svdReelEditor = this
  }

  // What a widget of its own overrides.
  /** Read the values of the widgets. */ read() {}
  /** Draw on a context of w x h pixels. */ draw() {}
  /** Return what is under the point, to be dragged, or null. */ grab() {
    return null
  }
  /** Follow the pointer with what `grab` returned. */ drag() {}
  /** Write the values; called once, when the pointer is released. */ drop() {}
  /** Handle a key; return true if it was used. */ key() {
    return false
  }
  /** Handle a double click. */ open() {}
  /** Return whether to draw again in the next frame. */ animates() {
    return false
  }

  listen() {
    const { node, element, canvas } = this
    for (const name of this.names) {
      const widget = widgetOf(node, name)
      if (widget) chain(widget, 'callback', () => this.sync())
    }
    chain(node, 'onConfigure', () => this.sync(true))
    chain(node, 'onConnectionsChange', () => setTimeout(() => this.sync(true)))
    chain(node, 'onRemoved', () => this.remove())
    this.resizing = new ResizeObserver(() => this.ask())
    this.resizing.observe(this.stage)
    this.seen = new IntersectionObserver(entries => {
      this.visible = entries.at(-1).isIntersecting
      if (this.visible) this.ask()
    })
    this.seen.observe(this.stage)
    const on = (target, event, run, options) =>
      target.addEventListener(event, value => guard(() => run(value)), options)
    on(element, 'pointerenter', () => {
      this.hovered = true
      this.sync()
      this.ask()
    })
    on(element, 'pointerleave', () => {
      this.hovered = false
      this.under = null
      this.ask()
    })
    on(canvas, 'pointerdown', event => this.press(event))
    on(canvas, 'pointermove', event => this.follow(event))
    for (const name of ['pointerup', 'pointercancel', 'lostpointercapture'])
      on(canvas, name, event => this.release(event))
    on(canvas, 'dblclick', event => {
      event.stopPropagation()
      if (!this.locked()) this.open(this.at(event))
    })
    on(canvas, 'contextmenu', event => {
      event.preventDefault()
      event.stopPropagation()
    })
    // ComfyUI zooms by the wheel everywhere; its classic renderer does not hear wheels over elements.
    on(
      canvas,
      'wheel',
      event => {
        event.preventDefault()
        event.stopPropagation()
        app.canvas?.canvas?.dispatchEvent(new WheelEvent('wheel', event))
      },
      { passive: false },
    )
    on(element, 'keydown', event => {
      if (event.target !== element || event.ctrlKey || event.metaKey || event.altKey) return
      if (event.key === 'Escape' && this.dragged) {
        this.dragged = null
        this.sync(true)
      }
      const used = !this.locked() && this.key(event)
      // ComfyUI would delete the node.
      if (used || event.key === 'Delete' || event.key === 'Backspace') {
        event.preventDefault()
        event.stopPropagation()
      }
    })
  }

  /** Return whether the drawing must not change: its values come from links. */
  locked() {
    return isLinked(this.node, this.names[0])
  }

  value(name) {
    return widgetOf(this.node, name)?.value
  }

  /** Write values by widget name as one undo step. */
  write(values) {
    this.writing = true
    for (const [name, value] of Object.entries(values)) setWidget(this.node, widgetOf(this.node, name), value)
    this.writing = false
    this.sync(true)
    rememberStep()
  }

  /** Read the widgets again if they have changed. */
  sync(always = false) {
    if (this.dragged || this.writing) return
    const state = JSON.stringify(this.names.map(name => [this.value(name), isLinked(this.node, name)]))
    if (!always && state === this.state) return
    this.state = state
    this.element.classList.toggle('svdr-off', this.locked())
    this.say('')
    guard(() => this.read())
    this.ask()
  }

  /** Show a sentence under the drawing. */
  say(text, wrong = false) {
    this.status.textContent = text
    this.status.title = text
    this.status.classList.toggle('svdr-wrong', wrong)
  }

  /** Draw at the next frame. */
  ask() {
    if (!this.asked)
      this.asked = requestAnimationFrame(() => {
        this.asked = 0
        guard(() => this.paint())
      })
  }

  paint() {
    const [w, h] = [this.stage.clientWidth, this.stage.clientHeight],
      scale = Math.min(2, window.devicePixelRatio || 1)
    if (!w || !h) return
    const [width, height] = [Math.round(w * scale), Math.round(h * scale)]
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height })
    this.size = [w, h]
    const context = this.canvas.getContext('2d')
    context.setTransform(scale, 0, 0, scale, 0, 0)
    context.clearRect(0, 0, w, h)
    this.draw(context, w, h)
    if (this.visible !== false && this.animates()) this.ask()
  }

  /** Return the place of an event in pixels of the drawing, and the reach of its handles there. */
  at(event) {
    const box = this.canvas.getBoundingClientRect(),
      [w, h] = this.size
    return {
      x: ((event.clientX - box.left) / box.width) * w,
      y: ((event.clientY - box.top) / box.height) * h,
      reach: (REACH * w) / box.width,
    }
  }

  press(event) {
    if (event.button !== 0 || app.canvas?.read_only || this.locked()) return
    event.stopPropagation() // but no preventDefault: without mouseup ComfyUI makes no undo step
    this.element.focus({ preventScroll: true })
    const place = this.at(event)
    this.dragged = this.grab(place, event)
    if (!this.dragged) return
    this.start = place
    this.changed = false
    this.canvas.setPointerCapture(event.pointerId)
    this.ask()
  }

  follow(event) {
    const place = this.at(event)
    if (this.dragged) {
      event.stopPropagation()
      this.changed = true
      this.drag(this.dragged, place, event)
    } else this.hover?.(place)
    this.ask()
  }

  release(event) {
    if (!this.dragged) return
    const dragged = this.dragged
    this.dragged = null
    if (event.type === 'pointercancel') this.sync(true)
    else if (this.changed || dragged.always) this.drop(dragged)
    this.ask()
  }

  remove() {
    cancelAnimationFrame(this.asked)
    this.resizing.disconnect()
    this.seen.disconnect()
    this.picture?.remove()
  }
}

export const distance = (a, b) => Math.hypot(a.x - b.x, a.y - b.y)

/** Draw a round handle that is seen on every photograph. */
export function drawHandle(context, x, y, radius, colour) {
  context.beginPath()
  context.arc(x, y, radius, 0, 7)
  context.fillStyle = colour
  context.fill()
  context.lineWidth = 1.5
  context.strokeStyle = 'rgba(0,0,0,.75)'
  context.stroke()
}

/** Draw a line twice, dark below, so that it is seen on every photograph. */
export function drawLine(context, points, colour, width = 2, closed = false, dash = []) {
  context.setLineDash(dash)
  context.lineJoin = 'round'
  for (const [style, wide] of [
    ['rgba(0,0,0,.55)', width + 2],
    [colour, width],
  ]) {
    context.strokeStyle = style
    context.lineWidth = wide
    context.beginPath()
    points.forEach(([x, y], k) => context[k ? 'lineTo' : 'moveTo'](x, y))
    if (closed) context.closePath()
    context.stroke()
  }
  context.setLineDash([])
}

/** Return the colour at `share` of the way from the first frame's to the last one's. */
export function colourAt(share) {
  const mix = [
    [80, 255],
    [170, 150],
    [255, 40],
  ].map(([a, b]) => Math.round(a + (b - a) * share))
  return `rgb(${mix})`
}
