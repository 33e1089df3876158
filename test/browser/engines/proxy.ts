import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';

/*
 * A proxy for a browser that can not be told that a name is this machine: whatever it asks for comes from here.
 */

export interface Proxy {
  readonly address: string;
  end(): void;
}

export async function startProxy(): Promise<Proxy> {
  const server = createServer((asked, response) => {
    const { pathname, search, port } = new URL(asked.url ?? '/');
    const options = { host: '127.0.0.1', port, path: pathname + search, method: asked.method, headers: asked.headers };
    const asking = request(options, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    asking.on('error', () => response.destroy());
    response.on('close', () => asking.destroy()); // also where the page was killed before the answer
    asked.pipe(asking);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    end() {
      server.close();
      server.closeAllConnections();
    },
  };
}
