import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/*
 * A project as a user has it: the packed tarball in `node_modules/stepfast`, what its package.json names as
 * dependencies beside it, and nothing of the repository. No network.
 */

export const root = fileURLToPath(new URL('../..', import.meta.url));

export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, string | { readonly types: string; readonly default: string }>>;
  readonly scripts?: Readonly<Record<string, string>>;
  readonly sizeBudget: Readonly<Record<string, number>>;
}

export interface FreshProject {
  readonly dir: string;
  /** The unpacked package. */
  readonly installed: string;
  readonly manifest: Manifest;
  /** Paths of the files in the tarball, sorted. */
  readonly files: readonly string[];
  /** Writes a file into the project; returns its path. */
  write(name: string, text: string): string;
  /** Runs Node there, waits for its end, and throws what it said when that is not exit code 0. */
  node(...args: string[]): { readonly stdout: string; readonly stderr: string };
  remove(): void;
}

const newest = (path: string): number =>
  statSync(path).isDirectory()
    ? Math.max(...readdirSync(path).map((name) => newest(join(path, name))))
    : statSync(path).mtimeMs;

function must(command: string, args: readonly string[], cwd: string): { stdout: string; stderr: string } {
  const { status, signal, error, stdout, stderr } = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    timeout: 60_000,
    maxBuffer: 1 << 26,
  });
  if (status !== 0)
    throw new Error(
      `${command} ${args.join(' ')} ended with ${error ?? signal ?? `exit code ${status}`}\n${stdout}${stderr}`,
    );
  return { stdout, stderr };
}

/** `npm test` builds first; who runs these tests alone must not test yesterday's code. */
function buildIfOld(): void {
  const built = statSync(join(root, 'dist/testing.d.ts'), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = ['src', 'adapters', 'plugins', 'tsup.config.ts', 'package.json'].map((name) =>
    newest(join(root, name)),
  );
  if (built < Math.max(...sources)) must(process.execPath, ['node_modules/tsup/dist/cli-default.js', '--silent'], root);
}

/** Copies packages of the repository into the project; `@types/node` for example. */
export function addPackages(project: Pick<FreshProject, 'dir'>, names: readonly string[]): void {
  for (const name of names)
    cpSync(join(root, 'node_modules', name), join(project.dir, 'node_modules', name), { recursive: true });
}

export function freshProject(): FreshProject {
  buildIfOld();
  const dir = mkdtempSync(join(tmpdir(), 'stepfast-project-'));
  const installed = join(dir, 'node_modules/stepfast');
  mkdirSync(installed, { recursive: true });
  const packed = must('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', dir], root);
  const [{ filename, files }] = JSON.parse(packed.stdout) as [{ filename: string; files: { path: string }[] }];
  must('tar', ['-xzf', filename, '-C', installed, '--strip-components', '1'], dir);
  rmSync(join(dir, filename));
  const manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as Manifest;
  addPackages({ dir }, Object.keys(manifest.dependencies));

  const write = (name: string, text: string) => {
    const path = join(dir, name);
    writeFileSync(path, text);
    return path;
  };
  write('package.json', JSON.stringify({ name: 'a-fresh-project', private: true, type: 'module' }));
  return {
    dir,
    installed,
    manifest,
    files: files.map(({ path }) => path).sort(),
    write,
    node: (...args) => must(process.execPath, args, dir),
    remove: () => rmSync(dir, { recursive: true, force: true }),
  };
}

/** The entries that hold code, as a user names them (`stepfast/file`), with the subpath of `exports`. */
export const entriesOf = ({ name, exports }: Manifest) =>
  Object.entries(exports).flatMap(([subpath, target]) =>
    typeof target === 'string' ? [] : [{ subpath, specifier: name + subpath.slice(1), ...target }],
  );
