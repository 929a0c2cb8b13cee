// The node search, opened by a double click: general words put Animate Image and Load SVD Model first among our nodes.
//
// node searching.mjs PORT classic|vue [FOLDER for screenshots]. Prints OK, or what is wrong.

import assert from 'node:assert/strict'
import { inEditor } from './page.mjs'

const FIRST = ['Animate Image (SVD)', 'Load SVD Model']

await inEditor({ width: 1400, height: 950 }, async ({ page, shot }) => {
  // 0.3.64 reads no aliases: there, only ids and names in the menu are found.
  const { names, aliases } = await page.evaluate(async () => {
    const nodes = Object.entries(await (await fetch('/api/object_info')).json())
    const ours = nodes.filter(([id]) => id.startsWith('SVDReel'))
    return { names: ours.map(([, node]) => node.display_name), aliases: ours.some(([, node]) => node.search_aliases) }
  })
  const expected = aliases
    ? { 'image to video': FIRST, 'stable video': FIRST, animate: FIRST.slice(0, 1) }
    : { animate: FIRST.slice(0, 1), 'svd model': FIRST.slice(1) }
  for (const [query, first] of Object.entries(expected)) {
    await page.mouse.dblclick(700, 620)
    const box = page.locator('input:focus')
    await box.waitFor()
    await box.fill(query)
    await page.waitForTimeout(1200)
    const rows = await page.locator('[role=option]').allInnerTexts()
    await shot(`search_${query.replaceAll(' ', '_')}`)
    const ours = rows.map(row => names.find(name => row.split('\n').some(line => line.trim() === name))).filter(Boolean)
    assert.deepEqual(ours.slice(0, first.length), first, `${query} finds ${JSON.stringify(rows.slice(0, 12))}`)
    // The first Escape may only close the list.
    for (let tries = 0; tries < 3 && (await box.count()); tries++) {
      await page.keyboard.press('Escape')
      await page.waitForTimeout(600)
    }
  }
})
