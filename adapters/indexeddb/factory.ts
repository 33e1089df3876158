/*
 * The IndexedDB to open with. In WebKit the process behind it can die, and what the page has then never works again
 * ("Connection to Indexed Database server lost. Refresh the page to try again"): reopening does not help, nor does a new
 * worker. The IndexedDB of a fresh iframe does, with all that was stored. So a page heals without a reload; a worker,
 * which can have no iframe, does not.
 */

/** Interfaces whose objects idb knows by `instanceof`, and by the identity of their methods. */
const INTERFACES = [
  ...['IDBFactory', 'IDBRequest', 'IDBOpenDBRequest', 'IDBDatabase', 'IDBTransaction', 'IDBObjectStore', 'IDBIndex'],
  ...['IDBCursor', 'IDBCursorWithValue', 'IDBKeyRange', 'DOMException'],
];

type Realm = Record<string, { readonly prototype: object } | undefined>;

/** Objects of the other realm become instances of this one: they work with its methods, as the standard has it. */
function adopt(realm: Realm): void {
  for (const name of INTERFACES) {
    const [theirs, ours] = [realm[name]?.prototype, (globalThis as unknown as Realm)[name]?.prototype];
    if (!theirs || !ours || theirs === ours) continue;
    for (const key of Reflect.ownKeys(theirs)) Reflect.deleteProperty(theirs, key);
    Object.setPrototypeOf(theirs, ours);
  }
}

export interface Factory {
  /** Throws where reading it is forbidden. */
  current(): IDBFactory | undefined;
  /** Another one, with the same databases. False: there can be none here. */
  renew(): boolean;
  end(): void;
}

export function createFactory(): Factory {
  let frame: HTMLIFrameElement | undefined;
  const end = () => {
    frame?.remove();
    frame = undefined;
  };
  return {
    current: () => frame?.contentWindow?.indexedDB ?? globalThis.indexedDB,
    renew() {
      end();
      const page = globalThis.document as Document | undefined;
      if (!page?.documentElement) return false;
      frame = page.createElement('iframe');
      frame.hidden = true;
      page.documentElement.append(frame);
      const realm = frame.contentWindow;
      if (realm?.indexedDB) adopt(realm as unknown as Realm);
      else end();
      return frame !== undefined;
    },
    end,
  };
}
