// The player of two clips in step: one over the other with a slider, or side by side.

import { addElement, app, button, chain, fileUrl, guard, locatorOf, make, widgetOf } from '../host.mjs'
import { apart, frameAt, shareAt } from '../logic/playing.mjs'

const HEIGHT = 320
const STEP = 0.02 // of the width, for the arrow keys

export class ComparePlayer {
  constructor(node) {
    this.node = node
    this.share = 0.5
    this.videos = ['first', 'second'].map(name =>
      make('video', '', { muted: true, loop: true, autoplay: true, playsInline: true, controls: false, title: name }),
    )
    this.line = make('div', 'svdr-line', { hidden: true })
    this.over = make('div', 'svdr-over', { hidden: true })
    this.names = ['first', 'second'].map(name => make('div', `svdr-name svdr-${name}`, { textContent: name }))
    this.stage = make(
      'div',
      'svdr-stage svdr-compare',
      {},
      ...[...this.videos].reverse(), // the first clip lies above the second
      this.line,
      ...this.names,
      this.over,
    )
    this.pause = button('pause', 'Pause or play (space)', () => this.toggle())
    const bar = make(
      'div',
      'svdr-bar',
      {},
      this.pause,
      button('\u2039', 'One frame back', () => this.step(-1)),
      button('\u203a', 'One frame forward', () => this.step(1)),
    )
    this.status = make('div', 'svdr-status', { textContent: 'Run to compare both clips.' })
    this.element = make('div', 'svdr-editor', { tabIndex: 0 }, this.stage, bar, this.status)
    this.element.dataset.testid = 'svd_compare'
    this.element.setAttribute('aria-label', 'Two clips; the arrow keys move the line between them')
    addElement(node, 'svd_compare', this.element, HEIGHT)
    this.seen = new IntersectionObserver(entries => this.see(entries.at(-1).isIntersecting))
    this.seen.observe(this.stage)
    this.listen()
    node.svdReelCompare = this
    this.arrange()
  }

  listen() {
    chain(this.node, 'onExecuted', output => this.executed(output))
    chain(this.node, 'onConfigure', () => setTimeout(() => guard(() => this.restore())))
    chain(this.node, 'onRemoved', () => this.remove())
    const view = widgetOf(this.node, 'view')
    if (view) chain(view, 'callback', () => this.arrange())
    this.stage.addEventListener('pointerdown', event => this.press(event))
    this.stage.addEventListener('pointermove', event => this.dragged && this.move(event))
    for (const end of ['pointerup', 'pointercancel', 'lostpointercapture'])
      this.stage.addEventListener(end, () => (this.dragged = false))
    this.element.addEventListener('keydown', event => this.key(event))
    for (const video of this.videos) {
      video.addEventListener('loadeddata', () => this.visible !== false && this.play())
      video.addEventListener('error', () => {
        if (video.getAttribute('src')) this.status.textContent = 'The clips are gone; run again to see them.'
      })
    }
  }

  get slides() {
    return widgetOf(this.node, 'view')?.value !== 'side by side'
  }

  /** Lay the clips over or beside each other. */
  arrange() {
    this.stage.classList.toggle('svdr-beside', !this.slides)
    const shown = Boolean(this.videos[0].getAttribute('src'))
    this.line.hidden = !this.slides || !shown
    for (const name of this.names) name.hidden = !shown
    this.line.style.left = `${100 * this.share}%`
    this.videos[0].style.clipPath = this.slides ? `inset(0 ${100 * (1 - this.share)}% 0 0)` : 'none'
  }

  press(event) {
    if (event.button !== 0 || app.canvas?.read_only || !this.slides) return
    event.stopPropagation()
    this.element.focus({ preventScroll: true })
    this.dragged = true
    this.stage.setPointerCapture(event.pointerId)
    this.move(event)
  }

  move(event) {
    this.share = shareAt(event.clientX, this.stage.getBoundingClientRect())
    this.arrange()
  }

  key(event) {
    const way = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key]
    if (way && this.slides) {
      this.share = Math.min(1, Math.max(0, this.share + way))
      this.arrange()
    } else if (event.key === ' ') this.toggle()
    else if (!['Delete', 'Backspace'].includes(event.key)) return // Delete would remove the node
    event.preventDefault()
    event.stopPropagation()
  }

  executed(output) {
    if (output?.svd_taken?.[0]) this.status.textContent = output.svd_taken[0]
    const clips = output?.svd_compared
    if (clips?.length !== 2) return
    this.clip = clips[0]
    this.paused = false
    this.videos.forEach((video, k) => {
      video.src = fileUrl(clips[k], { t: Date.now() })
    })
    this.arrange()
  }

  restore() {
    this.arrange()
    const output = app.nodeOutputs?.[locatorOf(this.node)]
    if (output && !this.clip) this.executed(output)
  }

  see(visible) {
    this.visible = visible
    if (visible) this.play()
    else for (const video of this.videos) video.pause()
  }

  play() {
    this.pause.textContent = this.paused ? 'play' : 'pause'
    if (!this.clip) return
    for (const video of this.videos) this.paused ? video.pause() : video.play().catch(() => {})
    this.ask()
  }

  toggle() {
    this.paused = !this.paused
    this.play()
  }

  /** Show the next frame or the one before, and stay there. */
  step(way) {
    if (!this.clip) return
    this.paused = true
    this.play()
    const { fps, frames } = this.clip
    const index = (frameAt(this.videos[0].currentTime, fps, frames) + way + frames) % frames
    for (const video of this.videos) video.currentTime = (index + 0.5) / fps
    this.ask()
  }

  ask() {
    this.asked ||= requestAnimationFrame(() => {
      this.asked = 0
      guard(() => this.tick())
    })
  }

  /** Keep the second clip at the place of the first one. */
  tick() {
    const [first, second] = this.videos
    const { fps, frames } = this.clip
    if (apart(first.currentTime, second.currentTime, first.duration) > 0.5 / fps && !second.seeking)
      second.currentTime = first.currentTime
    this.over.hidden = false
    this.over.textContent = `frame ${frameAt(first.currentTime, fps, frames) + 1} of ${frames}`
    if (this.visible !== false && (!this.paused || first.seeking || second.seeking)) this.ask()
  }

  remove() {
    cancelAnimationFrame(this.asked)
    this.seen.disconnect()
    for (const video of this.videos) {
      video.removeAttribute('src')
      video.load()
    }
  }
}
