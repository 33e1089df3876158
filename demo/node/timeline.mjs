// A timeline as people like to read it: times from the start, aligned, in plain words.

const day = new Intl.DateTimeFormat('en-GB', { weekday: 'short', hour: '2-digit', minute: '2-digit' });

/** `owners`: what to call each owner; a name of our own for ids that nobody remembers. */
function wordsOf(entry, owners) {
  switch (entry.kind) {
    case 'started':
      return ['started', `payload ${JSON.stringify(entry.payload)}`];
    case 'claimed':
      return [
        `claimed by ${owners(entry.owner)}`,
        entry.interrupted ? 'its owner before died in the middle of a step' : '',
      ];
    case 'step-completed':
      return [`${entry.name} ✓`, `attempt ${entry.attempt}`];
    case 'attempt-failed':
      return [`${entry.name} ✗`, `attempt ${entry.attempt}, next one later: ${entry.error.message}`];
    case 'step-failed':
      return [`${entry.name} ✗`, `attempt ${entry.attempt}, for good: ${entry.error.message}`];
    case 'wait-set':
      return [`waits for ${entry.events.join(' or ')}`, `${entry.key}, until ${day.format(entry.deadline)}`];
    case 'event-taken':
      return ['event taken', `${entry.event}, ${entry.key}`];
    case 'wait-timed-out':
      return ['no event in time', entry.name];
    case 'completed':
      return ['completed', JSON.stringify(entry.value)];
    case 'failed':
      return ['failed', entry.error.message];
    case 'killed':
      return ['killed here', entry.detail];
    default:
      return [entry.kind, ''];
  }
}

/** Lines for the terminal. Entries need not be in order of time. */
export function timelineLines(entries) {
  const known = [];
  const owners = (id) => {
    if (!known.includes(id)) known.push(id);
    return `worker ${'ABCDEFGH'[known.indexOf(id)] ?? id}`;
  };
  const inOrder = [...entries].sort((a, b) => a.at - b.at);
  const rows = inOrder.map((entry) => {
    const [title, detail] = wordsOf(entry, owners);
    return { since: `+${((entry.at - inOrder[0].at) / 1_000).toFixed(2)} s`, title, detail };
  });
  const width = (of) => Math.max(...rows.map((row) => of(row).length));
  const sinceWidth = width(({ since }) => since);
  const titleWidth = width(({ title }) => title);
  return rows.map(({ since, title, detail }) =>
    `${since.padStart(sinceWidth)}  ${title.padEnd(titleWidth)}  ${detail}`.trimEnd(),
  );
}
