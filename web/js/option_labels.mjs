// Options of our nodes in the language of the editor, where the pack has it; what is stored stays as it is.
//
// 0.33 shows the labels; 0.3.64 knows none and shows the stored values.

import { app } from './host.mjs'
import { isLabelled, labelsBy } from './logic/labels.mjs'

const LANGUAGES = ['zh'] // with a file in labels/
let table = {}

/** Read the labels of the editor's language. */
export async function readLabels() {
  const language = app.extensionManager?.setting?.get('Comfy.Locale')
  if (!LANGUAGES.includes(language)) return
  try {
    const answer = await fetch(new URL(`./labels/${language}.json`, import.meta.url))
    if (answer.ok) table = await answer.json()
  } catch (error) {
    console.warn('SVD Reel: options are not translated:', error)
  }
}

/** Show the options of a node's widgets by their labels. */
export function labelOptions(node) {
  for (const { type, options } of node.widgets ?? [])
    if (type === 'combo' && isLabelled(table, options?.values)) options.getOptionLabel ??= labelsBy(table)
}
