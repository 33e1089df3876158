import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { buildSync } from 'esbuild';
import { tempFolder } from './file-folders.js';

/** Bundles the child, with all that it imports, once for a test file. */
export function childScript(name = 'file-child.ts'): string {
  const outfile = join(tempFolder(), 'child.mjs');
  const entry = join(import.meta.dirname, name);
  buildSync({ entryPoints: [entry], bundle: true, platform: 'node', format: 'esm', target: 'node20', outfile });
  return outfile;
}

export interface Child {
  readonly process: ChildProcess;
  readonly pid: number;
  /** Complete lines so far. */
  readonly lines: string[];
  readonly ended: Promise<void>;
  /** Resolves with the first line that fits. */
  line(fits: (line: string) => boolean): Promise<string>;
}

export function startChild(script: string, ...args: string[]): Child {
  const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  let rest = '';
  let complaint = '';
  let isOver = false;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const parts = (rest + text).split('\n');
    rest = parts.pop()!;
    lines.push(...parts);
    for (const wake of waiting) wake();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complaint += text));
  const ended = new Promise<void>((resolve) =>
    child.on('close', () => {
      isOver = true;
      for (const wake of waiting) wake();
      resolve();
    }),
  );
  return {
    process: child,
    pid: child.pid!,
    lines,
    ended,
    line: (fits) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const found = lines.find(fits);
          if (found === undefined && !isOver) return;
          waiting.delete(look);
          if (found !== undefined) resolve(found);
          else reject(new Error(`the child ended without saying so: ${complaint}`));
        };
        waiting.add(look);
        look();
      }),
  };
}
