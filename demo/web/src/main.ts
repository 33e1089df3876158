import './break.js';
import type { RunSnapshot, TimelineEntry } from 'stepfast';
import { breakView } from './break.js';
import { clock, hoursAhead, rearm } from './clock.js';
import { byId, dayText, draw } from './dom.js';
import { STEPS, signUp, stepfast, verify } from './flow.js';
import { onWrite, read, write } from './storage.js';
import { timelineView } from './timeline.js';
import { type Actions, appView, effectsView, historyView, inboxView } from './views.js';
import { effectOf, mailOf, workOf } from './world.js';

/* Wires the parts: what is shown follows from stepfast, the pretend world and the address; nothing else is kept. */

const NEW = 'new';
let run: RunSnapshot | undefined;
let entries: readonly TimelineEntry[] = [];
let runs: readonly RunSnapshot[] = [];
let unsubscribe: (() => void) | undefined;
let watchedId: string | undefined;

/** The run of the address; without one, the latest of any tab. */
const wantedId = (): string | undefined => {
  const wanted = location.hash.slice(1);
  if (wanted === NEW) return undefined;
  return wanted || read<string | undefined>('latest-run', undefined);
};

const tell = (error: unknown) => {
  const trouble = byId('trouble');
  trouble.textContent = error instanceof Error ? error.message : String(error);
  trouble.hidden = false;
};
const safely = (work: () => Promise<unknown>) => void work().catch(tell);

const actions: Actions = {
  signUp: (name, email) =>
    safely(async () => {
      write('latest-run', await signUp(name, email));
      if (location.hash) location.hash = ''; // the latest run is what an address without a run shows
      follow();
    }),
  startOver: () => {
    location.hash = NEW;
  },
  verify: (userId) => safely(() => verify(userId)),
  retry: (runId) => safely(() => stepfast.runs.retry(runId)),
};

function render(): void {
  const work = run?.status === 'running' ? workOf(run.id) : undefined;
  const mail = run && mailOf(run.id);
  const effects = STEPS.map((step) => effectOf(run?.id ?? '', step));
  const ahead = hoursAhead();
  draw('clock', [dayText(clock.now()), ahead], ([now]) => [`${now}${ahead ? ` · ${ahead} h ahead` : ''}`]);
  draw('app', { run, work }, () => appView(run, work, actions));
  draw('inbox', { mail, run }, () => inboxView(mail, run, actions));
  draw('break', { id: run?.id }, () => breakView(run?.id));
  draw('timeline', { entries, work }, () => timelineView(entries, work));
  draw('effects', effects, effectsView);
  draw('history', { runs, id: run?.id }, () => historyView(runs, run?.id));
  byId('timeline').dataset.empty = String(entries.length === 0);
}

/** Moves the bar of the call that runs now, for as long as there is one. */
function animate(): void {
  const bar = document.getElementById('progress') as HTMLProgressElement | null;
  const work = run && workOf(run.id);
  if (bar && work) bar.value = Math.min(1, (Date.now() - work.from) / work.ms);
  requestAnimationFrame(animate);
}

async function refresh(snapshot: RunSnapshot | undefined): Promise<void> {
  const [page, timeline] = await Promise.all([
    stepfast.runs.list({ limit: 8 }),
    snapshot ? stepfast.runs.timeline(snapshot.id) : [],
  ]);
  if (snapshot?.id !== watchedId) return; // the page shows another run by now
  runs = page.runs;
  run = snapshot;
  entries = timeline;
  render();
}

/** Shows the wanted run, and what happens to it from now on, in whichever tab. */
function follow(): void {
  const wanted = wantedId();
  if (wanted === watchedId && unsubscribe) return;
  unsubscribe?.();
  unsubscribe = undefined;
  watchedId = wanted;
  safely(async () => {
    const known = wanted === undefined ? undefined : await stepfast.runs.get(wanted);
    if (wanted !== watchedId) return;
    if (!known) watchedId = undefined;
    else unsubscribe = stepfast.runs.subscribe(known.id, (snapshot) => safely(() => refresh(snapshot)));
    await refresh(known);
  });
}

addEventListener('hashchange', follow);
onWrite(() => {
  rearm();
  follow();
  render();
});
setInterval(render, 1_000); // the clock in the corner
safely(() => stepfast.ready());
follow();
animate();
