// Reads AsyncAPI documents with the official parser: node validate.mjs FILE...
// Prints one line a finding, and what it found in a document that has no errors; ends with 1 if one has.

import { readFile } from 'node:fs/promises'
import { Parser } from '@asyncapi/parser'

const SEVERITY = ['error', 'warning', 'information', 'hint']
const parser = new Parser()

for (const file of process.argv.slice(2)) {
  const { document, diagnostics } = await parser.parse(await readFile(file, 'utf8'))
  for (const { severity, code, path, message } of diagnostics) {
    console.log(`${file}: ${SEVERITY[severity]} ${code} at ${path.join('/')}: ${message}`)
  }
  if (document === undefined) {
    process.exitCode = 1
  } else {
    const { length } = document.operations().all()
    console.log(`${file}: AsyncAPI ${document.version()}, ${length} operations`)
  }
}
