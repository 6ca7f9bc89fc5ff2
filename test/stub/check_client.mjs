/*
 * check_client.mjs: is the stub what Slack's own clients think Slack is?
 *
 * Prints "ok - name" and "not ok - name"; who runs it counts.
 */
import { isDeepStrictEqual } from 'node:util';
import { LogLevel, WebClient, WebClientEvent } from '@slack/web-api';
import { IncomingWebhook } from '@slack/webhook';

const { SLACK, CONTROL } = process.env;
const HOOK = `${SLACK}/services/T0CLIENT/B0CLIENT/secret`;
const OPTIONS = { slackApiUrl: `${SLACK}/api/`, logLevel: LogLevel.ERROR };
const QUICK = { retries: 3, factor: 1, minTimeout: 10, maxTimeout: 20 };

const client = (token = 'xoxb-client', more = {}) =>
  new WebClient(token, { ...OPTIONS, retryConfig: { retries: 0 }, ...more });
const web = client();

const is = (got, expected, name) => {
  const good = isDeepStrictEqual(got, expected);

  console.log(`${good ? 'ok' : 'not ok'} - ${name}`);
  if (!good)
    console.log(`#      got: ${JSON.stringify(got)}\n# expected: ${JSON.stringify(expected)}`);
};

const control = async (call, body) => {
  const response = await fetch(`${CONTROL}/${call}`,
    body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) });

  return response.json();
};

const fault = (what, times = 1) => control('faults', [{ times, fault: what }]);

/* Slack's word for what went wrong, or how the client calls it. */
const errorOf = async (call) => {
  try {
    await call();
    return 'none';
  } catch (error) {
    return error.data?.error ?? error.code;
  }
};

const section = (text) => ({ type: 'section', text: { type: 'mrkdwn', text } });

const shows = async (name) => {
  const { channels } = await control('messages');

  return Object.values(channels).find((channel) => channel.name === name)?.messages ?? [];
};

const sayThreadUpdate = async () => {
  const first = await web.chat.postMessage({ channel: '#client', text: 'one', blocks: [section('*one*')] });
  const reply = await web.chat.postMessage({ channel: first.channel, text: 'reply', thread_ts: first.ts });
  const update = await web.chat.update({ channel: first.channel, ts: first.ts, text: 'two', blocks: [section('two')] });
  const [message, ...more] = await shows('client');

  is([first.ok, first.message.text, typeof first.ts], [true, 'one', 'string'], 'client: chat.postMessage');
  is([reply.ok, reply.message.thread_ts], [true, first.ts], 'client: a reply in the thread');
  is([update.ok, update.ts, update.text], [true, first.ts, 'two'], 'client: chat.update');
  is([message.shown, message.updates, message.replies.map((each) => each.shown), more], ['two', 1, ['reply'], []],
    'client: the channel shows one message, as updated, with its reply');
};

const askWhoAmI = async () => {
  const { ok, team, bot_id: bot } = await web.auth.test();

  is([ok, team, typeof bot], [true, 'Stub', 'string'], 'client: auth.test');
  is(await errorOf(() => client('xoxb-revoked').auth.test()), 'token_revoked', 'client: token_revoked');
  is(await errorOf(() => client('nonsense').auth.test()), 'invalid_auth', 'client: invalid_auth');
  is(await errorOf(() => client('').auth.test()), 'not_authed', 'client: not_authed');
};

const beRefused = async () => {
  const post = (message) => errorOf(() => web.chat.postMessage({ channel: 'client', ...message }));
  const [{ ts }] = await shows('client');
  const { channel } = await web.chat.postMessage({ channel: 'client', text: 'where updates are tried' });
  const update = (message) => errorOf(() => web.chat.update({ channel, ts, text: 'x', ...message }));

  is(await post({ channel: 'nowhere', text: 'x' }), 'channel_not_found', 'client: channel_not_found');
  is(await post({ channel: 'archived', text: 'x' }), 'is_archived', 'client: is_archived');
  is(await post({ text: '' }), 'no_text', 'client: no_text');
  is(await post({ text: 'x'.repeat(40001) }), 'msg_too_long', 'client: msg_too_long');
  is(await post({ text: 'x', blocks: [section('x'.repeat(3001))] }), 'invalid_blocks', 'client: invalid_blocks');
  is(await post({ text: 'x', thread_ts: '1500000000.000100' }), 'thread_not_found', 'client: no such thread');
  is(await update({ ts: '1500000000.000100' }), 'message_not_found', 'client: message_not_found');
  is(await update({ channel: 'client' }), 'channel_not_found', 'client: an update by name is refused');
};

const beLimited = async () => {
  const patient = client('xoxb-client', { retryConfig: QUICK });
  const waits = [];
  const started = Date.now();

  patient.on(WebClientEvent.RATE_LIMITED, (seconds) => waits.push(seconds));
  await fault({ status: 429, headers: { 'Retry-After': '1' } });
  is((await patient.chat.postMessage({ channel: 'client', text: 'limited' })).ok, true, 'client: sent after a 429');
  is([waits, Date.now() - started >= 1000], [[1], true], 'client: it has waited for as long as Retry-After said');
  await fault({ status: 429, headers: { 'Retry-After': '1' } });
  is(await errorOf(() => client('xoxb-client', { rejectRateLimitedCalls: true }).auth.test()),
    'slack_webapi_rate_limited_error', 'client: ratelimited');
  await fault({ reset_before: true }, 2);
  is((await patient.chat.postMessage({ channel: 'client', text: 'reset twice' })).ok, true, 'client: sent after resets');
  await fault({ status: 503 });
  is(await errorOf(() => web.auth.test()), 'slack_webapi_http_error', 'client: 503');
  await fault({ api_error: 'fatal_error' });
  is(await errorOf(() => web.auth.test()), 'fatal_error', 'client: fatal_error');
  await control('faults', []);
};

const useWebhook = async () => {
  const hook = new IncomingWebhook(HOOK);
  const sent = await hook.send({ text: 'by webhook', blocks: [section('by *webhook*')] });
  const status = async (message) => {
    try {
      return (await hook.send(message)).text;
    } catch (error) {
      return [error.statusCode, error.body];
    }
  };

  is(sent.text, 'ok', 'webhook client: ok');
  is((await control('messages')).webhooks[new URL(HOOK).pathname].map((each) => each.shown), ['by *webhook*'],
    'webhook client: shown');
  is(await status({}), [400, 'no_text'], 'webhook client: no_text');
  await fault({ code: 'no_service' });
  is(await status({ text: 'x' }), [404, 'no_service'], 'webhook client: no_service');
};

for (const part of [sayThreadUpdate, askWhoAmI, beRefused, beLimited, useWebhook]) {
  await control('reset', {});
  if (part === beRefused) await web.chat.postMessage({ channel: 'client', text: 'first' });
  await part();
}
