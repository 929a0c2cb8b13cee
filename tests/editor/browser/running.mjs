// Workflows run: no node lies over another one before, while and after they run, and no error names the pack.
//
// node running.mjs PORT classic|vue FOLDER NAMES. NAMES: with commas. Prints OK, or what is wrong.

import fs from 'node:fs'
import path from 'node:path'
import { covered, fit, inEditor, run } from './page.mjs'

await inEditor({ width: 2400, height: 1400 }, async ({ page, shot, more: [folder, names] }) => {
  const wrong = []
  await page.evaluate(async () => {
    const { api } = await import('/scripts/api.js')
    api.addEventListener('execution_error', ({ detail }) => {
      window.svd_error = `${detail.node_type}: ${detail.exception_message}`
    })
  })
  for (const name of names.split(',')) {
    const workflow = JSON.parse(fs.readFileSync(path.join(folder, `${name}.json`), 'utf8'))
    await page.evaluate(async ([workflow, name]) => app.loadGraphData(workflow, true, true, name), [workflow, name])
    await page.waitForTimeout(800)
    await fit(page)
    await page.waitForTimeout(800)
    const look = async when => {
      for (const text of await covered(page)) wrong.push(`${name}, ${when}: ${text}`)
    }
    await look('before')
    await shot(`before_${name}`)
    let [running, previewed] = [true, false]
    const watching = (async () => {
      while (running) {
        await look('while it runs')
        const shows = await page.evaluate(() => app.graph.nodes.some(node => node.svdReelPlayer?.frames.length))
        if (shows && !previewed) await shot(`preview_${name}`)
        previewed ||= shows
        await page.waitForTimeout(400)
      }
    })()
    const started = Date.now()
    await run(page, 540000)
    running = false
    await watching
    await look('after')
    const error = await page.evaluate(() => {
      const text = window.svd_error
      window.svd_error = null
      return text
    })
    if (error) wrong.push(`${name}: ${error}`)
    console.error(name, `${((Date.now() - started) / 1000).toFixed(0)} s`)
    await shot(`run_${name}`)
  }
  return wrong
})
