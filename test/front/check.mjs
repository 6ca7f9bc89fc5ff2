/*
 * check.mjs: what Stripe would see of a front in Node, and what Postgres holds
 * afterwards.  Prints the lines of TAP without numbers and plan, and at last
 * "done".
 *
 * FRONT is the front's URL; VECTORS, where it is set, a file of signatures to
 * hold Stripe's package against the database with.
 */
import fs from 'node:fs';
import http from 'node:http';
import { isDeepStrictEqual } from 'node:util';
import pg from 'pg';
import Stripe from 'stripe';

const { FRONT, SECRET, VECTORS } = process.env;
const { webhooks } = new Stripe('sk_test_never_used');
const db = new pg.Pool();

const ok = (good, name) => console.log(`${good ? 'ok' : 'not ok'} - ${name}`);

const is = (got, expected, name) => {
  ok(isDeepStrictEqual(got, expected), name);
  if (!isDeepStrictEqual(got, expected))
    console.log(`#      got: ${JSON.stringify(got)}\n# expected: ${JSON.stringify(expected)}`);
};

const one = async (sql, ...values) => Object.values((await db.query(sql, values)).rows[0] ?? {})[0];

/*
 * Post bytes, in pieces of a size when asked: [status, body].  A framework that
 * refuses a body by its size may answer with a page of its own.
 */
const post = (payload, headers, piece) => new Promise((resolve, reject) => {
  let answered = false;
  const request = http.request(FRONT, { method: 'POST', headers }, async (response) => {
    let text = '';
    for await (const chunk of response.setEncoding('utf8')) text += chunk;
    resolve([response.statusCode, text.startsWith('{') ? JSON.parse(text) : null]);
    answered = true;
  }).on('error', (error) => { if (!answered) reject(error); });
  const bytes = Buffer.from(payload);

  for (let i = 0; piece && i < bytes.length; i += piece)
    request.write(bytes.subarray(i, i + piece));
  request.end(piece ? undefined : bytes);
});

const sign = (payload, options = {}) => ({
  'content-type': 'application/json; charset=utf-8',
  'stripe-signature': webhooks.generateTestHeaderString({ payload, secret: SECRET, ...options }),
});

const deliver = (payload, options) => post(payload, sign(payload, options));

const event = (id, object, more) => ({
  id, object: 'event', api_version: '2026-10-28.endive', created: 1760000000,
  type: 'customer.created', livemode: false, pending_webhooks: 1,
  request: { id: 'req_1', idempotency_key: null }, data: { object }, ...more });

const customer = (id, name = 'Ada') => ({
  id, object: 'customer', created: 1760000000, livemode: false, name, metadata: {} });

const stored = (id) => one('SELECT payload::text FROM stripe_sync.event WHERE id = $1', id);

/* ---- what the front answers ---- */

const first = JSON.stringify(event('evt_first', customer('cus_1')));
const old = Math.floor(Date.now() / 1000) - 301;
const other = JSON.stringify(event('evt_other', customer('cus_2')));

is(await deliver(first), [200, { event: 'evt_first', status: 'applied' }], 'good: 200, applied');
is(await one('SELECT name FROM stripe.customers WHERE id = $1', 'cus_1'), 'Ada', 'good: mirrored');
is(await deliver(first), [200, { event: 'evt_first', status: 'duplicate' }], 'again: 200, duplicate');
for (const [name, code, answer] of [
  ['forged', 'SY002', deliver(other, { secret: 'whsec_guessed' })],
  ['changed on the way', 'SY002', post(other.replace('Ada', 'Eve'), sign(other))],
  ['stale', 'SY003', deliver(other, { timestamp: old })],
  ['empty', 'SY004', deliver('')],
  ['not JSON', 'SY004', deliver('{"id":')],
  ['no event', 'SY004', deliver('{"id":"evt_other"}')],
  ['not signed', 'SY001', post(other, {})],
]) {
  const [status, body] = await answer;

  is([status, body.code], [400, code], `${name}: 400, ${code}`);
}
is((await post(other, { ...sign(other), 'stripe-signature': 't=,v1=\u00e9' }))[0], 400,
  'bytes that are no ASCII in the header: 400');
for (const size of [1024 * 1024 + 1, 2 << 20, 5 << 20])
  is((await deliver(JSON.stringify(event('evt_large', customer('cus_3', 'x'.repeat(size))))))[0], 413,
    `too large, ${size} bytes: 413`);
{
  const [status, body] = await deliver(JSON.stringify(event('evt_live', customer('cus_4'), { livemode: true })));

  is([status, body.status, body.code], [200, 'ignored', 'SY006'], 'the other mode: 200, ignored');
}
is(await one('SELECT count(*)::int FROM stripe_sync.event'), 1, 'nothing of all that is stored');
is((await deliver(JSON.stringify(event('evt_unknown', { id: 'x_1', object: 'novelty' }, { type: 'novelty.made' }))))[1],
  { event: 'evt_unknown', status: 'ignored' }, 'a type that nobody knows yet: 200, ignored');

/* ---- byte for byte ---- */

const texts = {
  'multi-byte UTF-8': JSON.stringify(event('evt_utf8', customer('cus_5', 'Zoë €5 \u{1f600} 漢字 \u00a0\u2028'))),
  'pretty-printed': JSON.stringify(event('evt_pretty', customer('cus_6')), null, 2) + '\n',
  'CR LF and tabs': JSON.stringify(event('evt_crlf', customer('cus_7')), null, '\t').replaceAll('\n', '\r\n'),
  'escapes, odd numbers, a key twice': JSON.stringify(event('evt_odd', customer('cus_8')))
    .replace('"Ada"', '"\\u0041\\u0064\\u0061\\/", "x": 1.50e+2, "x": 1e2'),
  'an escaped NUL': JSON.stringify(event('evt_nul', customer('cus_9', 'a\0b'))),
  'half a megabyte': JSON.stringify(event('evt_big', customer('cus_10', 'é'.repeat(250000)))),
};

for (const [name, text] of Object.entries(texts)) {
  const { id } = JSON.parse(text);

  is((await deliver(text))[1], { event: id, status: 'applied' }, `${name}: applied`);
  ok(await stored(id) === text, `${name}: stored byte for byte`);
}
const pieces = JSON.stringify(event('evt_pieces', customer('cus_11', '€\u{1f600}'.repeat(50))));
is((await post(pieces, sign(pieces), 7))[1], { event: 'evt_pieces', status: 'applied' }, 'in pieces of 7 bytes: applied');
ok(await stored('evt_pieces') === pieces, 'in pieces of 7 bytes: stored byte for byte');

/* ---- many at once, and a database that is away ---- */

const burst = JSON.stringify(event('evt_burst', customer('cus_12')));
const answers = await Promise.all(Array.from({ length: 40 }, () => deliver(burst)));
const counts = answers.map(([status, body]) => `${status} ${body.status}`).sort();
is([...new Set(counts)], ['200 applied', '200 duplicate'], 'delivered 40 times at once: all 200');
is(counts.filter((one_of) => one_of === '200 applied').length, 1, 'delivered 40 times at once: applied once');

const late = JSON.stringify(event('evt_late', customer('cus_13')));
await db.query("CREATE FUNCTION public.poison(event jsonb) RETURNS void LANGUAGE sql AS 'SELECT 1 / 0'");
await db.query("SELECT stripe_sync.add_handler('poison', '*', 'public.poison')");
is(await deliver(late), [200, { event: 'evt_late', status: 'failed' }], 'a handler fails: 200, it is stored');
await db.query("SELECT stripe_sync.drop_handler('poison')");

await db.query('ALTER ROLE front NOLOGIN');
await db.query("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'front'");
is((await deliver(other))[0], 500, 'the database is away: 500, and the front lives');
await db.query('ALTER ROLE front LOGIN');
is(await deliver(other), [200, { event: 'evt_other', status: 'applied' }], 'it is back: 200, applied');
await db.query('REVOKE EXECUTE ON FUNCTION stripe_sync.webhook(bytea, jsonb, text) FROM front');
is((await deliver(other))[0], 500, 'the role may not: 500');

/* ---- do Stripe's package and the database agree? ---- */

const packageSays = ({ body, header, secret, tolerance, now }) => {
  try {
    webhooks.constructEvent(body, header, secret, tolerance ?? 0, undefined, now * 1000);
    return 'accept';
  } catch (error) {
    /* it verifies first and parses then */
    return error instanceof SyntaxError ? 'accept' : 'reject';
  }
};

const databaseSays = async ({ body, header, secret, tolerance, now }) => {
  try {
    await db.query(`SELECT stripe_sync.verify_signature($1::bytea, $2, $3,
        make_interval(secs => $4), to_timestamp($5))`, [body, header, secret, tolerance, now]);
    return 'accept';
  } catch (error) {
    return /^SY00[1-47]$/.test(error.code) ? 'reject' : `${error.code} ${error.message}`;
  }
};

for (const vector of VECTORS ? JSON.parse(fs.readFileSync(VECTORS)).vectors : []) {
  const all = vector.official_libraries;

  vector.body = Buffer.from(vector.payload ?? vector.payload_base64, vector.payload === undefined ? 'base64' : 'utf8');
  if (all === 'accept' || all === 'reject')
    is([packageSays(vector), await databaseSays(vector)], [all, vector.verdict],
      `vector ${vector.name}: Stripe's package ${all}s, the database ${vector.verdict}s`);
}

await db.end();
console.log('done');
