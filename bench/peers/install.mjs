// Packages of the peers. Not beside their table: that is loaded in every process that is measured.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { PEERS } from './index.mjs';

const HERE = new URL('.', import.meta.url).pathname;

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
