import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, posix } from 'node:path';
import { createContext, runInContext } from 'node:vm';
import { build } from 'esbuild';
import ts from 'typescript';
import { afterAll, describe, expect, it } from 'vitest';
import { entriesOf, freshProject, root } from './fresh-project.js';

// Pins: what the packed tarball holds, and that it works where it is unpacked: in Node, and in bundles for browsers.

const project = freshProject();
const entries = entriesOf(project.manifest);
const textOf = (file: string) => readFileSync(join(project.installed, file), 'utf8');
afterAll(project.remove);

describe('the packed files', () => {
  /** What an entry leads to: its imports, types, and the map of each. */
  function reachable(): string[] {
    const found = new Set<string>();
    const visit = (file: string) => {
      if (found.has(file)) return;
      found.add(file);
      const text = textOf(file);
      const near = ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => fileName);
      const map = /^\/\/# sourceMappingURL=(.+)$/m.exec(text)?.[1];
      if (map) found.add(posix.join(posix.dirname(file), map));
      for (const name of near.filter((each) => each.startsWith('.'))) {
        const target = posix.join(posix.dirname(file), name);
        visit(file.endsWith('.d.ts') ? target.replace(/\.js$/, '.d.ts') : target);
      }
    };
    for (const entry of entries) for (const file of [entry.types, entry.default]) visit(posix.normalize(file));
    return [...found];
  }

  it('are what the entries lead to, the three pages and those of docs/, and package.json, and nothing else', () => {
    const pages = ['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json'];
    const docs = readdirSync(join(root, 'docs')).flatMap((name) => (name.endsWith('.md') ? `docs/${name}` : []));
    expect(docs.length).toBeGreaterThan(15);
    expect(project.files).toEqual([...pages, ...docs, ...reachable()].sort());
  });

  it('hold every page of docs/ that the README and those pages link to', () => {
    const missing = project.files
      .filter((file) => file.endsWith('.md'))
      .flatMap((page) => {
        const targets = [...textOf(page).matchAll(/\]\(([^)#:]+\.md)\)/g)].map(([, target]) => target!);
        const paths = targets.map((target) => posix.join(posix.dirname(page), target));
        return paths.filter((path) => /^docs\/[^/]+$/.test(path) && !project.files.includes(path));
      });
    expect(missing).toEqual([]);
  });

  it('bring maps that hold the sources they speak of', () => {
    const maps = project.files.filter((file) => file.endsWith('.map'));
    expect(maps.length).toBeGreaterThan(4);
    for (const file of maps) {
      const map = JSON.parse(textOf(file)) as { sources: string[]; sourcesContent?: (string | null)[] };
      for (const [index, source] of map.sources.entries()) {
        expect(source, file).toMatch(/^\.\.\/(src|adapters|plugins)\/[\w/-]+\.ts$/);
        expect(map.sourcesContent?.[index], `${file}: ${source}`).toBe(readFileSync(join(root, 'x', source), 'utf8'));
      }
    }
  });

  it('run nothing when they are installed', () => {
    const { scripts = {} } = project.manifest;
    const atInstall = ['preinstall', 'install', 'postinstall', 'prepublish', 'preprepare', 'prepare', 'postprepare'];
    expect(Object.keys(scripts).filter((name) => atInstall.includes(name))).toEqual([]);
    expect(project.files.filter((file) => file.endsWith('.gyp'))).toEqual([]);
  });
});

describe('no machine is named', () => {
  /** Folders that only the author has, and where packages were fetched from. */
  const traces: readonly (readonly [what: string, pattern: RegExp])[] = [
    ['a path of this machine', new RegExp(`(?<![\\w.-])(${[root, homedir()].map(literal).join('|')})`)],
    ['an absolute path', /(?<![\w.:*})/-])\/(work|root|home|Users|tmp|var\/folders)\/[\w.@-]/],
    ['a Windows path', /\b[A-Z]:\\{1,2}Users\\/],
    ['a package registry', /npm[j]s\.|\b(registry|artifactory|nexus|verdaccio)\.[a-z0-9-]+\.[a-z]{2,}/i],
    ['where a package was fetched from', /"resolved": "[a-z+]+:\/\/|_auth[T]oken|^\s*registry\s*=/m],
  ];
  function literal(text: string): string {
    return text.replace(/\/$/, '').replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
  }
  const tracesIn = (name: string, text: string) =>
    traces.flatMap(([what, pattern]) => {
      const found = pattern.exec(text)?.[0];
      return found === undefined ? [] : [`${name} holds ${what}: ${found}`];
    });

  it('in a packed file', () => {
    expect(project.files.flatMap((file) => tracesIn(file, textOf(file)))).toEqual([]);
  });

  const git = spawnSync('git', ['ls-files', '-z'], { cwd: root, encoding: 'utf8' });
  it.skipIf(git.status !== 0)('in a file of the repository (left out where there is no git)', () => {
    const files = git.stdout.split('\0').filter((file) => file && ts.sys.fileExists(join(root, file)));
    expect(files.length).toBeGreaterThan(50);
    // As bytes: a picture can name a machine as well.
    expect(files.flatMap((file) => tracesIn(file, readFileSync(join(root, file), 'latin1')))).toEqual([]);
  });

  it('and one that were named would be found', () => {
    const named = [
      `${root}src`,
      `file://${homedir()}/a`,
      `"${'/ho'}me/ada/x"`,
      `C:${'\\Us'}ers\\ada`,
      `https://${'regis'}try.example.com`,
    ];
    expect(named.filter((text) => tracesIn('it', text).length === 0)).toEqual([]);
    expect(tracesIn('it', 'https://example.com/home/ada, src/root/x, ./tmp/x, "/tmp"')).toEqual([]);
  });
});

describe('in Node', () => {
  const sourceOf = (types: string) =>
    ({
      './dist/index.d.ts': 'src/index.ts',
      './dist/testing.d.ts': 'src/testing/index.ts',
    })[types] ??
    ['adapters', 'plugins']
      .map((folder) => `${folder}/${posix.basename(types, '.d.ts')}/index.ts`)
      .find((file) => existsSync(join(root, file)))!;
  const namesSaid = (stdout: string) => JSON.parse(stdout) as Record<string, string[]>;
  const specifiers = JSON.stringify(entries.map(({ specifier }) => specifier));

  it('every entry of the export map is there, and package.json is', () => {
    expect(entries.map(({ specifier }) => specifier).sort()).toEqual([
      'stepfast',
      'stepfast/bridge',
      'stepfast/encryption',
      'stepfast/file',
      'stepfast/indexeddb',
      'stepfast/memory',
      'stepfast/schedules',
      'stepfast/testing',
      'stepfast/transfer',
    ]);
    expect(project.manifest.exports['./package.json']).toBe('./package.json');
  });

  it('every class of errors has its own name, and is printed by it', () => {
    const said = project.node(
      project.write(
        'classes.mjs',
        `import * as all from 'stepfast';
         import { inspect } from 'node:util';
         const classes = Object.entries(all).filter(([name]) => name.endsWith('Error') && !name.startsWith('is'));
         console.log(JSON.stringify(classes.map(([name, Class]) => {
           const error = new Class('CLOSED', 'message');
           return [name, Class.name, error.constructor.name, error.name, /\\w+/.exec(inspect(error))[0], /\\w+/.exec(error.stack)[0]];
         })));`,
      ),
    ).stdout;
    const names = ['EventTimeoutError', 'FatalError', 'RetryableError', 'StepError', 'StepfastError'];
    expect((JSON.parse(said) as string[][]).sort()).toEqual(names.map((name) => Array(6).fill(name)));
  });

  it('import and require give the names that the sources export', async () => {
    const expected: Record<string, string[]> = {};
    for (const { specifier, types } of entries)
      expected[specifier] = Object.keys(await import(join(root, sourceOf(types)))).sort();
    expect(expected.stepfast).toContain('createStepfast'); // the lists themselves are in surface.test.ts
    const esm = project.write(
      'names.mjs',
      `const names = {};
       for (const name of ${specifiers}) names[name] = Object.keys(await import(name)).sort();
       console.log(JSON.stringify(names));`,
    );
    const cjs = project.write(
      'names.cjs',
      `const names = {};
       for (const name of ${specifiers}) names[name] = Object.keys(require(name)).filter((key) => key !== '__esModule').sort();
       console.log(JSON.stringify(names));`,
    );
    for (const script of [esm, cjs]) {
      const { stdout, stderr } = project.node(script);
      expect(namesSaid(stdout), script).toEqual(expected);
      expect(stderr, 'no warning').toBe('');
    }
  });

  it('import and require give one copy of the library', () => {
    const script = project.write(
      'copies.mjs',
      `import { createRequire } from 'node:module';
       import * as imported from 'stepfast';
       const required = createRequire(import.meta.url)('stepfast');
       console.log(required.StepfastError === imported.StepfastError);`,
    );
    expect(project.node(script).stdout).toBe('true\n');
  });

  it('what is not in the export map can not be reached', () => {
    const script = project.write(
      'inside.mjs',
      `console.log(await import('stepfast/dist/index.js').catch(({ code }) => code));`,
    );
    expect(project.node(script).stdout).toBe('ERR_PACKAGE_PATH_NOT_EXPORTED\n');
  });

  it.each(
    entries.map(({ specifier }) => specifier),
  )('importing %s touches nothing global, starts no timer and keeps no process alive', (specifier) => {
    const script = project.write(
      'quiet.mjs',
      `const shapeOf = (target) =>
           Reflect.ownKeys(target).map((key) => {
             const { get, set, value } = Object.getOwnPropertyDescriptor(target, key);
             return [key, get ?? value, set];
           });
         const targets = [globalThis, process, Object.prototype, Array.prototype, Promise.prototype, Promise, Error];
         const events = () => process.eventNames().map((name) => [name, process.listenerCount(name)]);
         const used = [];
         const watched = 'setTimeout setInterval setImmediate MessageChannel BroadcastChannel addEventListener'.split(' ');
         for (const name of watched) {
           const original = globalThis[name];
           if (original) globalThis[name] = function (...args) { used.push(name); return Reflect.apply(original, this, args); };
         }
         await import('node:fs'); // what the loader itself sets up is there before
         const before = targets.map(shapeOf);
         const heard = JSON.stringify(events());
         const resources = process.getActiveResourcesInfo().sort().join();
         await import(${JSON.stringify(specifier)});
         targets.forEach((target, index) => {
           const now = shapeOf(target);
           if (now.length !== before[index].length) used.push('a new property on target ' + index);
           now.forEach((shape, at) => shape.forEach((part, of) => {
             if (!Object.is(part, before[index][at]?.[of])) used.push('property ' + String(shape[0]) + ' of target ' + index);
           }));
         });
         if (JSON.stringify(events()) !== heard) used.push('a listener');
         const left = process.getActiveResourcesInfo().sort().join();
         if (left !== resources) used.push('a resource: ' + left);
         console.log(JSON.stringify(used));`,
    );
    expect(JSON.parse(project.node(script).stdout)).toEqual([]);
  });

  it('creating an engine does nothing either, until it is used', () => {
    const script = project.write(
      'lazy.mjs',
      `import { existsSync } from 'node:fs';
       import { createStepfast } from 'stepfast';
       import { fileStore } from 'stepfast/file';
       const stepfast = createStepfast({ store: fileStore({ dir: './never' }) });
       stepfast.job('nothing', async () => undefined);
       setImmediate(() => console.log(existsSync('./never'), process.getActiveResourcesInfo().length));`,
    );
    expect(project.node(script).stdout).toBe('false 0\n');
  });
});

describe('in a bundle for browsers', () => {
  const bundle = async (code: string, options: Parameters<typeof build>[0] = {}) => {
    const { metafile, outputFiles, warnings } = await build({
      stdin: { contents: code, resolveDir: project.dir },
      bundle: true,
      platform: 'browser',
      format: 'esm',
      target: 'es2022',
      metafile: true,
      write: false,
      logLevel: 'silent',
      ...options,
    });
    const inputs = Object.values(metafile!.inputs).flatMap(({ imports }) => imports);
    const external = inputs.filter((each) => each.external).map(({ path }) => path);
    return { text: outputFiles![0]!.text, warnings: warnings.map(({ text }) => text), external, metafile: metafile! };
  };

  /** Names that only Node has, where their value is read. */
  const nodeNamesIn = (text: string): string[] => {
    const names = ['process', 'Buffer', 'global', 'require', '__dirname', '__filename'];
    const found: string[] = [];
    const visit = (node: ts.Node): void => {
      if (ts.isIdentifier(node) && names.includes(node.text)) {
        const { parent } = node;
        const isMember =
          (ts.isPropertyAccessExpression(parent) && parent.name === node) ||
          (ts.isPropertyAssignment(parent) && parent.name === node);
        if (!isMember) found.push(node.text);
      }
      ts.forEachChild(node, visit);
    };
    visit(ts.createSourceFile('bundle.js', text, ts.ScriptTarget.ES2022, true));
    return found;
  };

  it('the engine and its IndexedDB store need no built-in module, no `process` and no polyfill', async () => {
    const { text, warnings, external, metafile } = await bundle(
      "export * from 'stepfast'; export * from 'stepfast/indexeddb'; export * from 'stepfast/memory';",
    );
    expect({ warnings, external }).toEqual({ warnings: [], external: [] });
    expect(nodeNamesIn(text)).toEqual([]);
    expect(nodeNamesIn('f(Buffer, a.process, { global: 1 }, process.env.HOME)')).toEqual(['Buffer', 'process']);
    const packages = Object.keys(metafile.inputs).map((path) => /node_modules\/([^/]+)/.exec(path)?.[1]);
    expect([...new Set(packages)].filter(Boolean).sort()).toEqual(['idb', 'ms', 'stepfast']);
  });

  it('what is not used is not in it', async () => {
    const { text } = await bundle("import 'stepfast'; import 'stepfast/indexeddb'; import 'stepfast/memory';");
    expect(text.replace(/^\s*\/\/.*$/gm, '').trim()).toBe('');
  });

  it('the file store, bundled by mistake, fails at build time with the name of the module', async () => {
    await expect(bundle("export * from 'stepfast/file'")).rejects.toThrow(/"node:fs"/);
  });

  it('a page without `process` runs a job, with nothing replaced by the bundler', async () => {
    const { text } = await bundle(
      `import { createStepfast } from 'stepfast';
       import { memoryStore } from 'stepfast/memory';
       export async function onboard() {
         const stepfast = createStepfast({ store: memoryStore() });
         const job = stepfast.job('greet', async ({ payload, step }) => {
           const name = await step.run('name', () => payload.name);
           const event = await step.waitForEvent('seen', { timeout: '24h' });
           return name + event.payload;
         });
         const run = await stepfast.start(job, { name: 'Ada' });
         await stepfast.dispatch('seen', '!');
         const result = await run.result();
         await stepfast.close();
         return result;
       }`,
      {
        format: 'iife',
        globalName: 'page',
        platform: 'neutral',
        conditions: ['browser'],
        mainFields: ['browser', 'main'],
      },
    );
    expect(text).toContain('process.env.NODE_ENV'); // guarded, or the run below would fail
    class Channel {
      readonly port1: { onmessage?: () => void } = {};
      readonly port2 = { postMessage: () => void setImmediate(() => this.port1.onmessage?.()) };
    }
    const { AbortController, TextEncoder, URL, console, crypto, structuredClone } = globalThis;
    const { clearTimeout, queueMicrotask, setTimeout } = globalThis;
    const platform = { AbortController, TextEncoder, URL, console, crypto, structuredClone, MessageChannel: Channel };
    const page = createContext({ ...platform, clearTimeout, queueMicrotask, setTimeout });
    expect(runInContext('typeof process + typeof require + typeof setImmediate', page)).toBe('undefined'.repeat(3));
    expect(await runInContext(`${text}; page.onboard()`, page)).toBe('Ada!');
  });

  it('is run from the package, not from the repository', () => {
    expect(dirname(project.installed).startsWith(root)).toBe(false);
  });
});
