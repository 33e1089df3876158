/** Base64 by hand: `btoa` and `Buffer` are platform API. */
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

export function toBase64(bytes: Uint8Array): string {
  let text = '';
  let bits = 0;
  let count = 0;
  for (const byte of bytes) {
    bits = (bits << 8) | byte;
    for (count += 8; count >= 6; ) text += ALPHABET[(bits >> (count -= 6)) & 63];
  }
  if (count > 0) text += ALPHABET[(bits << (6 - count)) & 63];
  while (text.length % 4) text += '=';
  return text;
}

export function fromBase64(text: string): ArrayBuffer {
  const bytes: number[] = [];
  let bits = 0;
  let count = 0;
  for (const char of text.replace(/=+$/, '')) {
    const value = ALPHABET.indexOf(char);
    if (value < 0) throw new TypeError('not base64');
    bits = (bits << 6) | value;
    count += 6;
    if (count >= 8) bytes.push(bits >> (count -= 8));
  }
  return new Uint8Array(bytes).buffer;
}
