import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { afterAll, describe, expect, it } from 'vitest';
import { addPackages, entriesOf, freshProject, root } from './fresh-project.js';

// Pins: the packed types resolve and are whole under each way TypeScript finds modules, with the libraries checked too.

const project = freshProject();
addPackages(project, ['zod', '@types/node', 'undici-types']);
afterAll(project.remove);

const flow = readFileSync(join(root, 'test/fixtures/section-0.txt'), 'utf8');
const onboarding = project.write(
  'onboarding.ts',
  `import { createStepfast, type Duration, isStepfastError, type RunSnapshot, type StandardSchema } from 'stepfast';
   import { fileStore } from 'stepfast/file';
   import { indexedDBStore } from 'stepfast/indexeddb';
   import { memoryMedium, memoryStore } from 'stepfast/memory';
   import { simulatedClock, storeConformance } from 'stepfast/testing';

   declare function createUser(user: { id: string; email: string }): Promise<{ id: string; email: string }>;
   declare function sendVerificationEmail(email: string): Promise<void>;
   declare function unlockAccount(userId: string): Promise<void>;
   declare const emailSchema: StandardSchema<{ email: string }>;

   export const stores = [memoryStore({ medium: memoryMedium() }), fileStore({ dir: 'x' }), indexedDBStore({ name: 'x' })];
   const clock = simulatedClock({ now: 0 });
   const stepfast = createStepfast({ store: memoryStore(), clock, retry: { maxAttempts: 3, maxDelay: '1m' } });

   ${flow}

   const signUp = stepfast.job('sign-up', { payload: emailSchema }, async ({ payload, step, signal }) => {
     if (signal.aborted) return 0;
     return (await step.run('length', ({ attempt }) => payload.email.length + attempt)) satisfies number;
   });
   const run = await stepfast.start(signUp, { email: 'ada@example.com' }, { delay: '5 minutes' });
   run.subscribe((snapshot: RunSnapshot<number>) => snapshot.attempts.map(({ error }) => error.message));
   const length: number = await run.result();
   await clock.advance('24h');
   storeConformance('memory', () => () => memoryStore(), { describe: () => 0, it: () => 0 });
   export const say = (error: unknown) => (isStepfastError(error, 'STEP_FAILED') ? error.step : length);
   await stepfast[Symbol.asyncDispose]();

   // Nothing is \`any\`, wherever it comes from: what must not compile does not.
   // @ts-expect-error
   export const typo: Duration = '24 parsecs';
   // @ts-expect-error
   await stepfast.start(signUp, { mail: 'ada@example.com' });
   // @ts-expect-error
   await stepfast.start(userOnboarding, { userId: 42, email: 'ada@example.com' });
   // @ts-expect-error
   const text: string = await run.result();
   // @ts-expect-error
   createStepfast({ store: {} });
   // @ts-expect-error
   await clock.advance('a while');
   // @ts-expect-error
   fileStore({ folder: 'x' });
   // @ts-expect-error
   indexedDBStore({ durability: 'maybe' });
  `,
);
const withZod = project.write(
  'with-zod.ts',
  `import { createStepfast } from 'stepfast';
   import { memoryStore } from 'stepfast/memory';
   import { z } from 'zod';
   const stepfast = createStepfast({ store: memoryStore() });
   const payload = z.object({ email: z.string(), note: z.string().optional() });
   export const job = stepfast.job('sign-up', { payload, result: z.number() }, async ({ payload, step, signal }) => {
     signal.addEventListener('abort', () => undefined); // the platform's own type, where there is one
     return step.run('length', () => payload.email.length + (payload.note?.length ?? 0));
   });
   await stepfast.start(job, { email: 'ada@example.com' });
   // @ts-expect-error
   await stepfast.start(job, { email: 42 });
  `,
);
const required = project.write(
  'required.cts',
  `import { createStepfast, type Stepfast } from 'stepfast';
   import { fileStore } from 'stepfast/file';
   import testing = require('stepfast/testing');
   export const stepfast: Stepfast = createStepfast({ store: fileStore({ dir: 'x' }), clock: testing.simulatedClock() });
   // @ts-expect-error
   stepfast.dispatch(42);
  `,
);

const library = project.write(
  'library.ts',
  `import type * as all from 'stepfast';
   import type { ConformanceCase, CrashReport, FailingStore, ReplayReport, Scenario, TestedRun } from 'stepfast/testing';
   import { serveStepfast, connectStepfast } from 'stepfast/bridge';
   import { encryption } from 'stepfast/encryption';
   // What is made of public types has types that can be written down.
   export const parts = {
     waits: (run: all.RunSnapshot) => run.waitingFor[0],
     attempts: (run: all.RunSnapshot) => run.attempts[0],
     undo: (context: Parameters<NonNullable<all.StepOptions<number>['undo']>>[0]) => context,
     checked: (schema: all.StandardSchema<number>) => schema['~standard'].validate(1),
     failure: (entry: all.JournalEntry) => (entry.kind === 'failed' ? entry.error : undefined),
     host: (host: all.PluginHost) => [host.codec, host.platform, host.start] as const,
     run: (each: ConformanceCase) => each.run,
     reports: (crash: CrashReport, replay: ReplayReport, tested: TestedRun<number>) => [crash.violations, replay.next, tested] as const,
     scenario: (scenario: Scenario) => scenario,
     failing: (store: FailingStore) => store.fail,
     migrated: (run: all.MigratedRun) => run,
     failed: (context: all.FailedContext) => context.error,
     handler: (context: all.HandlerContext<number>) => [context.run, context.state, context.log, context.step] as const,
     words: (engine: all.Stepfast) => [engine.runs, engine.state, engine.schedule, engine.start, engine.dispatch] as const,
     bridge: [serveStepfast, connectStepfast] as const,
     sealed: encryption,
     store: (store: all.Store) => [store.commit, store.due, store.list, store.transact] as const,
   };
  `,
);

const { ModuleKind, ModuleResolutionKind, ScriptTarget } = ts;
const ways = {
  node16: { module: ModuleKind.Node16, moduleResolution: ModuleResolutionKind.Node16 },
  nodenext: { module: ModuleKind.NodeNext, moduleResolution: ModuleResolutionKind.NodeNext },
  bundler: { module: ModuleKind.ESNext, moduleResolution: ModuleResolutionKind.Bundler },
} as const;
const dom = ['lib.es2022.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts'];
const bare = ['lib.es2022.d.ts'];

/** The libraries are the same for every program: parsed once. */
const parsed = new Map<string, ts.SourceFile | undefined>();
function errorsIn(files: readonly string[], options: ts.CompilerOptions): string[] {
  const all: ts.CompilerOptions = {
    target: ScriptTarget.ES2022,
    strict: true,
    skipLibCheck: false,
    noUncheckedIndexedAccess: true,
    noEmit: true,
    types: [],
    ...options,
  };
  const host = ts.createCompilerHost(all);
  const { getSourceFile } = host;
  host.getCurrentDirectory = () => project.dir;
  host.getSourceFile = (name, language, ...rest) => {
    if (!/[\\/]lib\.[\w.]+\.d\.ts$/.test(name)) return getSourceFile(name, language, ...rest);
    if (!parsed.has(name)) parsed.set(name, getSourceFile(name, ScriptTarget.ES2022));
    return parsed.get(name);
  };
  const program = ts.createProgram([...files], all, host);
  return ts.getPreEmitDiagnostics(program).map(({ file, start, messageText }) => {
    const line = file && start !== undefined ? file.getLineAndCharacterOfPosition(start).line + 1 : 0;
    return `${file?.fileName.replace(project.dir, '') ?? ''}:${line} ${ts.flattenDiagnosticMessageText(messageText, ' ')}`;
  });
}

describe.each(Object.entries(ways))('types under moduleResolution %s', (_, way) => {
  it.each([false, true])('the onboarding flow compiles in a page (exactOptionalPropertyTypes: %s)', (isExact) => {
    expect(errorsIn([onboarding], { ...way, lib: dom, exactOptionalPropertyTypes: isExact })).toEqual([]);
  });

  it('the onboarding flow compiles without the types of any platform', () => {
    expect(errorsIn([onboarding], { ...way, lib: bare })).toEqual([]);
  });

  it('the onboarding flow compiles in Node', () => {
    expect(errorsIn([onboarding], { ...way, lib: bare, types: ['node'] })).toEqual([]);
  });

  it('payload and result are inferred from zod schemas', () => {
    expect(errorsIn([withZod], { ...way, lib: dom, exactOptionalPropertyTypes: true })).toEqual([]);
  });

  it('types of a library that is made of stepfast can be declared', () => {
    expect(errorsIn([library], { ...way, lib: dom, declaration: true })).toEqual([]);
  });

  it('an import that is not in the export map is refused', () => {
    const inside = project.write('inside.ts', `import 'stepfast/dist/index.js'; export * from 'stepfast/engine';`);
    expect(errorsIn([inside], { ...way, lib: bare }).join('\n')).toMatch(/'stepfast\/engine'/);
  });
});

describe('types', () => {
  it('a CommonJS file that requires stepfast compiles under nodenext', () => {
    expect(errorsIn([required], { ...ways.nodenext, lib: bare, types: ['node'] })).toEqual([]);
  });

  it('each entry declares the names that its source exports, types included', () => {
    const sources = {
      '.': 'src/index.ts',
      './testing': 'src/testing/index.ts',
      './memory': 'adapters/memory/index.ts',
      './indexeddb': 'adapters/indexeddb/index.ts',
      './file': 'adapters/file/index.ts',
      './bridge': 'plugins/bridge/index.ts',
      './encryption': 'plugins/encryption/index.ts',
      './schedules': 'plugins/schedules/index.ts',
      './transfer': 'plugins/transfer/index.ts',
    } as Readonly<Record<string, string>>;
    const namesOf = (file: string) => {
      const program = ts.createProgram([file], { ...ways.bundler, target: ScriptTarget.ES2022, lib: dom, types: [] });
      const checker = program.getTypeChecker();
      const symbol = checker.getSymbolAtLocation(program.getSourceFile(file)!)!;
      return checker.getExportsOfModule(symbol).map(({ name }) => name);
    };
    for (const { subpath, types } of entriesOf(project.manifest))
      expect(namesOf(join(project.installed, types)).sort(), subpath).toEqual(
        namesOf(join(root, sources[subpath]!)).sort(),
      );
  });
});
