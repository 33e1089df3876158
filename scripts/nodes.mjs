// `npm run test:nodes`: the tests of behaviour on later releases of Node, or on those that are named; npm fetches them.
import { ensurePackages, run } from './setup.mjs';

const named = process.argv.slice(2);
const versions = named.length ? named : ['22.23.3', '24.21.0'];

ensurePackages();
const rows = versions.map((version) => {
  console.log(`\n== Node ${version}`);
  const node = ['-y', '-p', `node@${version}`, 'node'];
  return { version, ok: run('npx', [...node, 'node_modules/vitest/vitest.mjs', 'run', '--project', 'unit']) };
});
console.log();
for (const { version, ok } of rows) console.log(`Node ${version}: ${ok ? 'passed' : 'FAILED'}`);
process.exitCode = rows.every(({ ok }) => ok) ? 0 : 1;
