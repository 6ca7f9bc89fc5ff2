/*
 * check_payloads.mjs FILE: do the payloads in FILE (JSON lines, or the stub's
 * requests.jsonl) pass Slack's own client and types?  Prints TAP.
 *
 * Each is posted by @slack/web-api to the stub at $SLACK (a reply to a message
 * there is, an update of one), and each is compiled as what @slack/types and
 * @slack/web-api say a message is, when typescript is there.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { LogLevel, WebClient } from '@slack/web-api';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const COMPILER = path.join(HERE, 'node_modules/typescript/bin/tsc');
const OPTIONS = ['--noEmit', '--strict', '--skipLibCheck', '--target', 'es2022',
  '--module', 'nodenext', '--moduleResolution', 'nodenext', '--pretty', 'false'];
const CHANNEL = 'check-payloads';

const client = new WebClient('xoxb-check-payloads', {
  slackApiUrl: `${process.env.SLACK}/api/`, logLevel: LogLevel.ERROR, retryConfig: { retries: 0 } });
let points = 0;

const report = (trouble, name) => {
  console.log(`${trouble ? 'not ok' : 'ok'} ${++points} - ${name}`);
  if (trouble) {
    console.log(trouble.replace(/^/gm, '# '));
    process.exitCode = 1;
  }
};

/* A line is a payload, or a journal's entry about one; the rest is passed over. */
const payloadOf = (line) => {
  const value = JSON.parse(line);

  if (!('n' in value)) return value;
  if (!value.payload || value.path?.endsWith('/auth.test')) return undefined;
  return value.payload;
};

const read = (file) => fs.readFileSync(file, 'utf8').split('\n').filter(Boolean)
  .map(payloadOf).filter(Boolean);

/* The stub says why; the client's own error says less. */
const troubleOf = (error) =>
  [error.message, ...(error.data?.response_metadata?.messages ?? [])].join('\n');

const post = async (payload, parent) => {
  const { ts, thread_ts, ...message } = payload;

  try {
    if (ts !== undefined)
      await client.chat.update({ ...message, channel: parent.channel, ts: parent.ts });
    else
      await client.chat.postMessage({
        ...message, channel: CHANNEL, ...(thread_ts === undefined ? {} : { thread_ts: parent.ts }) });
    return undefined;
  } catch (error) {
    return troubleOf(error);
  }
};

/* TypeScript that compiles when the payload is well-formed: one line for each. */
const source = (payload) => {
  const { ts, ...message } = payload;
  const value = JSON.stringify({ channel: CHANNEL, ...message, ...(ts === undefined ? {} : { ts }) });
  const type = ts === undefined ? 'ChatPostMessageArguments' : 'ChatUpdateArguments';
  const blocks = JSON.stringify(payload.blocks ?? []);

  return `{ const message: ${type} = ${value}; const blocks: KnownBlock[] = ${blocks}; void message; void blocks; }`;
};

const HEAD = `import type { KnownBlock } from '@slack/types'; \
import type { ChatPostMessageArguments, ChatUpdateArguments } from '@slack/web-api';\n`;

/* What the compiler says of each payload, by its position. */
const compile = (payloads) => {
  const file = path.join(HERE, 'payloads.ts');
  const troubles = payloads.map(() => undefined);
  let output = '';

  fs.writeFileSync(file, HEAD + payloads.map(source).join('\n'));
  try {
    execFileSync(process.execPath, [COMPILER, ...OPTIONS, file], { cwd: HERE, encoding: 'utf8' });
  } catch (error) {
    output = error.stdout || error.message;
  }
  for (const line of output.split('\n').filter((each) => /^\S/.test(each))) {
    const at = Number(/^payloads\.ts\((\d+),/.exec(line)?.[1] ?? 2) - 2;

    troubles[at] = [troubles[at], line].filter(Boolean).join('\n');
  }
  return troubles;
};

const nameOf = (payload) => JSON.stringify(payload.text ?? '(no text)').slice(0, 60).replaceAll('#', '');

const main = async (file) => {
  const payloads = read(file);
  const parent = await client.chat.postMessage({ channel: CHANNEL, text: 'what threads and updates refer to' });
  const types = fs.existsSync(COMPILER) ? compile(payloads) : undefined;

  if (payloads.length === 0) report('nothing to check', 'there are payloads');
  for (const [i, payload] of payloads.entries()) {
    report(await post(payload, parent), `client takes ${i + 1}: ${nameOf(payload)}`);
    if (types) report(types[i], `types fit ${i + 1}: ${nameOf(payload)}`);
  }
  console.log(`1..${points}`);
};

await main(process.argv[2]);
