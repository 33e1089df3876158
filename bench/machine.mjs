// Where the figures were taken.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, loadavg, platform, release, totalmem } from 'node:os';

const tell = (command, args) => {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return ''; // not this platform, or not in a clone: the report says nothing of it
  }
};

/** The file system that a folder lies on. */
export function describeDisk(folder) {
  const [device = '', type = ''] = tell('df', ['-T', folder]).split('\n').at(-1).split(/\s+/);
  return { device, type };
}

export function describeMachine() {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  const [cpu] = cpus();
  return {
    date: new Date().toISOString(),
    stepfast: version,
    commit: tell('git', ['rev-parse', '--short', 'HEAD']),
    node: process.version,
    system: `${platform()} ${release()}`,
    cpu: `${cpus().length} x ${cpu?.model ?? 'unknown'}`,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    load: loadavg()[0],
  };
}
