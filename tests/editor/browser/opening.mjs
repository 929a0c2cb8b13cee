// Every workflow of a folder opens: nothing lies over anything else, no value moves, no error names the pack.
//
// node opening.mjs PORT classic|vue FOLDER [PROMPTS.json]. PROMPTS: name -> prompt that each shall give, as
// {node: {inputs: {name: value}}}; inputs that were added since may be there as well. Nodes in subgraphs have the number
// that they have inside. Prints OK, or what is wrong.

import fs from 'node:fs'
import path from 'node:path'
import { covered, inEditor } from './page.mjs'

const OURS = /^SVDReel/

/** Return the prompt, and the values that would be stored. */
const look = page =>
  page.evaluate(async () => {
    const { output } = await app.graphToPrompt()
    const values = Object.fromEntries(app.graph.serialize().nodes.map(n => [n.id, n.widgets_values]))
    return { output, values }
  })

/** Return a prompt with the numbers that nodes have inside their subgraphs: "14:5" is 5. */
function inside(prompt) {
  const last = id => String(id).split(':').at(-1)
  const linked = value => (Array.isArray(value) && value.length === 2 ? [last(value[0]), value[1]] : value)
  const plain = inputs => Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, linked(value)]))
  return Object.fromEntries(
    Object.entries(prompt).map(([id, node]) => [last(id), { ...node, inputs: plain(node.inputs) }]),
  )
}

/** Return inputs of a node that are not as they should be. */
function changed(found, expected) {
  if (!found) return ['is missing']
  return Object.entries(expected.inputs)
    .filter(([name, value]) => JSON.stringify(found.inputs[name]) !== JSON.stringify(value))
    .map(([name, value]) => `${name} is ${JSON.stringify(found.inputs[name])}, not ${JSON.stringify(value)}`)
}

await inEditor({ width: 1600, height: 1200 }, async ({ page, vue, more: [folder, prompts] }) => {
  const wanted = prompts ? JSON.parse(fs.readFileSync(prompts, 'utf8')) : {}
  const wrong = []
  const known = new Set(await page.evaluate(() => Object.keys(LiteGraph.registered_node_types)))
  for (const file of fs.readdirSync(folder).filter(name => name.endsWith('.json')).sort()) {
    const name = file.slice(0, -5)
    const workflow = JSON.parse(fs.readFileSync(path.join(folder, file), 'utf8'))
    await page.evaluate(async ([workflow, name]) => app.loadGraphData(workflow, true, true, name), [workflow, name])
    await page.waitForTimeout(vue ? 1500 : 700)
    console.error(name)
    const { output, values } = await look(page)
    wrong.push(...(await covered(page)).map(text => `${name}: ${text}`))
    for (const { id, type, widgets_values: stored = [] } of workflow.nodes) {
      const found = JSON.stringify((values[id] ?? []).slice(0, stored.length))
      if (OURS.test(type) && found !== JSON.stringify(stored)) wrong.push(`${name}: values of ${type} are ${found}`)
    }
    const found = inside(output)
    for (const [id, node] of Object.entries(wanted[name] ?? {})) {
      if (!OURS.test(node.class_type) && !known.has(node.class_type)) continue // of a newer host, or another pack
      wrong.push(...changed(found[id], node).map(text => `${name}: ${node.class_type} ${id} ${text}`))
    }
    await page.keyboard.press('Escape')
  }
  return wrong
})
