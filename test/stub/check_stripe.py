#!/usr/bin/env python3
"""check_stripe.py DIR: is the stub of Stripe what its documentation says it is?

The stub runs over TLS in DIR (stripe.py, tls.sh).  Prints "ok - name" and
"not ok - name"; who runs it counts.  What goes wrong when it is told to, what
a test sees of it, and its speed: check_stripe_faults.py.
"""

import base64
import json
import os
import sys
import time
from email.utils import parsedate_to_datetime
from urllib.parse import quote

sys.dont_write_bytecode = True

from check_stripe_words import KEY, ask, error, fill, get, ids, run, walk, whole
from check_words import control, header, is_
from stripe_types import LISTS, NESTED, TYPES

DAY = 86400
FIXTURES = os.environ.get("STRIPE_SYNC_FIXTURES") or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "../../../shared/stripe/fixtures.json")


# ---- lists ----

def check_pages():
    made = fill("customer", 25)
    newest = made[::-1]
    page = get("/v1/customers")
    is_(([each["id"] for each in page["data"]], page["has_more"], page["url"], page["object"]),
        (newest[:10], True, "/v1/customers", "list"), "pages: ten, the newest first")
    is_(walk("/v1/customers", 7), newest, "pages: all of them by starting_after")
    page = get(f"/v1/customers?limit=3&ending_before={newest[10]}")
    is_(([each["id"] for each in page["data"]], page["has_more"]), (newest[7:10], True),
        "pages: ending_before gives those just before, newest first")
    page = get(f"/v1/customers?limit=100&ending_before={newest[3]}")
    is_(([each["id"] for each in page["data"]], page["has_more"]), (newest[:3], False),
        "pages: and the last of them says so")
    is_(get(f"/v1/customers?limit=5&starting_after={newest[20]}")["has_more"], False,
        "pages: exactly to the end")
    is_(get("/v1/charges"), {"object": "list", "data": [], "has_more": False, "url": "/v1/charges"},
        "pages: an empty list")
    got = [error(f"/v1/customers?{query}") for query in (
        "limit=0", "limit=101", "limit=x", "foo=1", "starting_after=cus_no", "created[x]=1",
        f"starting_after={made[0]}&ending_before={made[1]}")]
    is_(got, [(400, "parameter_invalid_integer")] * 3 + [
        (400, "parameter_unknown"), (400, "resource_missing"), (400, "parameter_unknown"),
        (400, "invalid_request_error")], "pages: parameters that Stripe refuses")


def check_new_arrivals():
    made = fill("customer", 6)
    first = ids("/v1/customers?limit=2")
    added = control("objects", [{"object": "customer"}])["ids"]
    is_(ids(f"/v1/customers?limit=10&starting_after={first[-1]}"), made[::-1][2:],
        "pages: what arrives meanwhile moves nothing behind the cursor")
    is_(ids(f"/v1/customers?ending_before={first[0]}"), added, "pages: it is before the cursor")


def check_created():
    made = fill("charge", 20, since=1000, until=3000)
    created = {each: control(f"object?id={each}")["created"] for each in made}
    for bounds, fits in (("created[gte]=1500&created[lt]=2500", lambda at: 1500 <= at < 2500),
                         ("created[gt]=1500&created[lte]=2500", lambda at: 1500 < at <= 2500),
                         (f"created={created[made[4]]}", lambda at: at == created[made[4]])):
        is_(walk(f"/v1/charges?{bounds}", 4), [each for each in made[::-1] if fits(created[each])],
            f"created: {bounds.split('=')[0]}")
    without = sorted(path for path, each in LISTS.items() if "created" not in each.filters)
    got = {path: ask(f"{path}?created[gte]=1")[1]["error"]["param"] for path in without}
    is_((set(got.values()), len(without) > 30), ({"created"}, True),
        "created: a parameter unknown to every list that has none")


def check_every_list():
    """Each type that is listed: the list has what was made of it, and retrieve too."""
    wrong, lists = {}, 0
    for name, each in TYPES.items():
        if name == "event" or each.key != "id" or not each.list_path or each.required:
            continue
        made = fill(name, 3)
        listed = walk(each.list_path + ("?status=all" if name == "subscription" else ""), 100)
        if not set(made) <= set(listed) or len(set(listed)) != len(listed):
            wrong[name] = listed
        if each.retrieve_path and get(each.retrieve_path.replace("*", made[0]))["id"] != made[0]:
            wrong[name] = "retrieve"
        lists += 1
    is_((wrong, lists > 70), ({}, True), "lists: each has its objects, and retrieve has them")


def check_by_parent():
    """Lists with a parameter that is needed, and those in the path of a parent."""
    wrong = []
    for name, each in TYPES.items():
        if each.list_path and each.required:
            parameter = each.required[0]
            if error(each.list_path) != (400, "parameter_missing"):
                wrong.append(name)
            made = fill(name, 6)
            if name not in ("apps.secret", "tax.location") and not owned_right(
                    each, lambda owner, e=each, p=parameter: f"{e.list_path}?{p}={owner}",
                    parameter):
                wrong.append(f"{name} by {parameter}")
    is_(wrong, [], "by parent: lists that need a parameter")
    is_(len(ids("/v1/apps/secrets?scope[type]=account")), 6, "by parent: a scope")


def owned_right(type_, target, field):
    """Is each object in the list of its parent, and are the others not?"""
    objects = control(f"state?type={type_.name}")[type_.name]
    if field not in type_.fields:
        return True
    owners = {}
    for each, value in objects.items():
        owners.setdefault(value[field], set()).add(each)
    return all(set(walk(target(owner), 100)) == mine for owner, mine in owners.items())


def check_nested():
    customer, other = fill("customer", 2)
    card = control("objects", [{"object": "card", "customer": customer}])["ids"][0]
    bank = control("objects", [{"object": "bank_account", "customer": customer}])["ids"][0]
    balance = control("objects", [{"object": "customer_balance_transaction", "id": "cbtxn_1",
                                   "customer": customer}])["ids"][0]
    is_((sorted(ids(f"/v1/customers/{customer}/sources")), ids(f"/v1/customers/{other}/sources")),
        (sorted([card, bank]), []), "nested: sources of two types")
    is_(ids(f"/v1/customers/{customer}/balance_transactions"), [balance], "nested: another list")
    is_(get(f"/v1/customers/{customer}/sources/{card}")["id"], card, "nested: one of them")
    is_([error(f"/v1/customers/{who}") for who in
         (f"{other}/sources/{card}", "cus_no/sources", f"{customer}/sources?created=1")],
        [(404, "resource_missing"), (404, "resource_missing"), (400, "parameter_unknown")],
        "nested: neither another's nor nobody's")
    session = fill("checkout.session", 1)[0]
    item = control("objects", [{"object": "item", "_owner": session}])["ids"]
    is_(ids(f"/v1/checkout/sessions/{session}/line_items"), item, "nested: by _owner")
    is_(len(NESTED) > 20, True, "nested: all that the catalog has")


def check_embedded():
    subscription = fill("subscription", 1, children=13)[0]
    page = get(f"/v1/subscriptions/{subscription}")["items"]
    every = ids(f"/v1/subscription_items?subscription={subscription}&limit=100")
    is_((len(every), page["has_more"], [each["id"] for each in page["data"]], page["url"]),
        (13, True, every[:10], f"/v1/subscription_items?subscription={subscription}"),
        "embedded: ten items, and the others by url")
    invoice = fill("invoice", 1, children=2)[0]
    value = get(f"/v1/invoices/{invoice}")
    is_((len(value["lines"]["data"]), value["lines"]["has_more"], ids(value["lines"]["url"])),
        (2, False, [each["id"] for each in value["lines"]["data"]]), "embedded: an invoice's lines")
    is_([get(f"/v1/customers/{value['customer']}")["id"],
         get(f"/v1/subscriptions/{subscription}")["customer"]],
        [value["customer"], value["customer"]], "references: they lead somewhere")
    is_(value["parent"]["subscription_details"]["subscription"], subscription,
        "references: an invoice's subscription")
    is_(ids(f"/v1/invoices?subscription={subscription}"), [invoice], "references: its filter")
    event = control("change", {"id": subscription, "set": {"items": {
        "object": "list", "data": page["data"][:2]}}})
    is_(([each["id"] for each in get(f"/v1/subscriptions/{subscription}")["items"]["data"]],
         len(event["data"]["previous_attributes"]["items"]["data"])), (every[:2], 10),
        "embedded: a page that is set replaces what there was")


def check_filters():
    customers = fill("customer", 3)
    made = fill("subscription", 30)
    values = {each: control(f"object?id={each}") for each in made}
    canceled = {each for each in made if values[each]["status"] == "canceled"}
    listed = [set(walk(f"/v1/subscriptions{query}", 7)) for query in
              ("", "?status=all", "?status=canceled", "?status=ended")]
    is_((bool(canceled), listed), (True, [set(made) - canceled, set(made), canceled, canceled]),
        "filters: subscriptions leave out the canceled")
    mine = {each for each in made if values[each]["customer"] == customers[0]}
    is_(set(walk(f"/v1/subscriptions?status=all&customer={customers[0]}", 3)), mine,
        "filters: customer")
    is_(set(walk(f"/v1/subscriptions?customer={customers[0]}", 3)), mine - canceled,
        "filters: two at once")
    email = get(f"/v1/customers/{customers[1]}")["email"]
    is_(ids(f"/v1/customers?email={quote(email)}"), customers[1:2], "filters: email")
    control("change", {"id": customers[2], "set": {"email": email}})
    is_(ids(f"/v1/customers?email={quote(email)}"), customers[:0:-1], "filters: after a change")


def check_expand():
    made = fill("customer", 1)[0]
    subscription = fill("subscription", 1, children=1)[0]
    value = get(f"/v1/subscriptions/{subscription}?expand[]=customer")
    is_(value["customer"]["id"], made, "expand: a reference")
    value = get("/v1/customers?expand[]=data.subscriptions")["data"][0]
    is_(value["subscriptions"]["data"][0]["id"], subscription, "expand: a page, in a list")
    is_(error("/v1/customers?expand[]=data.foo"), (400, "invalid_request_error"), "expand: no such")


# ---- objects ----

def check_retrieve():
    made = fill("customer", 2)
    charge = fill("charge", 1)[0]
    is_(error("/v1/customers/cus_no"), (404, "resource_missing"), "retrieve: no such")
    event = control("delete", {"id": made[0]})
    is_((get(f"/v1/customers/{made[0]}"), event["type"], event["data"]["object"]["id"]),
        ({"id": made[0], "object": "customer", "deleted": True}, "customer.deleted", made[0]),
        "retrieve: deleted")
    is_(ids("/v1/customers"), made[1:], "retrieve: it is listed no more")
    control("delete", [{"id": made[1], "gone": True, "quiet": True}, {"id": charge, "quiet": True}])
    is_((error(f"/v1/customers/{made[1]}"), error(f"/v1/charges/{charge}")),
        ((404, "resource_missing"),) * 2, "retrieve: gone")
    subscription = fill("subscription", 1)[0]
    event = control("delete", {"id": subscription})
    is_((event["type"], get(f"/v1/subscriptions/{subscription}")["status"]),
        ("customer.subscription.deleted", "canceled"), "retrieve: a canceled subscription stays")


def check_singletons():
    is_([get(path)["object"] for path in ("/v1/balance", "/v1/account", "/v1/balance_settings",
                                          "/v1/tax/settings")],
        ["balance", "account", "balance_settings", "tax.settings"], "singletons")
    is_(get(f"/v1/accounts/{get('/v1/account')['id']}"), get("/v1/account"), "singletons: oneself")
    customer = fill("customer", 1)[0]
    is_((get(f"/v1/customers/{customer}/cash_balance")["customer"],
         error("/v1/customers/cus_no/cash_balance")), (customer, (404, "resource_missing")),
        "singletons: a customer's")
    event = control("singleton", {"type": "balance_settings", "set": {"payments": {"x": 1}}})
    is_((event["type"], get("/v1/balance_settings")["payments"]),
        ("balance_settings.updated", {"x": 1}), "singletons: a change")


def check_sizes():
    fill("customer", 3, size=5000)
    fill("balance_transaction", 3, size=5000)
    for path in ("/v1/customers", "/v1/balance_transactions"):
        sizes = [len(json.dumps(each, separators=(",", ":"), ensure_ascii=False).encode())
                 for each in get(path)["data"]]
        is_(all(4900 <= size <= 5000 for size in sizes), True, f"sizes: {path}")
    value = get("/v1/customers")["data"][0]["metadata"]
    is_(max(map(len, value.values())) <= 500 and len(value) <= 50, True, "sizes: as Stripe allows")
    again = [fill("product", 3, seed=7, since=1, until=100) for _ in range(2)
             if control("reset", {})]
    is_(again[0], again[1], "fill: the same seed makes the same objects")


def check_real_objects():
    """Stripe's own examples, where they are: added, they are shown as they are."""
    if not os.path.exists(FIXTURES):
        print("# no examples of Stripe's here")
        return
    with open(FIXTURES, encoding="utf-8") as file:
        examples = json.load(file)["resources"]
    wrong, shown = [], 0
    for name, value in examples.items():
        each = TYPES.get(name)
        if not each or name == "event" or not each.retrieve_path or "id" not in value:
            continue
        control("objects", [value])
        got = get(each.retrieve_path.replace("*", quote(value["id"])))
        wrong += [] if as_listed(got, value, each) else [name]
        shown += 1
    is_((wrong, shown > 60), ([], True), "examples: real objects are shown as they are")


def as_listed(got, value, type_):
    """The same, but for pages that only an expansion shows, and empty ones."""
    for page in type_.pages:
        mine = value.get(page.field)
        if page.embedded and got[page.field]["data"] != (mine or {"data": []})["data"]:
            return False
    names = {page.field for page in type_.pages}
    return ({name: each for name, each in got.items() if name not in names}
            == {name: each for name, each in value.items() if name not in names})


# ---- events ----

def check_change():
    made = fill("customer", 1)[0]
    control("change", {"id": made, "set": {"metadata": {"a": "1", "b": "2"}}, "quiet": True})
    before = get(f"/v1/customers/{made}")
    event = control("change", {"id": made, "set": {"name": "Zoë", "metadata": {"b": "3"}}})
    after = get(f"/v1/customers/{made}")
    is_((event["type"], event["data"]["previous_attributes"], event["data"]["object"]),
        ("customer.updated", {"name": before["name"], "metadata": {"b": "2"}}, after),
        "change: its event says what was")
    is_((after["name"], after["metadata"]), ("Zoë", {"a": "1", "b": "3"}),
        "change: metadata is merged")
    is_(get(f"/v1/events/{event['id']}"), event, "change: its event is listed")
    control("change", {"id": made, "set": {"name": "Ada"}})
    is_(get(f"/v1/events/{event['id']}")["data"]["object"]["name"], "Zoë",
        "change: an event is as it was")
    invoice = fill("invoice", 1)[0]
    events = control("change", [{"id": invoice, "set": {"status": "paid"}, "event": "invoice.paid",
                                 "at": 1700000000}, {"id": invoice, "set": {}, "quiet": True}])
    is_((events[0]["type"], events[0]["created"], events[1]), ("invoice.paid", 1700000000, None),
        "change: several, with a type and a time of their own")


def check_events():
    now = int(time.time())
    given = [{"type": f"customer.{'created' if n % 2 else 'updated'}",
              "created": now - n * DAY - 60, "id": f"evt_{n:02}",
              "data": {"object": {"id": "cus_1", "object": "customer"}}}
             for n in range(40)]
    control("events", given)
    newest = [each["id"] for each in given if each["created"] > now - 30 * DAY]
    is_(walk("/v1/events", 9), newest, "events: of thirty days, newest first")
    is_(error("/v1/events/evt_35"), (404, "resource_missing"), "events: older ones are gone")
    is_(walk("/v1/events?type=customer.created", 9), newest[1::2], "events: type")
    is_((walk("/v1/events?types[]=customer.created&types[]=customer.updated", 9),
         walk("/v1/events?types[0]=customer.updated", 9), walk("/v1/events?type=customer.*", 9)),
        (newest, newest[::2], newest), "events: types[], and a group")
    is_(ask("/v1/events?" + "&".join(f"types[]=t{n}" for n in range(21)))[0], 400,
        "events: twenty types at most")
    is_(walk(f"/v1/events?created[gte]={now - 3 * DAY}", 2), newest[:3], "events: created")
    control("delivered", {"ids": ["evt_00", "evt_03"]})
    is_((walk("/v1/events?delivery_success=true", 9),
         len(walk("/v1/events?delivery_success=false", 9))),
        (["evt_00", "evt_03"], len(newest) - 2), "events: delivery_success")
    is_(len(control("events")), 40, "events: the test sees them all")
    is_((len(control("pending?limit=15")), len(control("pending")), control("pending")),
        (15, 25, []), "events: pending ones are taken once")
    fill("product", 3, events=True)
    is_([each["type"] for each in control("pending")], ["product.created"] * 3, "events: of a fill")


# ---- who asks ----

def check_keys():
    fill("customer", 1)
    control("keys", {"sk_test_told": "revoked", "rk_test_some": {"deny": ["^/v1/charges"]},
                     "rk_test_one": {"allow": ["^/v1/events"]}})
    got = [ask("/v1/customers", key=key)[0] for key in
           (KEY, "rk_live_x", "sk_test_wrong", "sk_test_told", "pk_test_x", "nonsense", None)]
    is_(got, [200, 200, 401, 401, 401, 401, 401], "keys: good and bad")
    is_([error("/v1/customers", key=key) for key in ("sk_test_expired", "sk_test_wrong")],
        [(401, "api_key_expired"), (401, "invalid_request_error")], "keys: what is wrong")
    long = "sk_test_wrong_and_long"
    is_(long in get("/v1/customers", key=long)["error"]["message"],
        False, "keys: they are not repeated")
    is_([ask(path, key=key)[0] for key, path in (
        ("rk_test_some", "/v1/customers"), ("rk_test_some", "/v1/charges"),
        ("rk_test_one", "/v1/events"), ("rk_test_one", "/v1/customers"))], [200, 403, 200, 403],
        "keys: restricted")
    is_("rak_charge_read" in ask("/v1/charges", key="rk_test_some")[1]["error"]["message"], True,
        "keys: the right that is missing is named")
    basic = "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()
    is_(ask("/v1/customers", key=None, Authorization=basic)[0], 200, "keys: Basic")
    control("keys", {"*": "invalid", "sk_test_told": {}})
    is_([ask("/v1/customers", key=key)[0] for key in (KEY, "sk_test_told")], [401, 200],
        "keys: no others")


def check_accounts():
    fill("customer", 2)
    mine = fill("customer", 3, account="acct_1")
    control("accounts", ["acct_2"])
    is_((len(ids("/v1/customers")), ids("/v1/customers", Stripe_Account="acct_1"),
         ids("/v1/customers", Stripe_Account="acct_2")), (2, mine[::-1], []),
        "accounts: their own lists")
    is_(error("/v1/customers", Stripe_Account="acct_no"), (403, "account_invalid"),
        "accounts: an unknown one")
    event = control("change", {"id": mine[0], "set": {"name": "x"}, "account": "acct_1"})
    is_((ids("/v1/events", Stripe_Account="acct_1"), ids("/v1/events")), ([event["id"]], []),
        "accounts: their own events")
    is_(("account" in event, [each.get("account") for each in control("pending")]),
        (False, ["acct_1"]), "accounts: an event that is delivered names it")
    is_((sorted(ids("/v1/accounts")), get("/v1/account", Stripe_Account="acct_1")["id"]),
        (["acct_1", "acct_2"], "acct_1"), "accounts: the platform's list")
    is_(error(f"/v1/customers/{mine[0]}"), (404, "resource_missing"),
        "accounts: not the platform's")


def check_headers():
    control("clock", {"shift": 3600})
    head, _ = whole("/v1/customers", Stripe_Version="2025-01-01.acacia")
    ahead = parsedate_to_datetime(header(head, b"date")).timestamp() - time.time()
    is_((header(head, b"stripe-version"), header(head, b"request-id")[:4], 3590 < ahead < 3610),
        ("2025-01-01.acacia", "req_", True), "headers: version, request id, and a clock ahead")
    made = control("objects", [{"object": "customer"}])["ids"][0]
    is_(abs(get(f"/v1/customers/{made}")["created"] - time.time() - 3600) < 10, True,
        "headers: objects are of that time")
    is_(ask("/v1/customers", Stripe_Version="newest")[0], 400, "headers: a version that is none")
    is_([error(path) for path in ("/v1/foo", "/v2/customers", "/v1/customers/cus_1/foo")],
        [(404, "invalid_request_error")] * 3, "headers: unknown paths")
    is_([ask("/v1/customers", method=method, form={})[0] for method in ("POST", "DELETE", "PUT")],
        [404] * 3, "headers: what can't be written")


def check_webhook_endpoints():
    form = {"url": "https://example.com/hook",
            "enabled_events[]": ["invoice.paid", "charge.failed"],
            "api_version": "2026-10-28.endive", "metadata[a]": "b"}
    how = {"method": "POST", "form": form, "Idempotency_Key": "k1"}
    head, made = whole("/v1/webhook_endpoints", **how)
    is_((made["secret"][:6], made["enabled_events"], made["status"], made["metadata"]),
        ("whsec_", ["invoice.paid", "charge.failed"], "enabled", {"a": "b"}), "endpoint: made")
    again, same = whole("/v1/webhook_endpoints", **how)
    is_((same, header(head, b"idempotent-replayed"), header(again, b"idempotent-replayed"),
         header(again, b"original-request")), (made, None, "true", header(head, b"request-id")),
        "endpoint: made once for one idempotency key")
    is_(error("/v1/webhook_endpoints", method="POST",
              form={**form, "url": "https://other.example/"}, Idempotency_Key="k1"),
        (400, "idempotency_error"), "endpoint: another with that key")
    page = get("/v1/webhook_endpoints")["data"]
    is_([{**each, "secret": made["secret"]} for each in page], [made],
        "endpoint: listed, without its secret")
    target = f"/v1/webhook_endpoints/{made['id']}"
    is_((ask(target, method="POST", form={"disabled": "true"})[1]["status"],
         ask(target, method="DELETE")[1], error(target)),
        ("disabled", {"id": made["id"], "object": "webhook_endpoint", "deleted": True},
         (404, "resource_missing")), "endpoint: disabled, deleted")
    bad = ({"url": "https://a.example/"}, {"url": "x", "enabled_events[]": ["*"]},
           {"url": "https://a.example/", "enabled_events[]": ["foo.bar"]},
           {"url": "https://a.example/", "enabled_events[]": ["*"], "foo": "1"})
    is_([error("/v1/webhook_endpoints", method="POST", form=each) for each in bad],
        [(400, "parameter_missing"), (400, "url_invalid"), (400, "invalid_request_error"),
         (400, "parameter_unknown")], "endpoint: refused")
    is_((error("/v1/webhook_endpoints", method="POST", form=form, key="rk_test_x")[0],
         len(get("/v1/webhook_endpoints")["data"])), (403, 0), "endpoint: not by a restricted key")


def check_invoiceitems():
    form = {"customer": "cus_x", "amount": "500", "currency": "eur", "metadata[event]": "evt_1"}
    how = {"method": "POST", "form": form, "Idempotency_Key": "k3"}
    _, made = whole("/v1/invoiceitems", **how)
    is_((made["object"], made["amount"], made["customer"], made["metadata"]),
        ("invoiceitem", 500, "cus_x", {"event": "evt_1"}), "invoice item: made")
    again, same = whole("/v1/invoiceitems", **how)
    is_((same, header(again, b"idempotent-replayed")), (made, "true"),
        "invoice item: made once for one idempotency key")
    is_([get("/v1/invoiceitems")["data"],
         [each["data"]["object"] for each in control("events")
          if each["type"] == "invoiceitem.created"]],
        [[made]] * 2, "invoice item: listed, with one event")
    bad = ({"amount": "1", "currency": "eur"}, {**form, "amount": "x"}, {**form, "foo": "1"})
    is_([error("/v1/invoiceitems", method="POST", form=each) for each in bad],
        [(400, "parameter_missing"), (400, "parameter_invalid_integer"),
         (400, "parameter_unknown")], "invoice item: refused")
    is_(error("/v1/invoiceitems", method="POST", form=form, key="rk_test_x")[0], 403,
        "invoice item: not by a restricted key")


CHECKS = (check_pages, check_new_arrivals, check_created, check_every_list, check_by_parent,
          check_nested, check_embedded, check_filters, check_expand, check_retrieve,
          check_singletons, check_sizes, check_real_objects, check_change,
          check_events, check_keys, check_accounts, check_headers, check_webhook_endpoints,
          check_invoiceitems)

run(CHECKS)
