// Storyboard tables: CSV and JSON texts to rows and back, as svd_core/storyboard/tables.py and panels.py read them.

export const COLUMNS = ['image', 'seconds', 'move', 'bucket', 'seed', 'transition', 'fade', 'title']
const ALIASES = {
  camera: 'move',
  motion_bucket: 'bucket',
  transition_seconds: 'fade',
  file: 'image',
  picture: 'image',
  name: 'title',
}
const SEPARATORS = [',', ';', '\t']
const MOST_ROWS = 500

/** Return rows as objects of texts by column. Throws for tables that would lose something when written again. */
export function parseTable(text) {
  if (!text.trim()) return []
  const rows = '[{'.includes(text.trim()[0]) ? parseJson(text) : parseCsv(text)
  if (rows.length > MOST_ROWS)
    throw new Error(`the table has ${rows.length} rows; the editor shows at most ${MOST_ROWS}`)
  return rows
}

const columnOf = name => {
  const column = ALIASES[name.trim().toLowerCase()] ?? name.trim().toLowerCase()
  if (!COLUMNS.includes(column)) throw new Error(`the column "${name}" is unknown; use ${COLUMNS.join(', ')}`)
  return column
}

function parseJson(text) {
  const content = JSON.parse(text)
  if (!Array.isArray(content)) throw new Error('a table with "defaults" is edited as text')
  return content.map(entry =>
    Object.fromEntries(
      Object.entries(entry).map(([name, value]) => [columnOf(name), value === null ? '' : String(value)]),
    ),
  )
}

function parseCsv(text) {
  const separator = separatorOf(text),
    rows = cells(text, separator).filter(row => row.some(Boolean))
  const columns = rows[0].map(columnOf)
  if (new Set(columns).size < columns.length) throw new Error('the table has a column twice')
  return rows.slice(1).map(row => {
    if (row.length > columns.length && row.slice(columns.length).some(Boolean))
      throw new Error(`a row has ${row.length} values for ${columns.length} columns`)
    return Object.fromEntries(columns.map((column, k) => [column, row[k] ?? '']))
  })
}

function separatorOf(text) {
  const heading = text.split('\n').find(line => line.trim()) ?? ''
  return SEPARATORS.reduce((best, one) => (heading.split(one).length > heading.split(best).length ? one : best))
}

function cells(text, separator) {
  const rows = [[]]
  let cell = '',
    quoted = false,
    wasQuoted = false
  const end = () => {
    rows.at(-1).push(cell.trim())
    cell = ''
    wasQuoted = false
  }
  for (let k = 0; k < text.length; k++) {
    const c = text[k]
    if (quoted) {
      if (c === '"' && text[k + 1] === '"') {
        cell += '"'
        k++
      } else if (c === '"') quoted = false
      else cell += c
    } else if (c === '"' && !cell.trim() && !wasQuoted) [quoted, wasQuoted, cell] = [true, true, '']
    else if (c === separator) end()
    else if (c === '\n') {
      end()
      rows.push([])
    } else if (c !== '\r') cell += c
  }
  if (quoted) throw new Error('a quote in the table does not close')
  end()
  return rows
}

/** Return rows as CSV with the columns that have a value. A row without values names the picture at its place. */
export function formatTable(rows) {
  const filled = rows.map((row, k) => (COLUMNS.some(column => row[column]) ? row : { image: String(k + 1) }))
  const columns = COLUMNS.filter(column => filled.some(row => row[column]))
  const quote = value =>
    /[",;\t\n]/.test(value) || value !== value.trim() ? `"${value.replaceAll('"', '""')}"` : value
  return rows.length
    ? [columns, ...filled.map(row => columns.map(column => quote(row[column] ?? '')))]
        .map(row => row.join(','))
        .join('\n')
    : ''
}
