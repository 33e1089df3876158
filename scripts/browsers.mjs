// `npm run test:browsers`: the browser suite in all engines, or in those that are named; a table of what each has shown.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { ENGINES, ensurePackages, findBrowser, howToInstall, installBrowsers } from './setup.mjs';

const FOLDER = 'test/browser';
const named = process.argv.slice(2);
const unknown = named.find((name) => !ENGINES.includes(name));
if (unknown !== undefined) {
  console.error(`${unknown} is no engine. Give some of ${ENGINES.join(', ')}, or nothing for all.`);
  process.exit(1);
}
const engines = named.length ? named : ENGINES;

/** Test files: those of Chromium, and one for each of the others. */
function filesOf(engine) {
  const all = readdirSync(FOLDER).filter((file) => file.endsWith('.test.ts'));
  const isOthers = (file) => ENGINES.some((name) => name !== 'chromium' && file === `${name}.test.ts`);
  const files = engine === 'chromium' ? all.filter((file) => !isOthers(file)) : [`${engine}.test.ts`];
  return files.map((file) => `${FOLDER}/${file}`);
}

/** Runs the tests; the report, and whether all went well. */
function runTests(files) {
  const folder = mkdtempSync(join(tmpdir(), 'stepfast-results-'));
  const file = join(folder, 'results.json');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  const { status } = spawnSync(
    process.execPath,
    ['node_modules/vitest/vitest.mjs', 'run', '--project', 'browser', '--project', 'browsers', ...reporters, ...files],
    { stdio: 'inherit' },
  );
  const report = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { testResults: [] };
  rmSync(folder, { recursive: true });
  return { isOk: status === 0, report };
}

/** Results by row and engine. Tests that are not of an engine's own are Chromium's; many of a kind share a row. */
function tabulate({ testResults }) {
  const rows = new Map();
  for (const { name: file, assertionResults } of testResults)
    for (const test of assertionResults) {
      const [first, ...rest] = test.ancestorTitles.filter(Boolean);
      const isOfEngine = ENGINES.includes(first);
      const titles = isOfEngine ? [...rest, test.title] : [basename(file)];
      const shares = isOfEngine && /^IndexedDB store in/.test(rest[0] ?? '');
      const [title, why] = (shares ? `conformance: ${rest[0]}` : titles.join(': ')).split(
        / \((?=not driven here: |a limit here: )/,
      );
      const row = rows.get(title) ?? {};
      rows.set(title, row);
      const cell = (row[isOfEngine ? first : 'chromium'] ??= { passed: 0, failed: 0, skipped: 0 });
      cell[test.status === 'passed' ? 'passed' : test.status === 'failed' ? 'failed' : 'skipped']++;
      if (why) cell.why = why.slice(0, -1);
      if (test.meta?.takenOverAfterMs !== undefined) cell.seconds = test.meta.takenOverAfterMs / 1000;
    }
  return rows;
}

function shown(cell) {
  if (!cell) return '-';
  const { passed, failed, skipped, seconds, why } = cell;
  if (failed) return passed ? `${failed} FAILED, ${passed} passed` : 'FAILED';
  if (why) return why.startsWith('not') ? 'not driven' : 'limit';
  if (!passed && skipped) return 'skipped';
  if (seconds !== undefined) return `${seconds.toFixed(2)} s`;
  return passed > 1 ? `${passed} passed` : 'passed';
}

function print(rows) {
  const line = (cells, title) => console.log(`${cells.map((one) => one.padEnd(14)).join('')}${title}`);
  console.log('\nA time is how long it took until another tab had taken the run over.\n');
  line(engines, '');
  for (const [title, row] of rows)
    line(
      engines.map((engine) => shown(row[engine])),
      title,
    );
  const reasons = new Set(
    [...rows.values()].flatMap((row) =>
      Object.entries(row).flatMap(([name, { why }]) => (why ? `${name}: ${why}` : [])),
    ),
  );
  if (reasons.size) console.log('\nLeft out:');
  for (const reason of reasons) console.log(`  ${reason}`);
}

ensurePackages();
installBrowsers(engines.filter((engine) => !findBrowser(engine)));
const missing = engines.filter((engine) => !findBrowser(engine));
for (const engine of missing)
  console.log(`\n${engine} was not found, and could not be installed. ${howToInstall(engine)}`);
const files = engines.filter((engine) => !missing.includes(engine)).flatMap(filesOf);
const { isOk, report } = files.length ? runTests(files) : { isOk: false, report: {} };
if (files.length) print(tabulate(report));
const { numPassedTests = 0, numFailedTests = 0 } = report;
const { length: left } = missing;
console.log(`\n${numPassedTests} passed, ${numFailedTests} failed${left ? `, ${missing.join(', ')} not found` : ''}`);
process.exitCode = isOk && !left ? 0 : 1;
