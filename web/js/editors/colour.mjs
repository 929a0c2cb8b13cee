// A colour button for inputs whose value is the name or the number of a colour; the text stays the stored form.

import { addElement, chain, guard, isLinked, make, rememberStep, setWidget, widgetOf } from '../host.mjs'

const HEIGHT = 24

/** Add a colour button for the widget `name` to the bar of a node's editor, or below its widgets. */
export function addColourButton(node, name) {
  const text = widgetOf(node, name)
  const button = make('input', 'svdr-swatch', { type: 'color', title: `${name}: choose a colour` })
  button.dataset.testid = 'svd_colour'
  const read = () => {
    button.value = hexOf(String(text.value)) ?? '#ffffff'
    button.disabled = isLinked(node, name)
  }
  button.addEventListener('pointerdown', event => event.stopPropagation())
  button.addEventListener('change', () =>
    guard(() => {
      setWidget(node, text, button.value)
      rememberStep()
    }),
  )
  chain(text, 'callback', read)
  chain(node, 'onConfigure', read)
  chain(node, 'onConnectionsChange', () => setTimeout(read))
  read()
  const bar = node.svdReelEditor?.bar
  if (bar) return bar.append(button)
  const row = make(
    'div',
    'svdr-editor',
    {},
    make('div', 'svdr-bar', {}, make('span', '', { textContent: name }), button),
  )
  addElement(node, `svd_${name}`, row, HEIGHT)
}

/** Return "#rrggbb" of a colour's name or number, or null if the browser knows none. */
function hexOf(value) {
  const context = make('canvas', '').getContext('2d')
  context.fillStyle = '#010203'
  context.fillStyle = value
  return /^#[0-9a-f]{6}$/.test(context.fillStyle) && context.fillStyle !== '#010203' ? context.fillStyle : null
}
