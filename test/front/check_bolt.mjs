/*
 * check_bolt.mjs: a receiver of Slack's own @slack/bolt, and what it makes of
 * requests that are signed as Slack signs them, or not quite.
 *
 * Prints a JSON array: the body and headers of each request, the status that Bolt
 * answered, and the body as Bolt has read it.  "strict" is what stripe_sync asks
 * for beyond Bolt: a plain timestamp that is not of the future, and nothing but
 * 64 hex digits in the signature.
 */
import { createHmac } from 'node:crypto';
import bolt from '@slack/bolt';

const { SIGNING_SECRET } = process.env;
const TEXTS = ['plain', 'a + b & c = d % e', 'é ñ 💶 \u2028', '"quoted" \\ \'and\' <@U1>', '', ' ', '%2F%zz', 'line\nline\ttab', '{"a":1}'];

let seen;
let n = 0;
const receiver = new bolt.HTTPReceiver({
  signingSecret: SIGNING_SECRET,
  logger: { debug() {}, info() {}, warn() {}, error() {}, setLevel() {}, getLevel: () => 'error', setName() {} },
});

receiver.init({
  processEvent: async (event) => {
    seen = event.body;
    await event.ack();
  },
});
const server = await receiver.start(0);
const url = `http://127.0.0.1:${server.address().port}/slack/events`;

const form = (fields) => new URLSearchParams(fields).toString();
const payload = (fields) => form({ payload: JSON.stringify({
  token: 'x', trigger_id: `${n}.1`, team: { id: 'T1' }, user: { id: 'U1', username: 'ada', team_id: 'T1' }, ...fields }) });

const BODIES = [
  (text) => payload({ type: 'block_actions', response_url: 'https://hooks.slack.com/actions/x', actions: [{ action_id: 'app.own', value: text }] }),
  (text) => payload({ type: 'view_submission', view: { callback_id: 'cb', private_metadata: text } }),
  (text) => form({ token: 'x', team_id: 'T1', user_id: 'U1', command: '/orders', text, response_url: 'https://hooks.slack.com/commands/x', trigger_id: `${n}.1` }),
  (text) => JSON.stringify({ token: 'x', type: 'event_callback', team_id: 'T1', event_id: `Ev${n}`, event: { type: 'app_mention', user: 'U1', text } }),
];

const now = () => Math.floor(Date.now() / 1000);
const sign = (body, at, secret = SIGNING_SECRET) => `v0=${createHmac('sha256', secret).update(`v0:${at}:${body}`).digest('hex')}`;
const signed = (body, age = 0) => ({ body, at: `${now() - age}`, signature: sign(body, now() - age) });

/* Each returns { body, at, signature } of a body */
const VARIANTS = [
  (body) => signed(body),
  (body) => signed(body, 150),
  (body) => signed(body, 400),
  (body) => signed(body, -200),
  (body) => signed(body, -400),
  (body) => ({ ...signed(body), signature: sign(body, now(), 'another') }),
  (body) => ({ ...signed(body), body: `${body} ` }),
  (body) => ({ ...signed(body), body: body.replaceAll(/%[0-9A-F]{2}/g, (escape) => escape.toLowerCase()) }),
  (body) => ({ ...signed(body), body: body.replaceAll('+', '%20') }),
  (body) => ({ ...signed(body), at: `${now() - 1}` }),
  (body) => ({ ...signed(body), signature: signed(body).signature.toUpperCase() }),
  (body) => ({ ...signed(body), signature: signed(body).signature.replace(/.$/, (digit) => (digit === '0' ? '1' : '0')) }),
  (body) => ({ ...signed(body), signature: signed(body).signature.slice(0, -1) }),
  (body) => ({ ...signed(body), signature: `${signed(body).signature}=x` }),
  (body) => ({ ...signed(body), signature: signed(body).signature.replace('v0', 'v1') }),
  (body) => ({ ...signed(body), signature: 'v0=' }),
  (body) => ({ ...signed(body), signature: undefined }),
  (body) => ({ ...signed(body), at: undefined }),
  (body) => ({ body, at: 'soon', signature: sign(body, 'soon') }),
  (body) => ({ body, at: `0${now()}`, signature: sign(body, `0${now()}`) }),
];

const results = [];
for (const text of TEXTS)
  for (const make of BODIES)
    for (const vary of VARIANTS) {
      n += 1;
      const { body, at, signature } = vary(make(text));
      const headers = { ...(at !== undefined && { 'X-Slack-Request-Timestamp': at }), ...(signature !== undefined && { 'X-Slack-Signature': signature }) };

      seen = undefined;
      const response = await fetch(url, { method: 'POST', body,
        headers: { ...headers, 'Content-Type': body.startsWith('{') ? 'application/json' : 'application/x-www-form-urlencoded' } });

      await response.text();
      results.push({ body, headers, bolt: response.status, seen,
        strict: /^[1-9][0-9]{0,11}$/.test(at) && Number(at) <= now() + 300 && /^v0=[0-9a-f]{64}$/.test(signature) });
    }
console.log(JSON.stringify(results));
await receiver.stop();
