// Labels of options: the translation, with the stored value behind it, so that help pages and workflows name the same.

/** Return the function from a stored value to its label by a table {value: translation}. */
export const labelsBy = table => {
  const known = new Map(Object.entries(table))
  return value => {
    const stored = String(value ?? '')
    return known.has(stored) ? `${known.get(stored)} (${stored})` : stored
  }
}

/** Return whether a table {value: translation} has any of these values. */
export const isLabelled = (table, values) =>
  Array.isArray(values) && values.some(value => Object.hasOwn(table, String(value)))
