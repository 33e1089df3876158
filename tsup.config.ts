import { defineConfig } from 'tsup';

export default defineConfig({
  entry: {
    index: 'src/index.ts',
    memory: 'adapters/memory/index.ts',
    indexeddb: 'adapters/indexeddb/index.ts',
    file: 'adapters/file/index.ts',
    testing: 'src/testing/index.ts',
    transfer: 'plugins/transfer/index.ts',
    bridge: 'plugins/bridge/index.ts',
    schedules: 'plugins/schedules/index.ts',
    encryption: 'plugins/encryption/index.ts',
  },
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
  // Imports for nothing but their side effects, of which there are none: bundlers would warn users of each. The line stays,
  // for the sake of the source map.
  plugins: [
    {
      name: 'no-bare-imports',
      renderChunk: (code) => ({ code: code.replace(/^import "\.\/chunk-\w+\.js";$/gm, '') }),
    },
  ],
});
