// W4 and W5: a process is killed, and another one goes on. The store is prepared once and copied for each round, so that
// every round finds the same.
import { spawn } from 'node:child_process';
import { cpSync, existsSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';

const CHILD = new URL('cold-child.mjs', import.meta.url).pathname;

/** Runs a script; resolves with the JSON of its first line, or of its last one once it has ended. */
export function talk(node, args, { killAtFirst = false, env, timeoutMs = 120_000 } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(node, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    let out = '';
    let err = '';
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    child.stdout.on('data', (chunk) => {
      out += chunk;
      if (killAtFirst && out.includes('\n')) child.kill('SIGKILL');
    });
    child.stderr.on('data', (chunk) => {
      err += chunk;
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      const line = out.trim().split('\n').at(-1);
      try {
        const found = JSON.parse(line);
        if (found.error) return reject(new Error(found.error));
        resolve(found);
      } catch {
        reject(new Error(`${args.join(' ').slice(0, 200)}: exit ${code}\n${out.slice(-500)}${err.slice(-1500)}`));
      }
    });
  });
}

const at = (dir, round) => join(dirname(dir), `copy-${round}-${dir.split('/').at(-1)}`);

/** Fills a store and kills its process. */
export const prepare = (node, args) =>
  talk(node, [CHILD, JSON.stringify({ mode: 'prepare', ...args })], { killAtFirst: true, timeoutMs: 300_000 });

/** Takes up a copy of it in a new process. */
export async function resume(node, args, round) {
  const dir = at(args.dir, round);
  cpSync(args.dir, dir, { recursive: true });
  const spawnedAt = String(process.hrtime.bigint());
  try {
    return await talk(node, [CHILD, JSON.stringify({ mode: 'resume', ...args, dir, spawnedAt })]);
  } finally {
    if (existsSync(dir)) rmSync(dir, { recursive: true });
  }
}

/** The start of Node with an empty module: what no engine can go below. */
export async function bareNode(node) {
  const script = 'console.log(Number(process.hrtime.bigint() - BigInt(process.argv.at(-1))) / 1e6)';
  return await talk(node, ['--input-type=module', '-e', script, String(process.hrtime.bigint())]);
}
