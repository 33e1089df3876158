import { readdirSync, readFileSync } from 'node:fs';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { memoryMedium, memoryStore } from '../adapters/memory/index.js';
import { storeConformance } from '../src/testing/index.js';

/*
 * What the README and the guide show compiles, and what they name exists. Blocks of one page build on each other; a block
 * that declares a name again stands in a scope of its own.
 */

const root = new URL('..', import.meta.url).pathname;
const preamble = `
declare const api: {
  createUser(email: string, key: string): Promise<{ id: string }>;
  sendMail(to: string): Promise<void>;
  unlock(id: string, code: string): Promise<void>;
  charge(orderId: string, key: string): Promise<'paid' | 'declined' | 'busy'>;
};
declare function createUser(user: { id: string; email: string }): Promise<{ id: string; email: string }>;
declare function sendVerificationEmail(email: string): Promise<void>;
declare function unlockAccount(userId: string): Promise<void>;
`;

const blocksOf = (page: string): string[] =>
  [...readFileSync(`${root}${page}`, 'utf8').matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code]) => code!);

const pages = [
  'README.md',
  ...readdirSync(`${root}docs`).flatMap((name) => (name.endsWith('.md') ? `docs/${name}` : [])),
];

function programOf(blocks: readonly string[]): string {
  const imports = new Set<string>();
  const bodies = blocks.map((block, index) => {
    const body = block.replace(/^import .*?;$/gm, (line) => {
      imports.add(line);
      return '';
    });
    return index === 0 || !/^const (run|event|userOnboarding)\b/m.test(body) ? body : `{\n${body}\n}`;
  });
  return [...imports, preamble, ...bodies, 'export {};'].join('\n');
}

/** What is wrong with each of these sources, compiled together: one program, for the library is read once. */
function errorsOf(sources: Readonly<Record<string, string>>): string[] {
  const { config } = ts.readConfigFile(`${root}tsconfig.json`, ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const texts = new Map(Object.entries(sources).map(([page, source]) => [fileOf(page), source]));
  const host = ts.createCompilerHost(options);
  const { readFile, fileExists, getSourceFile } = host;
  host.fileExists = (file) => texts.has(file) || fileExists(file);
  host.readFile = (file) => texts.get(file) ?? readFile(file);
  host.getSourceFile = (file, language) =>
    texts.has(file) ? ts.createSourceFile(file, texts.get(file)!, language) : getSourceFile(file, language);
  const program = ts.createProgram([...texts.keys()], options, host);
  return [...texts.keys()].flatMap((file) => {
    const source = program.getSourceFile(file);
    const found = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)];
    return found.map(({ messageText }) => `${file}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`);
  });
}

const fileOf = (page: string) => `${root}test/${page.replace(/\W/g, '-')}.ts`;

describe('documentation', () => {
  it('every snippet of every page compiles', () => {
    const shown = pages.filter((page) => blocksOf(page).length > 0);
    expect(shown.length).toBeGreaterThan(10);
    expect(errorsOf(Object.fromEntries(shown.map((page) => [page, programOf(blocksOf(page))])))).toEqual([]);
  });

  it('a snippet that does not compile would be noticed', () => {
    expect(errorsOf({ page: programOf(["const days: number = 'seven';"]) })).not.toEqual([]);
  });

  it('links between the pages lead somewhere', () => {
    for (const page of [...pages, 'ARCHITECTURE.md']) {
      const text = readFileSync(`${root}${page}`, 'utf8');
      const folder = page.replace(/[^/]*$/, '');
      for (const [, target] of text.matchAll(/\]\(([^)#:]+)\)/g)) {
        const path = `${root}${folder}${target}`;
        expect(ts.sys.fileExists(path) || ts.sys.directoryExists(path), `${page}: ${target}`).toBe(true);
      }
    }
  });

  it('pages name examples that exist', () => {
    for (const page of pages) {
      const text = readFileSync(`${root}${page}`, 'utf8');
      for (const [line] of text.matchAll(/`npm run example -- [^.;]*/g))
        for (const [, name] of line.replaceAll('npm run example -- ', '').matchAll(/`([\w-]+)`/g))
          expect(ts.sys.fileExists(`${root}demo/examples/${name}.ts`), `${page}: ${name}`).toBe(true);
    }
  });

  it('the page of error codes has one row for each, and none for others', () => {
    const source = readFileSync(`${root}src/errors.ts`, 'utf8');
    const [union] = /export type ErrorCode =[^;]*;/.exec(source)!;
    const codes = [...union.matchAll(/'(\w+)'/g)].map(([, code]) => code!);
    const page = readFileSync(`${root}docs/errors.md`, 'utf8');
    const rows = [...page.matchAll(/^\| `([A-Z_]+)` \|(?:[^|]+\|){2}$/gm)].map(([, code]) => code!);
    expect(codes.length).toBeGreaterThan(40);
    expect(rows.sort()).toEqual(codes.sort());
  });

  it('what the page of error codes says is not tried again is not', () => {
    const source = readFileSync(`${root}src/run/failures.ts`, 'utf8');
    const [, fatal] = /FATAL = \/\^\(([^)]*)\)\$\//.exec(source)!;
    const [said] = /In a step these are not tried again: [^.]*\.\.\.[^.]*\./.exec(
      readFileSync(`${root}docs/errors.md`, 'utf8'),
    )!;
    const named = [...said.matchAll(/`([A-Z_]+)(\.\.\.)?`/g)].map(([, code, rest]) => (rest ? `${code}\\w+` : code!));
    expect(named.sort()).toEqual(fatal!.split('|').sort());
  });

  it('the README shows the flow that the tests run', () => {
    const flow = readFileSync(`${root}test/fixtures/section-0.txt`, 'utf8').trim();
    expect(readFileSync(`${root}README.md`, 'utf8')).toContain(flow);
  });
});

describe('the conformance suite, as the guide runs it', () => {
  const given = { storeConformance, memoryMedium, memoryStore, describe, it };
  const shown = blocksOf('docs/guide.md').find((block) => block.includes('storeConformance('))!;
  const script = ts.transpile(shown.replace(/^import .*;$/gm, ''), { target: ts.ScriptTarget.ES2022 });
  new Function(...Object.keys(given), script)(...Object.values(given));
});
