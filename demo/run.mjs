// `npm run demo`: onboarding that survives a killed process, then the same in the browser. `--once`: the first part only.
import { fileURLToPath } from 'node:url';
import { ensureBuilt } from './build.mjs';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));

try {
  ensureBuilt();
  // Imported late: on a fresh clone there is nothing to import before.
  const { playNode } = await import('./node/scene.mjs');
  if (!(await playNode())) throw new Error('Something was not as promised: see the lines marked with ✗.');
  console.log('\nAll as promised: no completed step ran twice.');
  if (!process.argv.includes('--once')) {
    const { buildWebDemo, serveWebDemo } = await import('./web/serve.mjs');
    await buildWebDemo();
    const { url } = await serveWebDemo();
    console.log(`\nThe same in your browser:  ${url}\n\nReload it, crash it, open it twice. Ctrl+C ends.`);
  }
} catch (error) {
  console.error(`\nThe demo failed. ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
