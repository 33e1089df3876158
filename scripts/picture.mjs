// `npm run picture`: drives the browser demo through a crash and writes docs/demo.png.
import { statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ensureBuilt } from '../demo/build.mjs';
import { findChromium } from './setup.mjs';

const FILE = 'docs/demo.png';
const MAX_BYTES = 300_000;

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
ensureBuilt();
const executablePath = findChromium();
if (!executablePath) throw new Error('No Chromium found. Install it, or name it in STEPFAST_CHROMIUM.');

const { chromium } = await import('playwright-core');
const { buildWebDemo, serveWebDemo } = await import('../demo/web/serve.mjs');
await buildWebDemo();
const site = await serveWebDemo();
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
try {
  const page = await browser.newPage({
    viewport: { width: 1100, height: 860 },
    deviceScaleFactor: 1.5,
    colorScheme: 'light',
    reducedMotion: 'reduce',
  });
  const signUp = async (name, email) => {
    await page.fill('#name', name);
    await page.fill('#email', email);
    await page.click('#sign-up');
  };
  const waits = () => page.waitForSelector('#verify:enabled');

  await page.goto(site.url);
  await signUp('Grace Hopper', 'grace@example.com');
  await waits();
  await page.click('#start-over');
  await signUp('Ada Lovelace', 'ada@example.com');
  await page.waitForSelector('.row.live:has-text("send-verification-email")');
  await page.click('#crash');
  await waits();
  await page.click('#verify');
  await page.waitForSelector('.said.done');
  await page.mouse.move(0, 0);
  await page.evaluate(() => {
    document.activeElement?.blur();
    scrollTo(0, 0);
  });
  await page.screenshot({ path: FILE, fullPage: true });
} finally {
  await browser.close();
  await site.close();
}
const { size } = statSync(FILE);
console.log(`${FILE}: ${Math.round(size / 1_000)} kB`);
if (size > MAX_BYTES) throw new Error(`${FILE} is larger than ${MAX_BYTES / 1_000} kB.`);
