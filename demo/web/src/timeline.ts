import type { TimelineEntry } from 'stepfast';
import { dayText, el, sinceText } from './dom.js';
import type { Work } from './world.js';

/* The journal of a run in plain words. */

interface Row {
  readonly mark: 'quiet' | 'done' | 'wait' | 'bad' | 'live';
  readonly title: string;
  readonly detail?: string;
}

const waitText = (entry: TimelineEntry) => {
  const key = entry.key === undefined ? '' : `${String(entry.key)} · `;
  return entry.deadline === undefined ? `${key}no deadline` : `${key}until ${dayText(Number(entry.deadline))}`;
};
const messageOf = (entry: TimelineEntry) => {
  const { message = '', code } = (entry.error ?? {}) as { readonly message?: string; readonly code?: string };
  return code === 'EVENT_TIMEOUT' ? 'finished steps are kept' : message.replace(/ \[[A-Z_]+\]$/, '');
};

function rowOf(entry: TimelineEntry, page: number): Row {
  switch (entry.kind) {
    case 'started':
      return { mark: 'quiet', title: 'Started' };
    case 'claimed': {
      if (page === 1 && !entry.interrupted) return { mark: 'quiet', title: 'Claimed by page 1' };
      const why = entry.interrupted ? 'the page before it crashed in the middle of a step' : 'from where it was';
      return { mark: entry.interrupted ? 'bad' : 'quiet', title: `Page ${page} goes on`, detail: why };
    }
    case 'step-completed':
      return { mark: 'done', title: entry.name ?? '', detail: `done · attempt ${entry.attempt}` };
    case 'step-failed':
      return { mark: 'bad', title: entry.name ?? '', detail: `failed for good · ${messageOf(entry)}` };
    case 'attempt-failed':
      return { mark: 'bad', title: entry.name ?? '', detail: `attempt ${entry.attempt} failed · ${messageOf(entry)}` };
    case 'wait-set':
      return { mark: 'wait', title: `Waits for ${entry.name}`, detail: waitText(entry) };
    case 'event-taken':
      return { mark: 'done', title: `${entry.event} arrived`, detail: String(entry.key ?? '') };
    case 'wait-timed-out':
      return { mark: 'bad', title: `No ${entry.name} in time`, detail: `by ${dayText(Number(entry.deadline))}` };
    case 'retried':
      return { mark: 'quiet', title: 'Retried', detail: 'finished steps are kept, the wait is armed again' };
    case 'completed':
      return { mark: 'done', title: 'Completed' };
    case 'failed':
      return { mark: 'bad', title: 'Failed', detail: messageOf(entry) };
    default:
      return { mark: 'quiet', title: entry.kind };
  }
}

const item = ({ mark, title, detail }: Row, since: string, ...more: readonly Node[]) =>
  el(
    'li',
    { class: `row ${mark}` },
    el('span', { class: 'since' }, since),
    el(
      'span',
      { class: 'what' },
      el('span', { class: 'title' }, title),
      detail !== undefined && detail !== '' && el('span', { class: 'detail' }, detail),
      ...more,
    ),
  );

/** The rows of a run, and, while a function is being called, that call with its progress. */
export function timelineView(entries: readonly TimelineEntry[], work: Work | undefined): Node[] {
  const startedAt = entries[0]?.at ?? 0;
  const pages: unknown[] = [];
  const rows = entries.map((entry) => {
    if (entry.kind === 'claimed' && !pages.includes(entry.owner)) pages.push(entry.owner);
    const page = entry.kind === 'claimed' ? pages.indexOf(entry.owner) + 1 : 0;
    return item(rowOf(entry, page), sinceText(entry.at - startedAt));
  });
  if (work) {
    const bar = el('progress', { id: 'progress', max: '1', value: '0', 'aria-label': `Progress of ${work.step}` });
    const detail = `runs now · attempt ${work.attempt}`;
    rows.push(item({ mark: 'live', title: work.step, detail }, 'now', bar));
  }
  return [el('ol', { class: 'timeline' }, ...rows)];
}
