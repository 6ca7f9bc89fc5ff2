/*
 * check_stripe_client.mjs: is the stub what Stripe's own client thinks Stripe is?
 *
 * Prints "ok - name" and "not ok - name"; who runs it counts.
 */
import { isDeepStrictEqual } from 'node:util';
import Stripe from 'stripe';

const { STRIPE, CONTROL } = process.env;
const { hostname: host, port } = new URL(STRIPE);

const client = (key = 'sk_test_client', more = {}) =>
  new Stripe(key, { host, port, protocol: 'https', maxNetworkRetries: 0, telemetry: false, ...more });
const stripe = client();

const is = (got, expected, name) => {
  const good = isDeepStrictEqual(got, expected);

  console.log(`${good ? 'ok' : 'not ok'} - ${name}`);
  if (!good)
    console.log(`#      got: ${JSON.stringify(got)}\n# expected: ${JSON.stringify(expected)}`);
};

const control = async (call, body) => {
  const response = await fetch(`${CONTROL}/${call}`,
    body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) });
  const value = await response.json();

  if (!response.ok) throw new Error(`${call}: ${JSON.stringify(value)}`);
  return value;
};

const fill = (type, count, more = {}) => control('fill', { type, count, ...more });
const fault = (what, times = 1) => control('faults', [{ times, fault: what }]);
const all = async (list) => {
  const seen = [];

  for await (const each of list) seen.push(each);
  return seen;
};
const plain = (value) => JSON.parse(JSON.stringify(value));
const ids = (objects) => objects.map((each) => each.id);

/* The class and the code of what went wrong. */
const errorOf = async (call) => {
  try {
    await call();
    return ['none'];
  } catch (error) {
    return [error.type, error.statusCode, error.code ?? null];
  }
};

/* Type, and the client's list of it. */
const LISTS = [
  ['customer', (page) => stripe.customers.list(page)],
  ['subscription', (page) => stripe.subscriptions.list({ ...page, status: 'all' })],
  ['invoice', (page) => stripe.invoices.list(page)],
  ['charge', (page) => stripe.charges.list(page)],
  ['payment_intent', (page) => stripe.paymentIntents.list(page)],
  ['product', (page) => stripe.products.list(page)],
  ['price', (page) => stripe.prices.list(page)],
  ['payment_method', (page) => stripe.paymentMethods.list(page)],
  ['balance_transaction', (page) => stripe.balanceTransactions.list(page)],
  ['coupon', (page) => stripe.coupons.list(page)],
  ['tax_rate', (page) => stripe.taxRates.list(page)],
  ['checkout.session', (page) => stripe.checkout.sessions.list(page)],
  ['billing_portal.configuration', (page) => stripe.billingPortal.configurations.list(page)],
  ['radar.value_list', (page) => stripe.radar.valueLists.list(page)],
  ['issuing.card', (page) => stripe.issuing.cards.list(page)],
  ['treasury.financial_account', (page) => stripe.treasury.financialAccounts.list(page)],
];

const readLists = async () => {
  for (const [type] of LISTS) await fill(type, 120, { size: 1500 });
  const state = await control('state');

  for (const [type, list] of LISTS) {
    const seen = await all(list({ limit: 50 }));

    is([seen.length, plain(Object.fromEntries(seen.map((each) => [each.id, each])))],
      [Object.keys(state[type]).length, state[type]], `client: every ${type}, each once, as the stub has it`);
  }
  const newest = (await control('ids?type=customer')).customer;

  is(ids((await stripe.customers.list({ limit: 5, ending_before: newest[50] })).data), newest.slice(45, 50),
    'client: ending_before');
  is(ids(await all(stripe.customers.list({ limit: 7, ending_before: newest[40] }))).length, 40,
    'client: pages backwards');
  const [{ created }] = (await stripe.customers.list({ limit: 1, starting_after: newest[59] })).data;

  is(ids(await all(stripe.customers.list({ limit: 50, created: { lte: created } }))), newest.slice(60),
    'client: created');
};

const readNested = async () => {
  const { ids: [subscription] } = await fill('subscription', 1, { children: 25 });
  const { ids: [invoice] } = await fill('invoice', 1, { children: 12 });
  const { customer } = await stripe.invoices.retrieve(invoice);

  is([(await all(stripe.subscriptionItems.list({ subscription, limit: 9 }))).length,
    (await stripe.subscriptions.retrieve(subscription)).items.has_more], [25, true], 'client: items of a subscription');
  is((await all(stripe.invoices.listLineItems(invoice, { limit: 5 }))).length, 12, 'client: lines of an invoice');
  await control('objects', [{ object: 'tax_id', customer }, { object: 'card', customer }]);
  is([(await stripe.customers.listTaxIds(customer)).data.length, (await stripe.customers.listSources(customer)).data.length],
    [1, 1], 'client: what a customer has');
  is((await stripe.subscriptions.retrieve(subscription, { expand: ['customer'] })).customer.id, customer,
    'client: expand');
  is([(await stripe.balance.retrieve()).object, (await stripe.tax.settings.retrieve()).object],
    ['balance', 'tax.settings'], 'client: singletons');
};

const retrieve = async () => {
  const { ids: [one, other] } = await fill('customer', 2);

  is(plain(await stripe.customers.retrieve(one)), await control(`object?id=${one}`), 'client: retrieve');
  await control('delete', { id: other });
  is(plain(await stripe.customers.retrieve(other)), { id: other, object: 'customer', deleted: true },
    'client: retrieve what is deleted');
  is(await errorOf(() => stripe.customers.retrieve('cus_no')), ['StripeInvalidRequestError', 404, 'resource_missing'],
    'client: resource_missing');
};

const readEvents = async () => {
  const { ids: made } = await fill('customer', 40, { events: true, since: Date.now() / 1000 - 86400 });
  const event = await control('change', { id: made[3], set: { name: 'Zoë' } });

  is(plain(await stripe.events.retrieve(event.id)), event, 'client: an event');
  is(ids(await all(stripe.events.list({ types: ['customer.updated', 'invoice.paid'], limit: 3 }))), [event.id],
    'client: types of events');
  is(ids(await all(stripe.events.list({ limit: 7 }))), ids(await control('events')).reverse(),
    'client: every event, the newest first');
  is((await all(stripe.events.list({ type: 'customer.created', delivery_success: false, limit: 9 }))).length, 40,
    'client: events by delivery');
};

const beAConnectedAccount = async () => {
  const { ids: mine } = await fill('customer', 3, { account: 'acct_client' });

  is(ids((await stripe.customers.list({}, { stripeAccount: 'acct_client' })).data), mine.reverse(),
    'client: a connected account');
  is((await stripe.customers.list()).data, [], 'client: and not the platform');
  is(await errorOf(() => stripe.customers.list({}, { stripeAccount: 'acct_no' })),
    ['StripePermissionError', 403, 'account_invalid'], 'client: an unknown account');
};

const beRefused = async () => {
  await control('keys', { rk_test_some: { deny: ['^/v1/charges'] } });
  is(await errorOf(() => client('sk_test_wrong').customers.list()), ['StripeAuthenticationError', 401, null],
    'client: a wrong key');
  is(await errorOf(() => client('sk_test_revoked').customers.list()),
    ['StripeAuthenticationError', 401, 'api_key_expired'], 'client: a revoked key');
  is(await errorOf(() => client('rk_test_some').charges.list()), ['StripePermissionError', 403, null],
    'client: a list that a key may not read');
  is(await errorOf(() => client('rk_test_some').customers.list()), ['none'], 'client: and one that it may');
  is(await errorOf(() => stripe.customers.list({ foo: 'bar' })),
    ['StripeInvalidRequestError', 400, 'parameter_unknown'], 'client: parameter_unknown');
  is(await errorOf(() => stripe.subscriptionItems.list({})),
    ['StripeInvalidRequestError', 400, 'parameter_missing'], 'client: parameter_missing');
  is(await errorOf(() => stripe.customers.list({ limit: 101 })),
    ['StripeInvalidRequestError', 400, 'parameter_invalid_integer'], 'client: a limit too large');
};

/* How often it was asked, and what came of it. */
const tries = async (what, times, retries) => {
  await control('reset', {});
  await fault(what, times);
  const [type] = await errorOf(() => client('sk_test_client', { maxNetworkRetries: retries }).customers.list());

  return [type, (await control('stats')).requests];
};

const tryAgain = async () => {
  is(await tries({ status: 429 }, null, 0), ['StripeRateLimitError', 1], 'client: 429');
  is(await tries({ status: 429 }, null, 1), ['StripeRateLimitError', 1],
    'client: 429 is not tried again without Stripe-Should-Retry');
  is(await tries({ status: 429, headers: { 'Stripe-Should-Retry': 'true' } }, null, 1), ['StripeRateLimitError', 2],
    'client: Stripe-Should-Retry, in vain');
  is(await tries({ status: 429, headers: { 'Stripe-Should-Retry': 'true' } }, 1, 2), ['none', 2],
    'client: Stripe-Should-Retry');
  is(await tries({ status: 500 }, 1, 2), ['none', 2], 'client: 500');
  is(await tries({ status: 500, headers: { 'Stripe-Should-Retry': 'false' } }, 1, 2), ['StripeAPIError', 1],
    'client: Stripe-Should-Retry says no');
  is(await tries({ status: 409 }, 1, 2), ['none', 2], 'client: 409');
  is(await tries({ reset_before: true }, 1, 2), ['none', 2], 'client: a reset');
  is(await tries({ malformed_json: true }, 1, 0), ['StripeAPIError', 1], 'client: a malformed page');
};

const makeAnEndpoint = async () => {
  const url = 'https://example.com/hook';
  const made = await client('sk_test_client', { maxNetworkRetries: 1 }).webhookEndpoints
    .create({ url, enabled_events: ['invoice.paid'], metadata: { a: 'b' } });
  const { data: [listed, ...more] } = await stripe.webhookEndpoints.list();

  is([made.url, made.enabled_events, made.metadata, made.secret.startsWith('whsec_')],
    [url, ['invoice.paid'], { a: 'b' }, true], 'client: a webhook endpoint');
  is([listed.id, 'secret' in listed, more], [made.id, false, []], 'client: listed without its secret');
  await fault({ reset_before: true, deliver: true });
  await client('sk_test_client', { maxNetworkRetries: 1 }).webhookEndpoints.create({ url, enabled_events: ['*'] });
  is((await stripe.webhookEndpoints.list()).data.length, 2, 'client: what is tried again is made once');
  const params = { url: `${url}/2`, enabled_events: ['*'], api_version: made.api_version ?? undefined };
  const once = { idempotencyKey: 'once' };
  const first = await stripe.webhookEndpoints.create(params, once);
  const second = await stripe.webhookEndpoints.create(params, once);

  is([second.id, second.secret, second.lastResponse.headers['idempotent-replayed']], [first.id, first.secret, 'true'],
    'client: an idempotency key gets the same answer again, with its secret');
  is(await errorOf(() => stripe.webhookEndpoints.create({ ...params, url }, once)), ['StripeIdempotencyError', 400, null],
    'client: and no other parameters');
  is(await errorOf(() => stripe.webhookEndpoints.create({ url, enabled_events: ['no.such'] })),
    ['StripeInvalidRequestError', 400, null], 'client: an unknown type of events');
  is(await errorOf(() => stripe.webhookEndpoints.create({ url: 'no url', enabled_events: ['*'] })),
    ['StripeInvalidRequestError', 400, 'url_invalid'], 'client: no URL');
  is(await errorOf(() => client('rk_test_reads').webhookEndpoints.create(params)), ['StripePermissionError', 403, null],
    'client: a key that may only read makes none');
  is([(await client('sk_live_client').webhookEndpoints.create({ url, enabled_events: ['*'] })).livemode, made.livemode],
    [true, false], 'client: an endpoint has the mode of its key');
  is(ids(await all(stripe.webhookEndpoints.list({ limit: 1 }))), (await control('ids')).webhook_endpoint,
    'client: endpoints in pages');
  is((await stripe.webhookEndpoints.update(made.id, { disabled: true })).status, 'disabled', 'client: disabled');
  is((await stripe.webhookEndpoints.del(made.id)).deleted, true, 'client: deleted');
};

for (const part of [readLists, readNested, retrieve, readEvents, beAConnectedAccount, beRefused, tryAgain, makeAnEndpoint]) {
  await control('reset', {});
  await part();
}
