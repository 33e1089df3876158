import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { defineConfig, type Options } from 'tsup';

const entry = {
  index: 'src/index.ts',
  memory: 'adapters/memory/index.ts',
  indexeddb: 'adapters/indexeddb/index.ts',
  file: 'adapters/file/index.ts',
  testing: 'src/testing/index.ts',
  transfer: 'plugins/transfer/index.ts',
  bridge: 'plugins/bridge/index.ts',
  schedules: 'plugins/schedules/index.ts',
  encryption: 'plugins/encryption/index.ts',
};

/** What several entries share, in one file: everything that these reach. */
const SHARED = ['src/index.ts', 'src/store/transition.ts', 'src/store/tables.ts'];

/**
 * One chunk for all that is shared. esbuild makes one for each set of entries that share something: a dozen small files,
 * of which Node reads each by itself, which took 15 of the 20 ms of an import. Here every entry reaches the same modules.
 */
const oneChunk: NonNullable<Options['esbuildPlugins']>[number] = {
  name: 'one-chunk',
  setup(build) {
    const entries = new Set(Object.values(entry).map((path) => resolve(path)));
    build.onResolve({ filter: /^shared:/ }, ({ path }) => ({
      path: resolve(path.slice('shared:'.length)),
      sideEffects: true, // else an import for nothing but its effects would be dropped
    }));
    build.onLoad({ filter: /index\.ts$/ }, async ({ path }) => {
      if (!entries.has(path)) return undefined;
      const reached = SHARED.filter((each) => resolve(each) !== path).map((each) => `import "shared:${each}";\n`);
      return { contents: (await readFile(path, 'utf8')) + reached.join(''), loader: 'ts' };
    });
  },
};

export default defineConfig({
  entry,
  esbuildPlugins: [oneChunk],
  format: 'esm',
  target: 'es2022',
  platform: 'neutral',
  external: [/^node:/],
  removeNodeProtocol: false, // other runtimes, and bundlers for browsers, tell a built-in module by its prefix
  dts: {
    resolve: ['ms'], // has no types of its own: without this, users would find `any` where a duration stands
    banner: '/// <reference lib="esnext.disposable" />', // `Symbol.asyncDispose`, for users whose `lib` is older
  },
  sourcemap: true, // with the sources inside
  splitting: true,
  clean: true,
  treeshake: false,
  plugins: [
    {
      name: 'no-bare-imports',
      renderChunk(code, info) {
        // Maps hold the sources as they are, without what `oneChunk` has added. tsup keeps a map as text up to here.
        info.map = String(info.map).replace(/import \\"shared:[\w/.]+\\";\\n/g, '') as never;
        // Imports for nothing but their side effects, of which there are none: bundlers would warn users of each. The
        // line stays, for the sake of the source map.
        return { code: code.replace(/^import "\.\/chunk-\w+\.js";$/gm, '') };
      },
    },
  ],
});
