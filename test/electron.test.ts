import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { type Desktop, runApp } from '../demo/electron/src/app.js';
import { connectStepfast } from '../plugins/bridge/index.js';
import { cleanup, eventually, failureOf, until } from './bridge-kit.js';
import { freshFolder } from './harness.js';

/*
 * Pins: the main process of the Electron demo, in Node: real files, a real MessageChannel for each window. Electron itself is
 * played by a few functions; its binary is not run.
 */

/** One launch of the app. `windows[n].load()` is what a page does when it has been loaded: it gets its port. */
function launch(userData: string, isFirst = true) {
  const calls: string[] = [];
  const windows: { load(): ReturnType<typeof connectStepfast>; close(): void }[] = [];
  let secondInstance: () => void = () => undefined;
  let beforeQuit: Parameters<Desktop['onBeforeQuit']>[0] = () => undefined;
  let hasEnded: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => (hasEnded = resolve));
  const desktop: Desktop = {
    userData,
    requestSingleInstanceLock: () => isFirst,
    ready: async () => undefined,
    onSecondInstance: (callback) => (secondInstance = callback),
    onBeforeQuit: (callback) => (beforeQuit = callback),
    quit() {
      let isPrevented = false;
      beforeQuit({ preventDefault: () => (isPrevented = true) });
      calls.push(isPrevented ? 'quit was put off' : 'quit');
      if (!isPrevented) hasEnded();
    },
    newChannel: () => new MessageChannel(),
    openWindow() {
      let loaded: () => void = () => undefined;
      let closed: () => void = () => undefined;
      let port: MessagePort | undefined;
      windows.push({
        load() {
          port?.close();
          loaded();
          const client = connectStepfast(port!, { onLost: ({ code }) => calls.push(code) });
          cleanup(() => client.close());
          return client;
        },
        close: () => closed(),
      });
      return {
        onLoaded: (callback) => (loaded = callback),
        onClosed: (callback) => (closed = callback),
        send: (sent) => (port = sent as MessagePort),
        focus: () => calls.push('focus'),
      };
    },
  };
  const quit = async () => {
    desktop.quit();
    await ended;
  };
  return { running: runApp(desktop), windows, calls, quit, second: () => secondInstance() };
}

const lockOf = (userData: string) => {
  const folder = join(userData, 'runs', 'lock');
  const [name] = readdirSync(folder).filter((each) => each.endsWith('.json'));
  return JSON.parse(readFileSync(join(folder, name!), 'utf8')).state as string;
};

it('O5: a draft of one window is approved in the other, and both see it published', async () => {
  const userData = freshFolder();
  const { running, windows, quit } = launch(userData);
  await running;
  const [one, two] = windows.map((window) => window.load());
  const handle = await one!.start('publish', { title: 'On ports' });
  await until(two!.runs, handle.id, 'waiting');
  expect((await two!.dispatch('approved', undefined, { correlationKey: handle.id })).resumed).toEqual([handle.id]);
  expect(await handle.result()).toEqual({ published: 'On ports' });
  await until(two!.runs, handle.id, 'completed');
  expect(readFileSync(join(userData, 'published.txt'), 'utf8')).toMatch(/^On ports \(/);
  await quit();
});

it('O3: quitting is put off until runs and folder are let go of; the next launch goes on', async () => {
  const userData = freshFolder();
  const first = launch(userData);
  await first.running;
  const [page] = first.windows.map((window) => window.load());
  const { id } = await page!.start('publish', { title: 'Later' });
  await until(page!.runs, id, 'waiting');
  await first.quit();
  expect(first.calls).toEqual(['quit was put off', 'quit']);
  expect(lockOf(userData)).toBe('released');
  const second = launch(userData);
  await second.running;
  const [again] = second.windows.map((window) => window.load());
  await again!.dispatch('approved', undefined, { correlationKey: id });
  await until(again!.runs, id, 'completed');
  const timeline = await again!.runs.timeline(id);
  expect(timeline.filter(({ interrupted }) => interrupted)).toEqual([]);
  await second.quit();
});

it('O3: a second instance opens nothing and quits; the first one shows itself', async () => {
  const userData = freshFolder();
  const first = launch(userData);
  await first.running;
  const other = launch(userData, false);
  await other.running;
  expect([other.calls, other.windows]).toEqual([['quit'], []]);
  first.second();
  expect(first.calls).toEqual(['focus']);
  await first.quit();
});

it('O5: a window that is reloaded gets a port of its own, and one that is closed is served no more', async () => {
  const { running, windows, calls, quit } = launch(freshFolder());
  await running;
  const before = windows[0]!.load();
  const { id } = await before.start('publish', { title: 'Again' });
  const after = windows[0]!.load();
  await eventually(() => calls.includes('PORT_LOST'));
  expect(await failureOf(before.runs.get(id))).toMatchObject({ code: 'PORT_LOST' });
  await until(after.runs, id, 'waiting');
  windows[0]!.close();
  await eventually(() => calls.filter((call) => call === 'PORT_LOST').length === 2);
  expect((await windows[1]!.load().runs.list()).runs.map((run) => run.id)).toEqual([id]);
  await quit();
});
