// Builds the browser demo and serves it on localhost, under the policy that careful sites have.
import { fileURLToPath } from 'node:url';
import { build, preview } from 'vite';

const root = fileURLToPath(new URL('.', import.meta.url));
const common = { root, configFile: false, envFile: false, logLevel: 'error' };

/** `'stepfast'` and `'stepfast/indexeddb'` are found as any user's bundler finds them: by the package's export map. */
export const buildWebDemo = ({ outDir = 'dist' } = {}) =>
  build({
    ...common,
    base: './',
    build: { outDir, emptyOutDir: true, target: 'es2022', modulePreload: { polyfill: false }, assetsInlineLimit: 0 },
  });

/** Serves what was built. The port is the one given or the next that is free; IndexedDB belongs to the port. */
export async function serveWebDemo({ port = 4173, outDir = 'dist' } = {}) {
  const server = await preview({
    ...common,
    build: { outDir },
    preview: { port, host: 'localhost', headers: { 'content-security-policy': "default-src 'self'" } },
  });
  const address = server.httpServer.address();
  return { url: `http://localhost:${address.port}/`, close: () => server.close() };
}
