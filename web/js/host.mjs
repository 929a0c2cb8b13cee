// All that the editor's scripts use of ComfyUI's frontend, from 1.27 to today.

import { api } from '../../../scripts/api.js'
import { app } from '../../../scripts/app.js'

export { api, app }

/** Call `after` whenever object[name] has run, with its arguments; the result stays that of the old function. */
export function chain(object, name, after) {
  const before = object[name]
  object[name] = function (...values) {
    const result = before?.apply(this, values)
    guard(() => after.apply(this, values))
    return result
  }
}

const reported = new Set()

/** Run a function; an error is written to the console once and never stops the host. */
export function guard(run) {
  try {
    return run()
  } catch (error) {
    const text = String(error?.stack ?? error)
    if (!reported.has(text)) console.warn('SVD Reel:', text)
    reported.add(text)
  }
}

export const widgetOf = (node, name) => node.widgets?.find(widget => widget.name === name)

/** Return whether a widget's value comes from a link. */
export const isLinked = (node, name) =>
  node.inputs?.find(input => input.widget?.name === name || input.name === name)?.link != null

/** Return the link object with this id in the graph of a node. */
export const linkOf = (graph, id) => graph?.getLink?.(id) ?? graph?.links?.get?.(id) ?? graph?.links?.[id] ?? null

/** Set a widget's value as if the user had typed it. */
export function setWidget(node, widget, value) {
  if (!widget || widget.value === value) return
  widget.value = value
  widget.callback?.(value)
  node.graph?.setDirtyCanvas?.(true, true)
}

/** Make one undo step of what has changed since the last one. */
export function rememberStep() {
  setTimeout(() =>
    guard(() => {
      const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker
      const capture = tracker?.captureCanvasState ?? tracker?.checkState
      capture?.call(tracker)
    }),
  )
}

/** Return the node of an execution id such as "3" or "3:2" (node 2 of the subgraph of node 3), or null. */
export function nodeOfExecution(id) {
  let graph = app.rootGraph ?? app.graph,
    node = null
  for (const part of String(id).split(':')) {
    node = graph?.getNodeById?.(part) ?? graph?.getNodeById?.(Number(part)) ?? null
    graph = node?.subgraph
  }
  return node
}

/** Return the node of an event {node, workflow}, or null where another workflow is open by now. */
export function nodeOfEvent({ node, workflow }) {
  const { id } = app.rootGraph ?? app.graph
  return workflow && id && workflow !== id ? null : nodeOfExecution(node)
}

/** Return the key of a node in app.nodeOutputs. */
export function locatorOf(node) {
  const root = app.rootGraph ?? app.graph
  return !node.graph || node.graph === root || !node.graph.id ? String(node.id) : `${node.graph.id}:${node.id}`
}

/** Return the address of a file in the host's folders: {filename, subfolder, type}. */
export const fileUrl = ({ filename, subfolder = '', type = 'output' }, extra = {}) =>
  api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type, ...extra })}`)

/** Add `element` as a widget at the end of a node. It is saved neither in the file nor in the prompt. */
export function addElement(node, name, element, height) {
  element.style.minHeight = `${height}px`
  const widget = node.addDOMWidget(name, name, element, {
    serialize: false,
    hideOnZoom: false,
    margin: 6,
    getMinHeight: () => height + 12,
    getValue: () => '',
    setValue: () => {},
  })
  widget.serialize = false // options.serialize keeps it out of the prompt, this out of the file
  return widget
}

/** Make an element: its class, properties and children. */
export function make(tag, className, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties)
  if (className) element.className = className
  element.append(...children)
  return element
}

/** Make a real button that does not take the focus away from the drawing. */
export function button(label, title, onclick) {
  const made = make('button', 'svdr-button', { type: 'button', textContent: label, title })
  made.addEventListener('pointerdown', event => event.stopPropagation())
  made.addEventListener('click', event => {
    event.stopPropagation()
    guard(onclick)
  })
  return made
}

/** Make a list of choices. */
export function choice(title, options, onchange) {
  const made = make(
    'select',
    'svdr-select',
    { title },
    ...options.map(option => make('option', '', { value: option, textContent: option })),
  )
  made.addEventListener('pointerdown', event => event.stopPropagation())
  made.addEventListener('change', () => guard(() => onchange(made.value)))
  return made
}

const sheet = make('link', '', { rel: 'stylesheet', href: new URL('./svd_reel.css', import.meta.url).href })
document.head.append(sheet)
