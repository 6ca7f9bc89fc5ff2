/*
 * check_client.mjs: is the stub what Slack's own clients think Slack is?
 *
 * Prints "ok - name" and "not ok - name"; who runs it counts.
 */
import { createHmac } from 'node:crypto';
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

const VIEW = {
  type: 'modal', callback_id: 'ask', title: { type: 'plain_text', text: 'Ask' }, submit: { type: 'plain_text', text: 'Send' },
  blocks: [{ type: 'input', block_id: 'q', label: { type: 'plain_text', text: 'Why?' }, element: { type: 'plain_text_input', action_id: 'why' } }],
};

const openViews = async () => {
  const pressed = () => control('command', { command: '/x', user: 'U0CLIENT' });
  const open = (id, view = VIEW) => web.views.open({ trigger_id: id, view });
  const { trigger_id: trigger } = await pressed();
  const { ok, view } = await open(trigger);

  is([ok, view.callback_id, view.title.text, view.state.values, typeof view.id], [true, 'ask', 'Ask', {}, 'string'], 'client: views.open');
  is(await errorOf(() => open(trigger)), 'exchanged_trigger_id', 'client: a trigger_id is used once');
  is(await errorOf(() => open('1.2.nonsense')), 'invalid_trigger_id', 'client: invalid_trigger_id');
  is(await errorOf(async () => open((await pressed()).trigger_id, { ...VIEW, submit: undefined })), 'invalid_arguments', 'client: inputs want a submit button');
  const late = (await pressed()).trigger_id;
  await control('expire', {});
  is(await errorOf(() => open(late)), 'expired_trigger_id', 'client: expired_trigger_id');

  const { body, headers } = await control('submit', { user: 'U0CLIENT', values: { q: { why: 'because' } } });
  const payload = JSON.parse(new URLSearchParams(body).get('payload'));
  is([payload.type, payload.view.state.values.q.why.value, payload.view.id], ['view_submission', 'because', view.id], 'a view is submitted');
  is(headers['X-Slack-Signature'], signatureOf(headers['X-Slack-Request-Timestamp'], body), 'what Slack sends is signed');
};

const signatureOf = (at, body) =>
  `v0=${createHmac('sha256', '0123456789abcdef0123456789abcdef').update(`v0:${at}:${body}`).digest('hex')}`;

const listGroups = async () => {
  const list = (usergroup) => web.usergroups.users.list({ usergroup });

  await control('groups', { S0CLIENT: ['U1', 'U2'], S0EMPTY: [] });
  is((await list('S0CLIENT')).users, ['U1', 'U2'], 'client: usergroups.users.list');
  is((await list('S0EMPTY')).users, [], 'client: a group without members');
  is(await errorOf(() => list('S0NOBODY')), 'no_such_subteam', 'client: no_such_subteam');
  await control('scopes', { 'xoxb-client': 'chat:write' });
  is(await errorOf(() => list('S0CLIENT')), 'missing_scope', 'client: missing_scope');
  is((await web.chat.postMessage({ channel: 'client', text: 'may' })).ok, true, 'client: what is in its scopes, a token may');
  await control('scopes', { 'xoxb-client': null });
  await control('plan', { paid: false });
  is(await errorOf(() => list('S0CLIENT')), 'plan_upgrade_required', 'client: plan_upgrade_required');
};

const buttons = (value) => [{ type: 'actions', elements: [
  { type: 'button', action_id: 'go', value, text: { type: 'plain_text', text: 'Go' } },
  { type: 'static_select', action_id: 'pick', options: [{ text: { type: 'plain_text', text: '1 h' }, value: `${value}:1h` }] }] }];

/* By whoever has pressed a button: fetch, as Slack's documentation has it. */
const answerPresses = async () => {
  const { channel, ts } = await web.chat.postMessage({ channel: 'client', text: 'press', blocks: buttons('7') });
  const press = (how) => control('press', { channel, ts, action_id: 'go', user: 'U0CLIENT', ...how });
  const answer = async (url, message) => {
    const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(message) });
    return [response.status, await response.text()];
  };
  const { body, response_url: url } = await press();
  const { actions: [action], user, channel: where, message } = JSON.parse(new URLSearchParams(body).get('payload'));

  is([action.action_id, action.value, user.id, where.id, message.ts], ['go', '7', 'U0CLIENT', channel, ts], 'a press says what, who and where');
  is(await answer(url, { text: 'seen' }), [200, '{"ok":true}'], 'response_url: to the person');
  is(await answer(url, { text: 'all', response_type: 'in_channel' }), [200, '{"ok":true}'], 'response_url: to the channel');
  is(await answer(url, { text: 'new', replace_original: true }), [200, '{"ok":true}'], 'response_url: in the place of the message');
  is(await answer(url, { text: '' }), [400, '{"ok":false,"error":"no_text"}'], 'response_url: a message that is none');
  is((await control('private')).map((each) => [each.user, each.shown]), [['U0CLIENT', 'seen']], 'one person sees what only that person should');
  is((await shows('client')).map((each) => each.shown), ['new', 'all'], 'the channel shows the rest');
  is((await answer(url, { delete_original: true }))[0], 200, 'response_url: the message goes');
  is(await answer(url, { text: 'x' }), [404, '{"ok":false,"error":"used_url"}'], 'response_url: five uses');
  const { response_url: other } = await control('command', { command: '/x', text: 'a & b', user: 'U0CLIENT' });
  is(await answer(other, { text: 'command' }), [200, 'ok'], 'response_url: of a command');
  await control('expire', {});
  is(await answer(other, { text: 'x' }), [404, 'expired_url'], 'response_url: thirty minutes');
};

/* Buttons of a message that an update has taken away can still be on a screen. */
const pressWhatIsGone = async () => {
  const { channel, ts } = await web.chat.postMessage({ channel: 'client', text: 'press', blocks: buttons('7') });
  const press = (how) => control('press', { channel, ts, user: 'U0CLIENT', ...how });
  const picked = JSON.parse(new URLSearchParams((await press({ action_id: 'pick', option: '1h' })).body).get('payload')).actions[0];

  is([picked.type, picked.selected_option.value], ['static_select', '7:1h'], 'a choice of a menu');
  await web.chat.update({ channel, ts, text: 'over', blocks: [section('over')] });
  is('error' in await press({ action_id: 'go' }), true, 'a button that is gone cannot be pressed');
  is('body' in await press({ action_id: 'go', stale: true }), true, 'but where it is still shown');
  is(await errorOf(() => client('xoxb-1-2-other').chat.update({ channel, ts, text: 'x' })), 'cant_update_message', 'client: only its own messages are updated');
};

/* What an app says to Slack in the call itself. */
const sayInTheCall = async () => {
  const said = async (what, how, status, answer) => {
    const { id } = await control(what, how);
    return (await control('answered', { id, status, answer })).error ?? 'taken';
  };

  is(await said('command', { command: '/x' }, 200, { response_type: 'ephemeral', text: 'help' }), 'taken', 'a command is answered');
  is((await control('private')).map((each) => each.shown), ['help'], 'the person sees it');
  is(/invalid_blocks/.test(await said('command', { command: '/x' }, 200, { text: 'x', blocks: [{ type: 'marquee' }] })), true, 'not if Slack would not show it');
  is(/operation_failed/.test(await said('command', { command: '/x' }, 500)), true, 'nor with another status');
  is(await said('challenge', {}, 200, { challenge: '3eZbrw1aB' }), 'taken', 'url_verification');
  is(/challenge_failed/.test(await said('challenge', {}, 200, 'ok')), true, 'wants its challenge back');
  is(/answer_ignored/.test(await said('event', { event: { type: 'app_mention' } }, 200, { text: 'x' })), true, 'an event is answered by nothing');
};

for (const part of [sayThreadUpdate, askWhoAmI, beRefused, beLimited, useWebhook, openViews, listGroups, answerPresses, pressWhatIsGone, sayInTheCall]) {
  await control('reset', {});
  if (part === beRefused) await web.chat.postMessage({ channel: 'client', text: 'first' });
  await part();
}
