import { spawn } from 'node:child_process';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { Readable } from 'node:stream';

/*
 * A display that nobody looks at, and as much of X11's protocol as shows and hides the windows on it: a page whose window
 * is hidden is told so, as that of a minimized one.
 */

export interface Display {
  readonly name: string;
  /** The windows that can be seen. */
  windows(): Promise<readonly number[]>;
  show(window: number): void;
  hide(window: number): void;
  end(): void;
}

const GET_ATTRIBUTES = 3;
const MAP = 8;
const UNMAP = 10;
const QUERY_TREE = 15;
const VIEWABLE = 2;

/** Starts one on the first number that is free. */
export async function startDisplay(): Promise<Display> {
  const args = ['-displayfd', '3', '-screen', '0', '1280x900x24', '-nolisten', 'tcp'];
  const child = spawn('/usr/bin/Xvfb', args, { stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
  const number = await new Promise<string>((resolve, reject) => {
    (child.stdio[3] as Readable).once('data', (chunk: Buffer) => resolve(chunk.toString().trim()));
    child.once('exit', (code) => reject(new Error(`Xvfb has ended with ${code}.`)));
  });
  const { root, send, ask } = await connectTo(join('/', 'tmp', '.X11-unix', `X${number}`));
  return {
    name: `:${number}`,
    async windows() {
      const tree = await ask(QUERY_TREE, root);
      const all = Array.from({ length: tree.readUInt16LE(16) }, (_, n) => tree.readUInt32LE(32 + 4 * n));
      const seen: number[] = [];
      for (const window of all) {
        const found = await ask(GET_ATTRIBUTES, window).catch(() => undefined); // closed meanwhile
        if (found?.[26] === VIEWABLE && !found[27]) seen.push(window); // menus and the like are no windows of their own
      }
      return seen;
    },
    show: (window) => send(MAP, window),
    hide: (window) => send(UNMAP, window),
    end: () => void child.kill('SIGKILL'),
  };
}

/** Requests are an opcode and a window each; answers come in the order of what was asked. */
async function connectTo(path: string) {
  const socket = connect(path);
  let arrived = Buffer.alloc(0);
  let wanted: (() => void) | undefined;
  socket.on('error', () => undefined); // the display has ended
  socket.on('data', (bytes) => {
    arrived = Buffer.concat([arrived, bytes]);
    wanted?.();
  });
  const take = async (length: number): Promise<Buffer> => {
    while (arrived.length < length) await new Promise<void>((resolve) => (wanted = resolve));
    const taken = arrived.subarray(0, length);
    arrived = arrived.subarray(length);
    return taken;
  };
  let sent = 0;
  const send = (opcode: number, window: number) => {
    sent++;
    const request = Buffer.alloc(8);
    request[0] = opcode;
    request.writeUInt16LE(2, 2);
    request.writeUInt32LE(window, 4);
    socket.write(request);
  };
  /** The answer to the request of that number. Passed over: events, and errors of what is not answered. */
  const answer = async (number: number): Promise<Buffer> => {
    const head = await take(32);
    if (head[0]! > 1 || head.readUInt16LE(2) !== (number & 0xffff)) return answer(number);
    if (head[0] === 0) throw new Error(`X11 error ${head[1]}.`);
    return Buffer.concat([head, await take(4 * head.readUInt32LE(4))]);
  };
  socket.write(Buffer.from([0x6c, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0])); // little-endian, version 11, no password
  const greeting = await take(8);
  const setup = await take(4 * greeting.readUInt16LE(6));
  if (greeting[0] !== 1) throw new Error(`Xvfb does not let us in: ${setup}`);
  const padded = (length: number) => Math.ceil(length / 4) * 4;
  const root = setup.readUInt32LE(32 + padded(setup.readUInt16LE(16)) + 8 * setup[21]!);
  let last: Promise<unknown> = Promise.resolve();
  const ask = (opcode: number, window: number): Promise<Buffer> => {
    const mine = last.then(() => {
      send(opcode, window);
      return answer(sent);
    });
    last = mine.catch(() => undefined);
    return mine;
  };
  return { root, send, ask };
}
