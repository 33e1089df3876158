// The README's test command: `npm test`. Sets up what it needs, runs everything, ends with `N passed, N failed`.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { ENGINES, ensurePackages, findBrowser, howToInstall, installBrowsers, run } from './setup.mjs';

const skipsBrowsers = process.env.STEPFAST_SKIP_BROWSERS === '1';
const results = { passed: 0, failed: 0, skipped: 0 };
/** What failed, said once more at the end: the beginning of a long output is often cut off. */
const failures = [];

function check(title, command, args, options) {
  console.log(`\n== ${title}`);
  const ok = run(command, args, options);
  results[ok ? 'passed' : 'failed']++;
  if (!ok) failures.push(title);
  return ok;
}

function tests(title, projects) {
  console.log(`\n== ${title}`);
  const folder = mkdtempSync(join(tmpdir(), 'stepfast-results-'));
  const file = join(folder, 'results.json');
  const only = projects.flatMap((project) => ['--project', project]);
  const args = [
    'node_modules/vitest/vitest.mjs',
    'run',
    ...only,
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${file}`,
  ];
  const { status } = spawnSync(process.execPath, args, { stdio: 'inherit' });
  const counts = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
  rmSync(folder, { recursive: true });
  results.passed += counts.numPassedTests ?? 0;
  results.failed += counts.numFailedTests ?? 0;
  results.skipped += (counts.numPendingTests ?? 0) + (counts.numTodoTests ?? 0);
  failures.push(...failedTests(counts));
  // A file that can not be loaded, or an error outside of a test, fails no test by itself.
  if (status !== 0 && !counts.numFailedTests) {
    results.failed++;
    failures.push(`${title}: a file that can not be loaded, or an error outside of a test`);
  }
}

/** Each failed test of a report: where it stands, its name, and the head of its message. */
function failedTests({ testResults = [] }) {
  return testResults.flatMap(({ name, assertionResults }) =>
    assertionResults
      .filter((test) => test.status === 'failed')
      .map((test) => {
        const head = (test.failureMessages[0] ?? '').split('\n').slice(0, 12).join('\n    ');
        return `${relative('.', name)} > ${test.fullName}\n    ${head}`;
      }),
  );
}

ensurePackages();
const bin = (name) => join('node_modules', '.bin', name);
check('types', bin('tsc'), ['-p', 'tsconfig.json']);
check('types of the core, without any platform', bin('tsc'), ['-p', 'tsconfig.core.json']);
check('lint and format', bin('biome'), ['check', '.']);
const isBuilt = check('build', bin('tsup'), ['--silent']);

const projects = ['unit'];
if (isBuilt && statSync('test/package', { throwIfNoEntry: false })) projects.push('package');
if (skipsBrowsers) {
  console.log('\nSTEPFAST_SKIP_BROWSERS=1: the suites in real browsers are left out.');
  results.skipped++;
} else {
  const isMissing = (engine) => !findBrowser(engine);
  installBrowsers(ENGINES.filter(isMissing));
  // Where one of the others is missing, it is left out here; that is a failure of `npm run test:browsers`.
  for (const engine of ENGINES.filter(isMissing)) {
    const isNeeded = engine === 'chromium';
    console.log(`\nNo ${engine} was found, and none could be installed${isNeeded ? '' : ': it is left out'}.`);
    console.log(`${howToInstall(engine)} STEPFAST_SKIP_BROWSERS=1 leaves all browsers out.`);
    if (!isNeeded) continue;
    results.failed++;
    failures.push('the suite in real Chromium: no Chromium');
  }
  if (!isMissing('chromium')) projects.push('browser');
  projects.push('browsers');
}
for (const project of projects) tests(`tests: ${project}`, [project]);
check('proofs (npm run prove)', process.execPath, ['scripts/prove.mjs']);

for (const failure of failures) console.log(`\nFAILED: ${failure}`);
const skipped = results.skipped ? `, ${results.skipped} skipped` : '';
console.log(`\n${results.passed} passed, ${results.failed} failed${skipped}`);
process.exitCode = results.failed ? 1 : 0;
