// How many fsyncs and fdatasyncs a step costs, as strace counts them: the difference of two lengths, so that what the
// start and the end of a process cost does not count.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const CELL = new URL('cell.mjs', import.meta.url).pathname;

export const hasStrace = () => spawnSync('strace', ['-V']).status === 0;

function count(node, dir, args) {
  const folder = mkdtempSync(join(dir, 'strace-'));
  const file = join(folder, 'counts');
  const cell = JSON.stringify({ ...args, dir: folder, calibrateMs: 0 });
  const traced = ['-f', '-c', '-e', 'trace=fsync,fdatasync', '-o', file, node, CELL, cell];
  const { status, stderr } = spawnSync('strace', traced, { timeout: 240_000 });
  if (status !== 0) throw new Error(`strace: ${stderr}`);
  const calls = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => /\b(fsync|fdatasync)$/.test(line))
    .reduce((sum, line) => sum + Number(line.trim().split(/\s+/)[3]), 0);
  rmSync(folder, { recursive: true });
  return calls;
}

/** Of one run in sequence, and of many at once. */
export function fsyncsPerStep(node, dir, engine, options = {}) {
  const W1 = (steps) => count(node, dir, { engine, workload: 'W1', steps, ...options });
  const W2 = (runs) => count(node, dir, { engine, workload: 'W2', runs, ...options });
  return { sequential: (W1(140) - W1(40)) / 100, atOnce: (W2(240) - W2(40)) / (200 * 5) };
}
