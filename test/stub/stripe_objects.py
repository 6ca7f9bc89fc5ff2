"""stripe_objects.py: plausible objects of every type, made from the catalog.

    Maker(store).fill(account, type, count, size=0, seed=0, since=None, until=None, children=1)
                                -> the entries made

A field is what its kind and its name suggest; what may be null mostly is.
References lead to objects that exist: where one is needed and there is none,
a tenth of count are made first.  An object whose page can't be empty (a
subscription's items, the lines of an invoice and of a credit note) gets so
many children.  The same seed makes the same objects.
"""

import json
import random

from stripe_store import Entry, dumps
from stripe_types import TYPES

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DAY = 86400
SPREAD = 300 * DAY

# Filled in though they may be null, where there is such an object.
KNOWN_REFERENCES = {"customer", "subscription", "invoice", "payment_intent", "charge", "product",
                    "price", "payment_method", "balance_transaction", "card", "cardholder",
                    "financial_account", "setup_intent", "file", "coupon", "feature", "meter"}
# A field of these names is an id, whatever the catalog calls it.
NAMED = {"customer": "customer", "financial_account": "treasury.financial_account",
         "subscription": "subscription", "value_list": "radar.value_list",
         "payment_record": "payment_record", "meter": "billing.meter", "invoice": "invoice",
         "setup_intent": "setup_intent"}
CHILDREN = {"subscription": "subscription_item", "invoice": "line_item",
            "credit_note": "credit_note_line_item"}
# Whose list or page they are on, when no field of theirs says it.
PARENTS = {"credit_note_line_item": "credit_note", "item": "checkout.session",
           "product_feature": "product", "entitlements.active_entitlement": "customer",
           "payment_intent_amount_details_line_item": "payment_intent",
           "financial_connections.account_owner": "financial_connections.account",
           "payment_attempt_record": "payment_record"}
# One of them by chance.
STATUSES = {
    "subscription": ("active",) * 7 + ("trialing", "past_due", "canceled"),
    "invoice": ("paid",) * 7 + ("open", "draft", "void"),
    "charge": ("succeeded",) * 9 + ("failed",), "refund": ("succeeded",),
    "payment_intent": ("succeeded",) * 8 + ("requires_payment_method", "canceled"),
    "setup_intent": ("succeeded",), "checkout.session": ("complete", "open", "expired"),
    "dispute": ("needs_response", "won", "lost"), "payout": ("paid", "in_transit"),
    "balance_transaction": ("available",), "quote": ("draft", "open", "accepted"),
    "credit_note": ("issued",), "subscription_schedule": ("active",), "topup": ("succeeded",),
    "webhook_endpoint": ("enabled",), "invoice_payment": ("paid",), "mandate": ("active",),
    "treasury.financial_account": ("open",), "source": ("chargeable",),
}
STRINGS = {"currency": "usd", "country": "US", "default_currency": "usd", "timezone": "Etc/UTC",
           "collection_method": "charge_automatically", "url": "https://example.com/",
           "email": "someone@example.com", "api_version": None, "billing_scheme": "per_unit"}
TRUE = {"active", "charges_enabled", "payouts_enabled", "details_submitted", "paid", "captured",
        "enabled"}
NAMES = ("Ada", "Blaise", "Chloé", "Dmitri", "Emmy", "Fibonacci", "Grace", "Hypatia", "Ida",
         "Józef", "Kurt", "Лев", "Maryam", "Noether", "Ørsted", "Zoë 😀")
# What lists at Stripe by a field that the catalog has no kind for.
EXTRA = {"apps.secret": {"scope": {"type": "account"}},
         "tax.location": {"type": "performance"}}


class Maker:
    def __init__(self, store):
        self.store = store
        self.templates = {}
        self.making = []        # against circles

    def fill(self, account, type_, count, size=0, seed=0, since=None, until=None, children=1):
        rng = random.Random(f"{seed}:{account.name}:{type_.name}:{len(account.of(type_).rows)}")
        until = int(until if until is not None else self.store.now() - 3600)
        since = int(since if since is not None else until - SPREAD)
        self.making.append(type_.name)
        pools = Pools(self, account, rng, count, seed)
        made, first = [], self.store.seq
        for number in range(count):
            at = since + int((until - since) * (number + rng.random()) / count)
            value = self.make(type_, at, rng, pools)
            owner = value.pop("_owner", None)
            made.append((value, at, size, owner))
        self.store.add_made(account, type_, made)
        if type_.name in CHILDREN and children:
            self.add_children(account, type_, made, children, rng, pools)
        self.making.pop()
        return [row[2] for row in account.of(type_).rows if row[1] > first][:count]

    def add_children(self, account, type_, made, children, rng, pools):
        child = TYPES[CHILDREN[type_.name]]
        values = []
        for parent, at, _, _ in made:
            for _ in range(children):
                value = self.make(child, at, rng, pools, parent)
                value.pop("_owner", None)
                values.append((value, at, 0, parent["id"]))
        self.store.add_made(account, child, values)

    def make(self, type_, at, rng, pools, parent=None):
        value = dict(self.template(type_))
        value["id"] = (type_.prefix or "") + "".join(rng.choices(BASE62, k=24))
        for field in self.times(type_):
            value[field] = at
        for field, names in pools.references(type_):
            value[field] = pools.one(names)
        for field, name in pools.whole(type_):
            value[field] = pools.whole_one(name)
        if type_.name in STATUSES:
            value["status"] = rng.choice(STATUSES[type_.name])
        if "amount" in value:
            value["amount"] = rng.randrange(100, 100000)
        if value.get("email", "") != "" and "name" in value:
            value["name"] = f"{rng.choice(NAMES)} {rng.randrange(10000)}"
            value["email"] = f"user{rng.randrange(10 ** 9)}@example.com"
        if type_.name in PARENTS and not parent:
            value["_owner"] = pools.one([PARENTS[type_.name]])
        if type_.name in DETAILS:
            DETAILS[type_.name](value, at, rng, pools, parent)
        return value

    # ---- by type, once ----

    def template(self, type_):
        if type_.name not in self.templates:
            value = {name: default_of(type_, field) for name, field in type_.fields.items()
                     if field["kind"] != "list"}
            value.update(EXTRA.get(type_.name, {}))
            self.templates[type_.name] = value
        return self.templates[type_.name]

    def times(self, type_):
        return [name for name, field in type_.fields.items() if field["kind"] == "timestamp"
                and (name == "created" or not field.get("nullable"))]


class Pools:
    """Ids to refer to, of one account, while one fill lasts."""

    def __init__(self, maker, account, rng, count, seed):
        self.maker = maker
        self.account = account
        self.rng = rng
        self.wanted = max(1, count // 10)
        self.seed = seed
        self.ids = {}
        self.values = {}
        self.fields = {}        # {type: (references, whole objects)}

    def references(self, type_):
        return self.plan(type_)[0]

    def whole(self, type_):
        return self.plan(type_)[1]

    def plan(self, type_):
        """The fields that are filled in: with ids, and with whole objects."""
        if type_.name not in self.fields:
            ids, whole = [], []
            for name, field in type_.fields.items():
                needed = not field.get("nullable")
                if field["kind"] == "reference" and (needed or name in KNOWN_REFERENCES):
                    if needed or self.pool(field["ref"][0], False):
                        ids.append((name, field["ref"]))
                elif field["kind"] == "embedded" and needed:
                    whole.append((name, field["ref"][0]))
                elif field["kind"] == "string" and name in NAMED:
                    ids.append((name, [NAMED[name]]))
            self.fields[type_.name] = ids, whole
        return self.fields[type_.name]

    def pool(self, name, make=True):
        if name not in self.ids and name in TYPES:
            type_ = TYPES[name]
            rows = self.account.of(type_).rows
            if not rows and make and name not in self.maker.making and type_.key == "id":
                self.maker.fill(self.account, type_, self.wanted, seed=self.seed)
            if not rows and not make:
                return []
            self.ids[name] = [row[2].id for row in self.account.of(type_).rows]
        return self.ids.get(name) or []

    def one(self, names):
        """An id; of something that nothing lists (an application) just any."""
        for name in names:
            if self.pool(name):
                return self.rng.choice(self.ids[name])
        prefix = TYPES[names[0]].prefix if names[0] in TYPES else None
        return (prefix or "x_") + "".join(self.rng.choices(BASE62, k=16))

    def whole_one(self, name):
        object_id = self.one([name])
        return self.value(name, object_id) or {**self.maker.template(TYPES[name]),
                                               "id": object_id}

    def value(self, name, object_id):
        if object_id not in self.values:
            entry = self.account.of(TYPES[name]).by_id.get(object_id)
            if isinstance(entry, Entry):
                self.values[object_id] = json.loads(self.maker.store.render(self.account, entry))
        return self.values.get(object_id)


def default_of(type_, field):
    name, kind = field["name"], field["kind"]
    if name == "object":
        return type_.name
    if kind == "metadata":
        return {}
    if name in ("email", "name") and type_.name == "customer":
        return name
    if field.get("nullable"):
        return None
    return {"string": STRINGS.get(name, name), "integer": 0, "number": 0, "decimal": "0",
            "timestamp": 0, "boolean": name in TRUE, "array": [], "object": {}}.get(kind)


# ---- by type ----

def subscription(value, at, _rng, _pools, _parent):
    if value["status"] == "canceled":
        value.update(canceled_at=at + 5 * DAY, ended_at=at + 5 * DAY)


def subscription_item(value, at, _rng, pools, parent):
    parent = parent or {"id": pools.one(["subscription"])}
    value.update(subscription=parent["id"], quantity=1, current_period_start=at,
                 current_period_end=at + 30 * DAY)


def price(value, _at, rng, _pools, _parent):
    value.update(unit_amount=rng.randrange(100, 10000), type="recurring",
                 recurring={"interval": "month", "interval_count": 1, "meter": None,
                            "trial_period_days": None, "usage_type": "licensed"})


def invoice(value, at, rng, pools, _parent):
    total = rng.randrange(100, 100000)
    paid = total if value["status"] == "paid" else 0
    value.update(total=total, subtotal=total, amount_due=total, amount_paid=paid,
                 amount_remaining=total - paid, period_start=at, period_end=at,
                 number=f"STUB-{rng.randrange(10 ** 8):08}")
    if pools.pool("subscription", False):
        object_id = pools.one(["subscription"])
        value["customer"] = pools.value("subscription", object_id)["customer"]
        value["parent"] = {"quote_details": None, "subscription_details": {
            "metadata": {}, "subscription": object_id}, "type": "subscription_details"}


def line_item(value, at, rng, pools, parent):
    value.update(invoice=parent["id"] if parent else pools.one(["invoice"]),
                 amount=rng.randrange(100, 10000), quantity=1,
                 period={"start": at, "end": at + 30 * DAY})


def paid(value, _at, _rng, _pools, _parent):
    if value["status"] == "failed":
        value.update(paid=False, captured=False, failure_code="card_declined")


def payment_intent(value, _at, _rng, _pools, _parent):
    value["amount_received"] = value["amount"] if value["status"] == "succeeded" else 0


def payment_method(value, _at, rng, _pools, _parent):
    value.update(type="card", card={"brand": "visa", "exp_month": 1 + rng.randrange(12),
                                    "exp_year": 2030, "last4": f"{rng.randrange(10000):04}"})


DETAILS = {"subscription": subscription, "subscription_item": subscription_item, "price": price,
           "invoice": invoice, "line_item": line_item, "charge": paid,
           "payment_intent": payment_intent, "payment_method": payment_method}


def singleton(store, account, type_, owner=None):
    """The one object of its type that an account (or a customer) has."""
    key = (account.name, type_.name, owner)
    if key not in store.singletons:
        value = {name: default_of(type_, field) for name, field in type_.fields.items()}
        value = {name: each for name, each in value.items() if type_.fields[name]["kind"] != "list"}
        if type_.name == "balance":
            value.update(available=[{"amount": 0, "currency": "usd", "source_types": {"card": 0}}],
                         pending=[{"amount": 0, "currency": "usd", "source_types": {"card": 0}}])
        if type_.name == "tax.settings":
            value["status"] = "active"
        if type_.name == "account":
            value.update(id=account.name or "acct_1StubPlatform0000", type="standard",
                         created=int(store.now()) - SPREAD)
        if owner:
            value["customer"] = owner
        store.singletons[key] = dumps(value)
    return store.singletons[key]
