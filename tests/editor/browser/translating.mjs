// In a Chinese editor, options are shown in Chinese and stored as they were; 0.3.64 shows what is stored.
//
// node translating.mjs PORT classic|vue. Prints OK, or the first thing that is wrong.

import assert from 'node:assert/strict'
import { add, inEditor, place, valueOf } from './page.mjs'

const setLanguage = (page, language) =>
  page.evaluate(async language => app.extensionManager.setting.set('Comfy.Locale', language), language)

await inEditor({ width: 1400, height: 950 }, async ({ page, vue, shot, reload }) => {
  try {
    await setLanguage(page, 'zh')
    await reload()
    const path = await add(page, 'SVDReelCameraPath', 120, 140, { size: [420, 640] })
    const condition = await add(page, 'SVDReelCondition', 600, 140)
    await page.waitForTimeout(1000)
    const labels = id =>
      page.evaluate(
        id =>
          Object.fromEntries(
            app.graph
              .getNodeById(id)
              .widgets.filter(widget => widget.type === 'combo')
              .map(({ name, value, options }) => [name, options.getOptionLabel?.(value) ?? null]),
          ),
        id,
      )
    assert.equal((await labels(path)).easing, '\u7ebf\u6027 (linear)')
    assert.equal((await labels(condition)).fit, '\u88c1\u5207 (crop)')
    const shown = await page.evaluate(
      id => app.graph.getNodeById(id).widgets.find(widget => widget.name === 'fit')._displayValue,
      condition,
    )
    const labelled = shown === '\u88c1\u5207 (crop)'
    assert.ok(labelled || shown === 'crop', shown)
    await shot('chinese')
    if (labelled) {
      // Another option is chosen from the list by its label.
      if (vue) await page.locator(`[data-node-id="${condition}"]`).getByText(shown).click()
      else {
        const [x, y] = await page.evaluate(id => {
          const node = app.graph.getNodeById(id)
          const { last_y: high } = node.widgets.find(widget => widget.name === 'fit')
          return [node.pos[0] + node.size[0] / 2, node.pos[1] + high + 10]
        }, condition)
        await page.mouse.click(...(await place(page, x, y)))
      }
      await page.waitForTimeout(600)
      await shot('chinese_list')
      await page.getByText('\u62c9\u4f38 (stretch)').last().click()
      await page.waitForTimeout(600)
      assert.equal(await valueOf(page, condition, 'fit'), 'stretch')
    }
    const { output, workflow } = await page.evaluate(() => app.graphToPrompt())
    assert.equal(output[path].inputs.easing, 'linear')
    const stored = JSON.stringify(workflow.nodes.map(node => node.widgets_values))
    assert.ok(!/[\u4e00-\u9fff]/.test(stored), stored)
  } finally {
    await setLanguage(page, 'en')
  }
})
