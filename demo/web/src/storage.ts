/* What the demo keeps for itself in localStorage, apart from all that stepfast keeps in IndexedDB. */

const PREFIX = 'stepfast-demo:';
const listeners = new Set<() => void>();

export function read<T>(key: string, otherwise: T): T {
  const text = localStorage.getItem(PREFIX + key);
  return text === null ? otherwise : (JSON.parse(text) as T);
}

export function write(key: string, value: unknown): void {
  localStorage.setItem(PREFIX + key, JSON.stringify(value));
  for (const listener of listeners) listener();
}

/** Calls back when something was written, in this tab or another. */
export function onWrite(listener: () => void): void {
  listeners.add(listener);
  addEventListener('storage', (event) => {
    if (event.key === null || event.key.startsWith(PREFIX)) listener();
  });
}
