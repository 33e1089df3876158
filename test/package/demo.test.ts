import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';

/*
 * Pins: `npm run demo` does what the README says of it; its browser part survives a reload, a crash and a day.
 */

const root = fileURLToPath(new URL('../..', import.meta.url));
const setup = new URL('../../scripts/setup.mjs', import.meta.url).href;
const { findChromium } = (await import(setup)) as { findChromium(): string | undefined };
const executablePath = process.env.STEPFAST_SKIP_BROWSERS === '1' ? undefined : findChromium();

it('npm run demo -- --once shows a run that outlives its process, and ends well', () => {
  const { status, stdout, stderr } = spawnSync('npm', ['run', 'demo', '--', '--once'], { cwd: root, encoding: 'utf8' });
  expect(status, stdout + stderr).toBe(0);
  const timeline = stdout.slice(stdout.indexOf('The timeline'), stdout.indexOf('What the outside'));
  const words = timeline.split('\n').flatMap((line) => /^ *\+\d+\.\d\d s {2}(.+?)(?: {2}|$)/.exec(line)?.[1] ?? []);
  expect(words).toEqual([
    'started',
    'claimed by worker A',
    'create-user ✓',
    'killed here',
    'claimed by worker B',
    'send-verification-email ✓',
    'waits for email.verified',
    'event taken',
    'unlock-account ✓',
    'completed',
  ]);
  expect(stdout).toMatch(/create-user +begun 1×, done 1×/);
  expect(stdout).toMatch(/send-verification-email +begun 2×, done 1×/);
  expect(stdout).toMatch(/unlock-account +begun 1×, done 1×/);
  expect(stdout).not.toContain('✗');
  expect(stdout).toContain('All as promised: no completed step ran twice.');
});

describe.skipIf(!executablePath)('the browser demo (left out where there is no Chromium)', () => {
  let demo: ChildProcess;
  let browser: Browser;
  let url: string;
  let page: Page;
  let troubles: string[];

  beforeAll(async () => {
    demo = spawn(process.execPath, ['demo/run.mjs'], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
    url = await new Promise((resolve, reject) => {
      let said = '';
      demo.stdout!.setEncoding('utf8').on('data', (text: string) => {
        said += text;
        const found = /http:\/\/localhost:\d+\//.exec(said);
        if (found) resolve(found[0]);
      });
      demo.once('exit', () => reject(new Error(`The demo ended before it served anything.\n${said}`)));
    });
    browser = await chromium.launch({ executablePath: executablePath!, args: ['--no-sandbox', '--disable-gpu'] });
  });
  afterAll(async () => {
    await browser?.close();
    demo?.kill();
  });
  beforeEach(async () => {
    const context = await browser.newContext(); // a profile of its own: nothing of an earlier test
    page = await context.newPage();
    troubles = [];
    page.on('pageerror', (error) => troubles.push(String(error)));
    page.on('console', (message) => {
      if (message.type() === 'error') troubles.push(message.text());
    });
    await page.goto(url);
    return () => context.close();
  });

  const live = (step: string) => page.waitForSelector(`.row.live:has-text("${step}")`);
  const called = (step: string) => page.getAttribute(`[data-step="${step}"]`, 'data-calls');
  const tookEffect = (step: string) => page.getAttribute(`[data-step="${step}"]`, 'data-done');
  const titles = (of: Page) => of.locator('.timeline .title').allTextContents();

  it('is served under a policy that forbids everything from elsewhere and all that is inline', async () => {
    const response = await page.request.get(url);
    expect(response.headers()['content-security-policy']).toBe("default-src 'self'");
  });

  it.each(['reload', 'crash'])('a %s in the middle of a step repeats that step and no other', async (disturbance) => {
    await page.click('#sign-up');
    await live('send-verification-email');
    await page.click(`#${disturbance}`);
    await live('send-verification-email');
    await page.click('#verify:enabled');
    await page.waitForSelector('text=Welcome, Ada Lovelace.');

    expect(await called('create-user')).toBe('1');
    expect(await called('send-verification-email')).toBe('2');
    expect(await called('unlock-account')).toBe('1');
    for (const step of ['create-user', 'send-verification-email', 'unlock-account'])
      expect(await tookEffect(step)).toBe('1');
    expect(await titles(page)).toEqual([
      'Started',
      'Claimed by page 1',
      'create-user',
      'Page 2 goes on',
      'send-verification-email',
      'Waits for email.verified',
      'email.verified arrived',
      'unlock-account',
      'Completed',
    ]);
    expect(troubles).toEqual([]);
  });

  it('a day later the run has failed; a retry in one tab and a click in another complete it, and both show it', async () => {
    await page.click('#sign-up');
    await page.waitForSelector('#verify:enabled');
    await page.click('#fast-forward');
    await page.waitForSelector('text=The link has expired.');
    await page.click('#retry');
    await page.waitForSelector('#verify:enabled');

    const opened = page.context().waitForEvent('page');
    await page.click('#second-tab');
    const second = await opened;
    await second.click('#verify:enabled');
    await page.waitForSelector('text=Welcome, Ada Lovelace.');
    await second.waitForSelector('text=Welcome, Ada Lovelace.');

    expect(await titles(second)).toEqual(await titles(page));
    for (const step of ['create-user', 'send-verification-email', 'unlock-account'])
      expect(await called(step)).toBe('1');
    expect(troubles).toEqual([]);
  });
});
