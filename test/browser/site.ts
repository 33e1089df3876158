import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { UNTRUSTED_HOST } from './engines/engine.js';

/*
 * Pages served to browsers from this process. They are bundled from `pages/`, and run under a strict
 * Content-Security-Policy, as those of careful users do.
 */

/** This folder: also of a bundle that is run elsewhere, from the root of the repository. */
const HERE = existsSync(new URL('pages', import.meta.url))
  ? import.meta.url
  : pathToFileURL(join(process.cwd(), 'test', 'browser', 'site.ts'));
const CSP = "default-src 'none'; script-src 'self'; connect-src 'self'";
/** With `?host=iframe`: else pages can have no iframe but an empty one. */
const CSP_OF_FRAMES = `${CSP}; frame-src 'self'`;

/** One file of `pages/` with all that it imports, as a module script. */
async function bundlePage(name: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(`pages/${name}.ts`, HERE))],
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    tsconfig: fileURLToPath(new URL('../../tsconfig.json', HERE)),
    logLevel: 'error',
  });
  return outputFiles[0]!.text;
}

export interface Site {
  readonly origin: string;
  /** The same, by a name that browsers do not trust. */
  readonly plainOrigin: string;
  /** What pages have asked for at `/effect/<name>`: the world outside, which outlives the browser. */
  readonly effects: readonly string[];
  /** Resolves when `/effect/<name>` has been asked for that many times. */
  reached(name: string, times: number): Promise<void>;
  /** Leaves `/effect/<name>` unanswered until the returned function is called. */
  hold(name: string): () => void;
  close(): Promise<void>;
}

/**
 * Serves `/<name>` (a page) and `/<name>.js` (its script, or a worker's) for every name given. Whoever asks for `/clear`
 * has the browser delete what the site has stored, as its user may.
 */
export async function servePages(...names: readonly string[]): Promise<Site> {
  const scripts = new Map<string, string>();
  for (const name of names) scripts.set(`/${name}.js`, await bundlePage(name));
  const effects: string[] = [];
  const held = new Map<string, Promise<void>>();
  const watchers = new Set<() => void>();
  const server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost');
    const [, effect] = /^\/effect\/(.+)$/.exec(pathname) ?? [];
    if (effect !== undefined) {
      effects.push(effect);
      for (const watcher of watchers) watcher();
      await held.get(effect);
      response.writeHead(204).end();
      return;
    }
    if (pathname === '/clear') {
      response.writeHead(204, { 'clear-site-data': '"storage"' }).end();
      return;
    }
    const script = scripts.get(pathname);
    const isPage = scripts.has(`${pathname}.js`);
    response.writeHead(script !== undefined || isPage ? 200 : 404, {
      'content-type': script === undefined ? 'text/html; charset=utf-8' : 'text/javascript; charset=utf-8',
      'content-security-policy': searchParams.get('host') === 'iframe' ? CSP_OF_FRAMES : CSP,
    });
    response.end(script ?? (isPage ? `<!doctype html><script type="module" src="${pathname}.js"></script>` : ''));
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://localhost:${port}`,
    plainOrigin: `http://${UNTRUSTED_HOST}:${port}`,
    effects,
    reached: (name, times) =>
      new Promise((resolve) => {
        const watcher = () => {
          if (effects.filter((one) => one === name).length < times) return;
          watchers.delete(watcher);
          resolve();
        };
        watchers.add(watcher);
        watcher();
      }),
    hold(name) {
      let free: () => void = () => undefined;
      held.set(name, new Promise((resolve) => (free = resolve)));
      return () => {
        held.delete(name);
        free();
      };
    },
    close: () =>
      new Promise((closed) => {
        server.closeAllConnections();
        server.close(() => closed());
      }),
  };
}
