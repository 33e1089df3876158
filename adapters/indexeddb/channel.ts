/*
 * What contexts tell each other: which runs have changed, and what presence.ts and pings.ts have to say.
 *
 * B1. A page in the back/forward cache that is sent a message loses its place there, in Chromium. So nobody is listened to
 *     while the page is away. It looks at everything when it is back (presence.ts), and listens from before that.
 * B2. What has to be said all the same, of a commit that came to its end as the page went, goes through a channel of its own.
 */

export interface Channel {
  open(label: string): void;
  /** Says nothing before `open` and after `close`. */
  post(message: unknown): void;
  /** Whether the page is in the back/forward cache, or frozen. */
  away(isAway: boolean): void;
  close(): void;
}

export function createChannel(hear: (message: unknown) => void): Channel {
  let name = '';
  let isAway = false;
  let listening: BroadcastChannel | undefined;
  const made = () => (name && typeof BroadcastChannel !== 'undefined' ? new BroadcastChannel(name) : undefined);

  const listen = () => {
    listening?.close();
    listening = isAway ? undefined : made();
    if (listening) listening.onmessage = ({ data }: MessageEvent<unknown>) => hear(data);
  };
  return {
    open(label) {
      name = `stepfast:${label}`;
      listen();
    },
    post(message) {
      const channel = listening ?? made();
      channel?.postMessage(message);
      if (!listening) channel?.close();
    },
    away(now) {
      if (now === isAway) return; // what is on its way to the one that is open would be lost
      isAway = now;
      listen();
    },
    close() {
      name = '';
      listen();
    },
  };
}
