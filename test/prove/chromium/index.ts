import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { StoredRun } from '../../../src/index.js';
import { type Chromium, launchChromium } from '../../browser/engines/chromium.js';
import { type Site, servePages } from '../../browser/site.js';
import { type Random, randomOf } from '../disk/random.js';
import { createOracle, type Oracle } from '../kills/oracle.js';
import type { Proof, Proving, Technique } from '../technique.js';

/*
 * A whole Chromium killed with SIGKILL after a random life, again and again on one profile; in every second database two
 * tabs share the work. The oracle is that of test/prove/kills, in this process: it hears what the pages acknowledge, and
 * after each kill reads all that the next browser finds. What a kill does not show is power loss.
 *
 * After about one of 30 kills in the middle of constant writing, Chromium finds its own LevelDB damaged, and deletes all
 * databases of the origin (docs/limits.md). No page could prevent that. It is known by what the browser writes into its
 * log; such a database is counted, and begun anew.
 */

const KILLS = 40;
/** Kills of one database before its runs are gone on with to their end. */
const LIVES = 10;
const [SHORTEST_MS, LONGEST_MS] = [50, 900];
/** One browser in so many may delete its databases; if more do, nothing was proved. */
const MOST_DELETED = 6;
const FINISH_MS = 60_000;
/** More violations say no more. */
const ENOUGH = 50;

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** What a browser says of its databases, from its start on. */
function logOf({ profile }: Chromium) {
  const file = join(profile, 'chrome_debug.log');
  return {
    /** Before a restart: what was said before must not be read again. */
    forget: () => rmSync(file, { force: true }),
    hasDeleted: () => existsSync(file) && readFileSync(file, 'utf8').includes('corrupted (and deleted) database'),
  };
}

/** Hears the lines of all pages, in their order; told of which life they are by the pages themselves. */
function listenTo(site: Site) {
  const hearers = new Map<string, (line: string) => void>();
  let read = 0;
  return {
    page: (life: string, hear: (line: string) => void) => void hearers.set(life, hear),
    hear() {
      for (; read < site.effects.length; read++) {
        const [life = '', ...lines] = site.effects[read]!.split('/').map(decodeURIComponent);
        for (const line of lines) hearers.get(life)?.(line);
      }
    },
    forget: () => hearers.clear(),
  };
}

interface Lab {
  readonly browser: Chromium;
  readonly site: Site;
  readonly lines: ReturnType<typeof listenTo>;
  readonly log: ReturnType<typeof logOf>;
}

/** Told of each kill, and of how many functions it has hit. */
interface Killed {
  kill(): void;
  hit(functions: number): void;
}

/** One database and its kills. `deleted`: Chromium did that, and nothing can be said of it. */
async function torment(lab: Lab, db: string, kills: number, random: Random, oracle: Oracle, killed: Killed) {
  const { browser, site, lines, log } = lab;
  /** Of this life: no violation where the browser has lost its database. */
  const complaints: string[] = [];
  const open = async (life: string) => {
    const hear = oracle.process();
    lines.page(life, (line) => (line.startsWith('X ') ? void complaints.push(line.slice(2)) : hear(line)));
    return browser.open(`${site.origin}/kills?db=${db}&life=${life}`);
  };
  /** False: there is nothing to judge any more. */
  const judge = (runs: readonly StoredRun[]) => {
    if (log.hasDeleted() && runs.length === 0) return false;
    oracle.judge(runs);
    killed.hit(oracle.counts()['in flight']);
    return true;
  };
  for (let kill = 0; kill < kills; kill++) {
    const tabs = Number(db.slice(-1)) % 2 ? 1 : 2;
    const pages = [];
    for (let tab = 0; tab < tabs; tab++) pages.push(await open(`${db}-${kill}-${tab}`));
    if (kill > 0 && !judge(await pages[0]!.evaluate('app.stored()'))) return 'deleted';
    for (const page of pages) await page.evaluate('app.go()');
    await pause(SHORTEST_MS + random.below(LONGEST_MS - SHORTEST_MS));
    const isDeleted = log.hasDeleted();
    log.forget();
    await browser.restart();
    lines.hear();
    killed.kill();
    if (isDeleted) return 'deleted';
    for (const complaint of complaints.splice(0)) oracle.violation(`a page reported: ${complaint.slice(0, 300)}`);
  }
  return finish(await open(`${db}-last`), oracle, lab, judge, () => complaints);
}

/** Nobody is killed any more: what was begun comes to its end. */
async function finish(
  page: Awaited<ReturnType<Chromium['open']>>,
  oracle: Oracle,
  { lines, log }: Lab,
  judge: (runs: readonly StoredRun[]) => boolean,
  complaints: () => readonly string[],
) {
  if (!judge(await page.evaluate('app.stored()'))) return 'deleted';
  const dispatched = [...oracle.dispatched()];
  const asked = JSON.stringify(dispatched.map(([runId]) => runId));
  const results = await Promise.race([page.evaluate<readonly string[]>(`app.finish(${asked})`), pause(FINISH_MS)]);
  lines.hear();
  if (log.hasDeleted()) return 'deleted';
  if (!results) oracle.violation(`some of ${dispatched.length} runs have not ended within a minute`);
  for (const [index, [runId, word]] of results ? dispatched.entries() : [])
    if (results![index] !== word) oracle.violation(`run ${runId} ended with ${results![index]}, not ${word}`);
  oracle.judge(await page.evaluate('app.stored()'));
  for (const complaint of complaints()) oracle.violation(`a page reported: ${complaint.slice(0, 300)}`);
  await page.close();
  return 'whole';
}

async function prove({ budgetMs, firstSeed, say }: Proving): Promise<Proof> {
  const until = budgetMs === undefined ? Number.POSITIVE_INFINITY : Date.now() + budgetMs;
  const total = Number(process.env.PROVE_KILLS ?? KILLS);
  const [browser, site] = await Promise.all([launchChromium(), servePages('kills')]);
  const lab: Lab = { browser, site, lines: listenTo(site), log: logOf(browser) };
  const violations: string[] = [];
  const counts = {
    kills: 0,
    databases: 0,
    starts: 0,
    outcomes: 0,
    events: 0,
    'in flight': 0,
    'deleted by Chromium': 0,
  };
  let seed = firstSeed;
  while ((budgetMs !== undefined || counts.kills < total) && Date.now() < until && violations.length < ENOUGH) {
    const mine = seed++;
    // A page that goes round in circles has no end of them.
    const oracle = createOracle((line) => {
      if (violations.length < ENOUGH) violations.push(`seed ${mine}: ${line}`);
    });
    const kills = budgetMs === undefined ? Math.min(LIVES, total - counts.kills) : LIVES;
    try {
      const killed = { kill: () => void counts.kills++, hit: (count: number) => void (counts['in flight'] += count) };
      const end = await torment(lab, `kills-${mine}`, kills, randomOf(mine), oracle, killed);
      if (end === 'deleted') counts['deleted by Chromium']++;
    } catch (error) {
      oracle.violation(`the database can not be read: ${String(error)}`);
    }
    lab.lines.forget();
    const seen = oracle.counts();
    counts.databases++;
    for (const name of ['starts', 'outcomes', 'events'] as const) counts[name] += seen[name];
    say(`chromium: ${counts.kills} kills, ${violations.length} violations`);
  }
  await Promise.all([browser.close(), site.close()]);
  if (!counts['in flight']) violations.push('no kill hit a run in flight: too tame to prove anything');
  if (counts['deleted by Chromium'] > Math.max(MOST_DELETED, counts.kills / 10))
    violations.push(
      `Chromium deleted ${counts['deleted by Chromium']} databases in ${counts.kills} kills: nothing is proved`,
    );
  return { cases: counts.kills, violations, seeds: seed - firstSeed, counts };
}

export const technique: Technique = { title: 'kill -9 of Chromium', prove };
