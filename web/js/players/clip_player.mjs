// The player of a node: frames while it samples, then the finished clip in the same place.

import {
  addElement,
  api,
  app,
  button,
  chain,
  fileUrl,
  guard,
  locatorOf,
  make,
  nodeOfEvent,
  nodeOfExecution,
  setWidget,
  widgetOf,
  rememberStep,
} from '../host.mjs'

const HEIGHT = 250
const LINE = 20
const AUTO = {
  width: 0,
  height: 0,
  frames: 0,
  steps: 0,
  full_steps: 0,
  low: -1,
  high: -1,
  seconds: 0,
  film_fps: 0,
  still_bucket: -1,
  moving_bucket: -1,
}
const still = window.matchMedia?.('(prefers-reduced-motion: reduce)').matches

/** Shows previews and clips of one node. */
export class ClipPlayer {
  /** cells: also shows the cells of a sweep. late: takes no room until there is a clip. */
  constructor(node, { cells = false, late = false } = {}) {
    this.node = node
    this.frames = []
    this.round = 0
    this.canvas = make('canvas', '')
    this.video = make('video', '', {
      muted: true,
      loop: true,
      autoplay: true,
      playsInline: true,
      hidden: true,
      controls: false,
    })
    this.over = make('div', 'svdr-over', { hidden: true })
    this.stage = make('div', 'svdr-stage', {}, this.canvas, this.video, this.over)
    this.status = make('div', 'svdr-status')
    this.status.setAttribute('aria-live', 'polite')
    this.sheet = make('div', 'svdr-cells', { hidden: true })
    this.element = make('div', 'svdr-editor svdr-player', {}, this.stage, ...(cells ? [this.sheet] : []), this.status)
    this.element.dataset.testid = 'svd_player'
    this.stage.hidden = late
    this.widget = addElement(node, 'svd_player', this.element, late ? LINE : HEIGHT)
    this.seen = new IntersectionObserver(entries => this.see(entries.at(-1).isIntersecting))
    this.seen.observe(this.stage)
    this.video.addEventListener('click', () => (this.video.controls = true))
    this.video.addEventListener(
      'error',
      () => this.video.getAttribute('src') && this.say('The clip is gone; run again to see it.'),
    )
    this.video.addEventListener('loadeddata', () => this.play())
    chain(node, 'onExecuted', output => this.executed(output))
    chain(node, 'onConfigure', () => setTimeout(() => guard(() => this.restore())))
    chain(node, 'onRemoved', () => this.remove())
    for (const name of Object.keys(AUTO)) {
      const widget = widgetOf(node, name)
      if (widget) chain(widget, 'callback', () => this.sayAuto())
    }
    node.svdReelPlayer = this
    setTimeout(() => this.sayAuto())
  }

  say(text) {
    this.status.textContent = text
    this.status.title = text
  }

  /** Say which numbers are left to the model, until a run says what it took. */
  sayAuto() {
    const names = Object.keys(AUTO).filter(name => widgetOf(this.node, name)?.value === AUTO[name])
    this.say(names.length ? `auto: ${names.map(name => name.replaceAll('_', ' ')).join(', ')}` : '')
  }

  see(visible) {
    this.visible = visible
    if (visible) this.start()
    else this.video.pause()
    if (visible && !this.video.hidden) this.video.play().catch(() => {})
  }

  /** Show the frames of a step: {step, steps, left, fps, each, count, frames: JPEG in base64}. */
  async preview(detail) {
    const round = ++this.round
    // At once: the run may end, and say what it took, while the frames are read.
    this.say(
      `step ${detail.step} of ${detail.steps}${detail.step < detail.steps ? `, ${duration(detail.left)} left` : ''}`,
    )
    const bitmaps = await Promise.all(detail.frames.map(bitmapOf))
    if (round !== this.round) return bitmaps.forEach(bitmap => bitmap.close())
    this.clear()
    if (this.stage.hidden) this.unfold()
    Object.assign(this, { frames: bitmaps, detail, shown: -1 })
    this.video.hidden = true
    this.video.pause()
    this.canvas.hidden = this.over.hidden = false
    this.start()
  }

  start() {
    if (!this.asked && this.visible !== false && this.frames.length)
      this.asked = requestAnimationFrame(time => this.tick(time))
  }

  tick(time) {
    this.asked = 0
    if (!this.frames.length || this.visible === false) return
    const { fps, each, count } = this.detail
    const index = still ? this.frames.length >> 1 : Math.floor((time / 1000) * fps) % this.frames.length
    if (index !== this.shown) this.draw(index, Math.min(count, index * each + 1), count)
    this.start()
  }

  draw(index, number, count) {
    this.shown = index
    const frame = this.frames[index]
    const [w, h] = [this.stage.clientWidth, this.stage.clientHeight]
    const scale = Math.min(2, window.devicePixelRatio || 1)
    const [width, height] = [Math.round(w * scale), Math.round(h * scale)]
    if (!width || !height) return
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height })
    const size = Math.min(width / frame.width, height / frame.height)
    const context = this.canvas.getContext('2d')
    context.clearRect(0, 0, width, height)
    context.drawImage(
      frame,
      (width - frame.width * size) / 2,
      (height - frame.height * size) / 2,
      frame.width * size,
      frame.height * size,
    )
    this.over.textContent = `frame ${number} of ${count}`
  }

  executed(output) {
    const clip = output?.svd_clip?.[0]
    if (clip) this.showClip(clip)
    if (output?.svd_cells) this.showCells(output.svd_cells, output.svd_columns?.[0] ?? 3)
    if (output?.svd_taken?.[0]) this.say(output.svd_taken[0])
    else if (output?.svd_path?.[0]) this.say(output.svd_path[0])
    else if (clip) this.say(`${clip.width}x${clip.height}, ${clip.frames} frames, ${clip.fps} fps`)
  }

  restore() {
    const output = app.nodeOutputs?.[locatorOf(this.node)]
    if (output && !this.video.getAttribute('src')) this.executed(output)
  }

  showClip(clip) {
    this.round++
    if (this.stage.hidden) this.unfold()
    this.video.src = fileUrl(clip, { t: Date.now() })
  }

  /** Make room for the first frames of a player that is late. */
  unfold() {
    this.stage.hidden = false
    this.element.style.minHeight = `${HEIGHT}px`
    this.widget.options.getMinHeight = () => HEIGHT + 12
    const [width, height] = this.node.size
    this.node.setSize([width, Math.max(height, this.node.computeSize()[1])])
  }

  /** The clip takes the place of the frames as soon as it can be seen. */
  play() {
    this.clear()
    this.video.hidden = false
    this.canvas.hidden = this.over.hidden = true
    if (this.visible !== false) this.video.play().catch(() => {})
  }

  /** Show the cells of a Motion Lab; a click makes one of them the only one of the next run. */
  showCells(cells, columns) {
    this.sheet.hidden = false
    this.sheet.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`
    this.sheet.replaceChildren(
      ...cells.map(cell => {
        const made = button(
          '',
          `Take bucket ${cell.buckets}, seed ${cell.seeds}, sigma ${cell.sigma_max}, fps ${cell.fps}`,
          () => this.take(cell, made),
        )
        made.classList.add('svdr-cell')
        made.classList.toggle('svdr-best', cell.rank === 1)
        const picture = make('img', '', { src: `data:image/jpeg;base64,${cell.jpeg}`, alt: '' })
        made.append(
          picture,
          make('span', '', { textContent: `${cell.buckets} \u00b7 ${cell.seeds} \u00b7 ${cell.motion} %` }),
        )
        return made
      }),
    )
  }

  take(cell, chosen) {
    for (const name of ['buckets', 'seeds', 'sigma_max', 'fps'])
      setWidget(this.node, widgetOf(this.node, name), String(cell[name]))
    for (const made of this.sheet.children) made.classList.toggle('svdr-best', made === chosen)
    this.say(
      `The next run takes bucket ${cell.buckets}, seed ${cell.seeds}, sigma ${cell.sigma_max}, fps ${cell.fps}. Undo brings the lists back.`,
    )
    rememberStep()
  }

  stopped() {
    if (this.detail && this.frames.length && this.video.hidden)
      this.say(`Stopped at step ${this.detail.step} of ${this.detail.steps}.`)
  }

  clear() {
    for (const frame of this.frames) frame.close()
    this.frames = []
  }

  remove() {
    this.round++
    this.clear()
    cancelAnimationFrame(this.asked)
    this.seen.disconnect()
    this.video.removeAttribute('src')
    this.video.load()
  }
}

async function bitmapOf(jpeg) {
  const bytes = Uint8Array.from(atob(jpeg), character => character.charCodeAt(0))
  return createImageBitmap(new Blob([bytes], { type: 'image/jpeg' }))
}

/** Return seconds in words. */
export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`
  const minutes = Math.round(seconds / 60)
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** Return the player of a node; KSampler and other nodes that sample an exported model get one when they first need it. */
function playerOf(node) {
  return node && (node.svdReelPlayer ?? new ClipPlayer(node, { late: true }))
}

api.addEventListener('svd_reel.preview', ({ detail }) =>
  guard(() => playerOf(nodeOfEvent(detail))?.preview(detail)),
)
for (const name of ['execution_error', 'execution_interrupted']) {
  api.addEventListener(name, ({ detail }) => guard(() => nodeOfExecution(detail?.node_id)?.svdReelPlayer?.stopped()))
}
