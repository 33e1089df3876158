import 'fake-indexeddb/auto';
import './fake-locks.js';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { describe, expect, it, vi } from 'vitest';
import { createFileStore } from '../adapters/file/store.js';
import { indexedDBStore } from '../adapters/indexeddb/index.js';
import { createStepfast, type FailedContext, type Stepfast, type Store } from '../src/index.js';
import { simulatedClock } from '../src/testing/clock.js';
import { freshFolder, freshName, onEveryStore, world } from './harness.js';

/*
 * Pins: what SECURITY.md says is tested here. Hostile input comes by ids, names, keys, payloads, files and messages.
 */

const root = join(import.meta.dirname, '..');

/** Texts that have broken path handling, shells, parsers and comparisons of names elsewhere. */
const HOSTILE = [
  ...['.', '..', '...', '../x', '../../../../etc/passwd', '/etc/passwd', '/', '//', './', '~', '~root', 'a/../../b'],
  ...[
    '..\\x',
    '..\\..\\windows\\system32',
    'C:\\',
    'C:',
    'c:x',
    '\\\\server\\share',
    '\\\\?\\C:\\x',
    '%2e%2e%2f',
    '..%c0%af',
  ],
  ...[
    'file:///etc/passwd',
    'a:b',
    'a:b:$DATA',
    'x::$INDEX_ALLOCATION',
    'name.',
    'name ',
    ' name',
    'name..',
    'NAME',
    'name',
  ],
  ...['CON', 'con', 'PRN', 'AUX', 'NUL', 'nul.txt', 'COM1', 'com1.json', 'LPT1', 'CONIN$', 'CLOCK$', 'desktop.ini'],
  ...['a\0b', '\0', 'a\nb', '\r\n', '\t', '\u001b[31m', '\u007f', '\u0085', '\u2028', '\ufeff', '\ufffe', '\uffff'],
  ...[
    'é',
    'e\u0301',
    'ﬀ',
    'ff',
    'ß',
    'SS',
    'ı',
    'İ',
    'K',
    '\u212a',
    '\u202etxt.exe',
    '\ud83d\ude00',
    '\ud800',
    '\udc00',
    '\udfff',
  ],
  ...[
    '*',
    '?',
    '<x>',
    '"',
    "'",
    '`id`',
    '$(id)',
    '; rm -rf .',
    '| cat',
    '& dir',
    '-rf',
    '--help',
    '#',
    '{}',
    '[]',
    'x;y',
  ],
  ...[
    '__proto__',
    'constructor',
    'prototype',
    'toString',
    'hasOwnProperty',
    'valueOf',
    'null',
    'undefined',
    'NaN',
    '0',
    '-1',
  ],
  ...['log', 'lock', 'runs', 'keys', 'ended.jsonl', '00000001.jsonl', '1.json', 'x.tmp', 'x.corrupt', '.git', '.env'],
  ...[
    '["a","b"]',
    '{"v":1,"n":1}',
    '<script>alert(1)</script>',
    "' OR 1=1 --",
    '{{7*7}}',
    '%s%n',
    'x'.repeat(256),
    '😀'.repeat(128),
  ],
];

const filesUnder = (dir: string): string[] =>
  readdirSync(dir, { recursive: true, withFileTypes: true }).map(({ parentPath, name }) => join(parentPath, name));

/** Runs of these ids, each with a step whose result says whose it is. */
async function runsOf(stepfast: Stepfast, ids: readonly string[]): Promise<void> {
  stepfast.job('job', async ({ step, run }) => step.run('say', () => run.id));
  const handles = await Promise.all(
    ids.map((id) => stepfast.start('job', undefined, { id, idempotencyKey: `key of ${id}`.slice(0, 256) })),
  );
  for (const [index, handle] of handles.entries()) expect(await handle.result()).toBe(ids[index]);
}

onEveryStore('B: hostile ids', (medium) => {
  it('are data: each run is found by its own id, and by no other', async () => {
    const stepfast = world(medium).engine();
    const ids = HOSTILE.filter((id) => id.length <= 240);
    await runsOf(stepfast, ids);
    for (const id of ids) expect((await stepfast.runs.get(id))?.result).toBe(id);
    expect(new Set((await stepfast.runs.list({ limit: 1_000 })).runs.map(({ id }) => id))).toEqual(new Set(ids));
  });
});

describe('hostile ids and the file system', () => {
  it('B: never become paths, in the log or in the archive', async () => {
    const outer = freshFolder();
    const dir = join(outer, 'store');
    const stepfast = createStepfast({ store: createFileStore({ dir }, { compactAt: 1_000 }), clock: simulatedClock() });
    const ids = HOSTILE.filter((id) => id.length <= 240);
    await runsOf(stepfast, ids);
    for (const id of ids) await stepfast.dispatch('hostile', id, { correlationKey: id, idempotencyKey: id });
    await stepfast.close();
    expect(readdirSync(outer)).toEqual(['store']);
    const names = filesUnder(dir).map((path) => path.slice(dir.length + 1));
    expect(names.filter((name) => name.startsWith('runs/') && name.endsWith('.json')).length).toBeGreaterThan(30);
    const known =
      /^(log|lock|inbox|outbox|runs|keys|ended\.jsonl|(runs|keys)\/[0-9a-f]{2}(\/[0-9a-f]{64}u?\.json)?|log\/\d{8}\.jsonl|lock\/\d+\.json)$/;
    expect(names.filter((name) => !known.test(name))).toEqual([]);
  });

  it('files are 0600 and folders 0700, though the umask hides nothing', async () => {
    const dir = join(freshFolder(), 'made', 'here');
    const umask = process.umask(0);
    try {
      const stepfast = createStepfast({
        store: createFileStore({ dir }, { compactAt: 1_000 }),
        clock: simulatedClock(),
      });
      await runsOf(stepfast, ['a', 'b', 'c', 'd', 'e']);
      await stepfast.close();
    } finally {
      process.umask(umask);
    }
    for (const path of [dir, ...filesUnder(dir)]) {
      const found = statSync(path);
      expect([path, (found.mode & 0o777).toString(8)]).toEqual([path, found.isDirectory() ? '700' : '600']);
    }
  });

  it.each([
    'link',
    'pipe',
    'folder',
  ])('a %s in the place of any file is refused by its name, and what is outside stays', async (kind) => {
    const outside = join(freshFolder(), 'outside');
    writeFileSync(outside, 'not yours');
    for (const place of ['log/00000001.jsonl', 'lock/1.json']) {
      const dir = join(freshFolder(), 'store');
      mkdirSync(join(dir, place, '..'), { recursive: true });
      const path = join(dir, place);
      if (kind === 'link') symlinkSync(outside, path);
      else if (kind === 'pipe') execFileSync('mkfifo', [path]);
      else mkdirSync(path);
      const stepfast = createStepfast({ store: createFileStore({ dir }), clock: simulatedClock(), onError: () => {} });
      stepfast.job('job', () => undefined);
      await expect(stepfast.ready()).rejects.toMatchObject({
        code: 'STORE_UNAVAILABLE',
        message: expect.stringContaining(place),
      });
      await stepfast.close();
    }
    expect(readFileSync(outside, 'utf8')).toBe('not yours');
  });
});

onEveryStore('D7: names of prototypes', (medium) => {
  it('are data in payloads, events, results and state, and as names; no prototype changes', async () => {
    const before = Object.getOwnPropertyNames(Object.prototype).sort();
    const hostile = JSON.parse(
      '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"toString":1}',
    ) as object;
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf'];
    const stepfast = world(medium).engine();
    for (const name of names)
      stepfast.job<object>(name, async ({ payload, step }) => {
        const event = await step.waitForEvent<object>(name, { correlationKey: name });
        return step.run(name, async ({ state }) => {
          await state.set(name, hostile);
          return [payload, event.payload];
        });
      });
    for (const name of names) {
      const run = await stepfast.start(name, hostile, { id: name, idempotencyKey: name });
      await stepfast.dispatch(name, hostile, { correlationKey: name, idempotencyKey: name });
      const result = (await run.result()) as object[];
      for (const value of [...result, (await stepfast.state.get(name)) as object]) {
        expect(Object.keys(value)).toEqual(Object.keys(hostile));
        expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
        expect(JSON.stringify(value)).toBe(JSON.stringify(hostile));
      }
    }
    expect(Object.getOwnPropertyNames(Object.prototype).sort()).toEqual(before);
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
  });
});

onEveryStore('V4: a secret', (medium) => {
  it('in payloads, events, results, state and progress is in no error, warning or report of the library', async () => {
    const SECRET = 'canary-4f1d';
    const said: unknown[] = [];
    const spies = (['warn', 'error', 'log', 'info', 'debug'] as const).map((name) =>
      vi.spyOn(console, name).mockImplementation((...words) => void said.push(words)),
    );
    const w = world(medium);
    const stepfast = w.engine(undefined, { maxValueBytes: 2_000, onError: (error) => void said.push(error) });
    const refused = async (work: () => unknown, code: string) => {
      const error = await (async () => work())().catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code });
      said.push(error);
    };
    const schema = {
      '~standard': { version: 1 as const, vendor: 'test', validate: () => ({ issues: [{ message: 'wrong' }] }) },
    };
    stepfast.job('strict', { payload: schema as never }, () => undefined);
    const job = stepfast.job<unknown>('job', { retry: { maxAttempts: 1 } }, async ({ payload, step }) => {
      await step.run('big', () => ({ payload, more: SECRET.repeat(1_000) }));
    });
    await refused(() => stepfast.start('strict', SECRET), 'INVALID_PAYLOAD');
    await refused(() => stepfast.start(job, { secret: SECRET, fn: () => SECRET }), 'NOT_SERIALIZABLE');
    await refused(() => stepfast.start(job, SECRET.repeat(1_000)), 'VALUE_TOO_LARGE');
    await stepfast.start(job, SECRET, { idempotencyKey: 'k' });
    await refused(() => stepfast.start(job, `${SECRET} 2`, { idempotencyKey: 'k' }), 'IDEMPOTENCY_CONFLICT');
    await stepfast.dispatch('e', SECRET, { idempotencyKey: 'k' });
    await refused(() => stepfast.dispatch('e', `${SECRET} 2`, { idempotencyKey: 'k' }), 'IDEMPOTENCY_CONFLICT');
    await refused(() => stepfast.dispatch('e', SECRET, { runId: 'nobody' }), 'RUN_NOT_FOUND');
    await stepfast.state.set('secret', SECRET);
    await refused(() => stepfast.state.increment('secret'), 'NOT_A_NUMBER');
    await w.clock.idle();
    const failed = (await stepfast.runs.list({ status: 'failed' })).runs;
    expect(failed).toHaveLength(1);
    said.push(failed[0]?.error);
    const told = said
      .flatMap((each) => [each, (each as Error)?.cause])
      .map((each) => `${String(each)} ${(each as Error)?.stack} ${JSON.stringify(each)}`);
    for (const spy of spies) spy.mockRestore();
    expect(told.filter((text) => text.includes(SECRET))).toEqual([]);
  });

  it('that a schema quotes (valibot does) is in its issues, as they were thrown, and nowhere else', async () => {
    const SECRET = 'canary-7a2e';
    const w = world(medium);
    const told: unknown[] = [];
    const validate = (value: { readonly n?: unknown }) => ({
      issues: [{ message: `Expected number but received "${value.n}"`, path: ['n'], input: value.n }],
    });
    const schema = { '~standard': { version: 1 as const, vendor: 'test', validate } } as never;
    const options = { retry: { maxAttempts: 1 }, onFailed: ({ error }: FailedContext) => void told.push(error) };
    const store = w.store();
    const commit = vi.spyOn(store, 'commit');
    const stepfast = w.engine(undefined, { store, onError: (error) => void told.push(error) });
    stepfast.job('strict', { payload: schema }, () => undefined);
    stepfast.job('result', { ...options, result: schema }, () => ({ n: SECRET }));
    stepfast.job('parent', options, ({ step }) => step.call('strict', { n: SECRET }));
    stepfast.job('waits', ({ step }) => step.waitForEvent('e', { schema, timeout: '1h', onTimeout: 'continue' }));
    const refused = await stepfast.start('strict', { n: SECRET }).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: 'INVALID_PAYLOAD', issues: [{ message: expect.stringContaining(SECRET) }] });
    told.push(`${refused} ${(refused as Error).stack}`);
    for (const job of ['result', 'parent', 'waits']) await stepfast.start(job, undefined, { id: job });
    await w.clock.idle();
    await stepfast.dispatch('e', { n: SECRET });
    await w.clock.advance('2h');
    for (const id of ['result', 'parent', 'waits'])
      told.push(await stepfast.runs.get(id), await stepfast.runs.timeline(id));
    told.push(commit.mock.calls.map(([batch]) => batch.run));
    const text = JSON.stringify(told);
    for (const said of ['does not fit its schema at $.n', 'event-skipped', '"failed"']) expect(text).toContain(said);
    expect(text.split(SECRET)).toHaveLength(1);
  });
});

describe('messages of other contexts', () => {
  it('S7: whatever comes over the channel of the store changes nothing and throws nothing', async () => {
    const name = freshName();
    const errors: unknown[] = [];
    const store: Store = indexedDBStore({ name });
    const clock = simulatedClock();
    const stepfast = createStepfast({ store, clock, onError: (error) => errors.push(error) });
    stepfast.job('job', async ({ step }) => (await step.waitForEvent('go')).payload);
    const run = await stepfast.start('job', undefined, { id: 'r' });
    await clock.idle();
    const row = JSON.stringify((await store.load('r'))?.row);
    const hostile = new BroadcastChannel(`stepfast:${name}`);
    const messages: unknown[] = [...HOSTILE, null, undefined, 1, [], {}, [['r'], 1], { runId: 'r', kind: 'completed' }];
    for (let index = 0; index < 2_000; index++) hostile.postMessage(messages[index % messages.length]);
    hostile.postMessage(JSON.parse('{"__proto__":{"polluted":1},"runId":{"toString":1}}'));
    await stepfast.state.set('after', 1);
    expect(JSON.stringify((await store.load('r'))?.row)).toBe(row);
    await stepfast.dispatch('go', 'still works');
    expect(await run.result()).toBe('still works');
    hostile.close();
    expect(errors).toEqual([]);
    await stepfast.close();
  });

  it('from other origins are listened to by nothing: no module adds a listener for `message` to the page', () => {
    const sources = ['src', 'adapters', 'plugins']
      .flatMap((folder) => filesUnder(join(root, folder)))
      .filter((path) => path.endsWith('.ts'));
    const listening = sources.filter((path) =>
      /addEventListener\(\s*['"`]message|(globalThis|window|self)\.onmessage/.test(readFileSync(path, 'utf8')),
    );
    expect(listening).toEqual([]);
  });
});

describe('what is shipped', () => {
  it('has no eval, no Function from text, no HTML from text, and no dependency that is not named', async () => {
    const { outputFiles } = await build({
      entryPoints: [
        'src/index.ts',
        'src/testing/index.ts',
        ...['memory', 'indexeddb', 'file'].map((name) => `adapters/${name}/index.ts`),
        ...['encryption', 'schedules', 'transfer'].map((name) => `plugins/${name}/index.ts`),
      ].map((path) => join(root, path)),
      outdir: join(root, 'nowhere'),
      bundle: true,
      write: false,
      format: 'esm',
      platform: 'neutral',
      packages: 'external',
      external: ['node:*'],
      legalComments: 'none',
    });
    for (const { text, path } of outputFiles)
      for (const pattern of [
        /\beval\s*\(/,
        /new Function\b/,
        /\bFunction\s*\(\s*['"`]/,
        /innerHTML|outerHTML|insertAdjacentHTML|document\.write/,
      ])
        expect([path, pattern.exec(text)?.[0]]).toEqual([path, undefined]);
    const { dependencies, scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<
      string,
      object
    >;
    expect(Object.keys(dependencies!)).toEqual(['idb', 'ms']);
    expect(Object.keys(scripts!).filter((name) => /install|^prepare$/.test(name))).toEqual([]);
  });
});

describe('floods', () => {
  it('E7: of events on one pair, of huge values and of long texts are refused, in a process with 64 MB of heap', async () => {
    const folder = freshFolder();
    const outfile = join(folder, 'flood.mjs');
    const contents = `
      import { createStepfast } from ${JSON.stringify(join(root, 'src/index.ts'))};
      import { fileStore } from ${JSON.stringify(join(root, 'adapters/file/index.ts'))};
      const stepfast = createStepfast({ store: fileStore({ dir: ${JSON.stringify(join(folder, 'store'))}, durability: 'relaxed' }) });
      stepfast.job('job', () => undefined);
      const codes = {};
      const refused = async (work) => {
        const code = await work().then(() => 'accepted', ({ code }) => code ?? 'no code');
        codes[code] = (codes[code] ?? 0) + 1;
      };
      for (let round = 0; round < 30; round++)
        await Promise.all(Array.from({ length: 100 }, () => refused(() => stepfast.dispatch('flood', 'x'.repeat(2_000)))));
      for (let round = 0; round < 20; round++) await refused(() => stepfast.start('job', 'x'.repeat(8 << 20)));
      for (const text of ['1'.repeat(50_000), '1 '.repeat(50_000), '9'.repeat(50_000) + 'd'])
        await refused(() => stepfast.start('job', 0, { delay: text }));
      await refused(() => stepfast.start('job', 0, { id: 'x'.repeat(50_000) }));
      await stepfast.close();
      console.log(JSON.stringify(codes));`;
    await build({
      stdin: { contents, resolveDir: root, loader: 'ts' },
      bundle: true,
      platform: 'node',
      format: 'esm',
      packages: 'bundle',
      outfile,
      logLevel: 'error',
    });
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--max-old-space-size=64', outfile], {
      encoding: 'utf8',
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual({
      accepted: 1_000,
      EVENT_BACKLOG_FULL: 2_000,
      VALUE_TOO_LARGE: 20,
      INVALID_DURATION: 3,
      INVALID_ID: 1,
    });
  });
});
