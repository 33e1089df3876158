// Other engines, each in a folder of its own with its own packages: never among those of stepfast.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const HERE = new URL('.', import.meta.url).pathname;
const load =
  (folder, name = 'engine') =>
  async () =>
    (await import(`./${folder}/engine.mjs`))[name];
const ofAll = ['W1', 'W2', 'W3'];

/** `node24`: its SQLite is that of Node 24. */
export const PEERS = {
  'openworkflow, SQLite': { folder: 'openworkflow', load: load('openworkflow'), workloads: ofAll, node24: true },
  'tanstack-core on a log': { folder: 'tanstack-core', load: load('tanstack-core'), workloads: ofAll },
  'tanstack-core, memory': { folder: 'tanstack-core', load: load('tanstack-core', 'engineMemory'), workloads: ofAll },
  'durably, SQLite': { folder: 'durably', load: load('durably'), workloads: ['W1', 'W2'], node24: true },
};

const run = (command, args, cwd) =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }).trim();

/** Node 24 out of the npm package `node`, where the present one is older. */
function node24() {
  if (Number(process.versions.node.split('.')[0]) >= 24) return process.execPath;
  return run('npx', ['-y', '-p', 'node@24', 'node', '-p', 'process.execPath'], HERE);
}

/** Installs what is missing; the peers with the Node that runs them. */
export function installedPeers() {
  let found;
  const entries = Object.entries(PEERS).map(([name, peer]) => {
    const folder = join(HERE, peer.folder);
    if (!existsSync(join(folder, 'node_modules')))
      run('npm', ['install', '--no-audit', '--no-fund', '--no-package-lock'], folder);
    found ??= peer.node24 ? node24() : undefined;
    return [name, { ...peer, node: peer.node24 ? found : process.execPath }];
  });
  return Object.fromEntries(entries);
}
