import { randomBytes } from 'node:crypto';
import { request } from 'node:http';
import type { Socket } from 'node:net';

/*
 * As much of a WebSocket (RFC 6455) as the protocols of Firefox and WebKit need: Node 20 has none of its own.
 */

export interface WebSocketClient {
  send(text: string): void;
  close(): void;
}

const TEXT = 1;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

/** A frame of a client: whole, and masked as the protocol wants it. */
function frame(opcode: number, payload: Buffer): Buffer {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  head[0] = 0x80 | opcode;
  head[1] = 0x80 | (length < 126 ? length : length < 65_536 ? 126 : 127);
  if (head.length === 4) head.writeUInt16BE(length, 2);
  if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
  const mask = randomBytes(4);
  return Buffer.concat([head, mask, payload.map((byte, at) => byte ^ mask[at % 4]!)]);
}

/** Cuts frames off what has arrived, and puts messages together. */
function reader(hear: (opcode: number, payload: Buffer) => void): (bytes: Buffer) => void {
  let arrived = Buffer.alloc(0);
  let opcode = 0;
  let parts: Buffer[] = [];
  return (bytes) => {
    arrived = Buffer.concat([arrived, bytes]);
    while (arrived.length >= 2) {
      const short = arrived[1]! & 0x7f;
      const start = short < 126 ? 2 : short === 126 ? 4 : 10;
      if (arrived.length < start) return;
      const length = short < 126 ? short : short === 126 ? arrived.readUInt16BE(2) : Number(arrived.readBigUInt64BE(2));
      if (arrived.length < start + length) return;
      const [first, payload] = [arrived[0]!, arrived.subarray(start, start + length)];
      arrived = arrived.subarray(start + length);
      if (first & 8) hear(first & 15, payload);
      else {
        opcode = first & 15 || opcode;
        parts.push(payload);
        if (!(first & 0x80)) continue;
        hear(opcode, Buffer.concat(parts));
        parts = [];
      }
    }
  };
}

/** Connects; rejects where nobody listens. `closed` is called once, whoever ended it. */
export function connectSocket(
  url: string,
  heard: (text: string) => void,
  closed: () => void,
): Promise<WebSocketClient> {
  return new Promise((resolve, reject) => {
    const headers = {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': randomBytes(16).toString('base64'),
    };
    const asking = request(url.replace(/^ws:/, 'http:'), { headers });
    asking.on('error', reject);
    asking.on('response', ({ statusCode }) => reject(new Error(`No WebSocket at ${url}: status ${statusCode}.`)));
    asking.on('upgrade', (_, socket: Socket, rest: Buffer) => {
      const read = reader((opcode, payload) => {
        if (opcode === TEXT) heard(payload.toString());
        if (opcode === PING) socket.write(frame(PONG, payload));
        if (opcode === CLOSE) socket.end();
      });
      socket
        .on('data', read)
        .on('error', () => socket.destroy())
        .on('close', closed);
      if (rest.length) read(rest);
      resolve({
        send: (text) => void socket.write(frame(TEXT, Buffer.from(text))),
        close: () => void socket.end(frame(CLOSE, Buffer.alloc(0))),
      });
    });
    asking.end();
  });
}
