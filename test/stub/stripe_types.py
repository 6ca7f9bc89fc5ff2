"""stripe_types.py: Stripe's object types, as the catalog has them
(src/types/object_types.json), and where their paths lead.

    TYPES           {name: Type}, those of the API's first version
    API_VERSION     the catalog's
    EVENT_TYPES     every type of event that the catalog knows
    route(path)     -> Route, or None for a path that Stripe doesn't have
"""

import json
import os

HERE = os.path.dirname(os.path.abspath(__file__))
CATALOG = os.path.join(HERE, "..", "..", "src", "types", "object_types.json")

# One per account, or (by "*") per customer.
SINGLETONS = {"/v1/balance": "balance", "/v1/account": "account",
              "/v1/balance_settings": "balance_settings", "/v1/tax/settings": "tax.settings",
              "/v1/customers/*/cash_balance": "cash_balance"}

# Pages within an object: its children and the page's url; embedded whether asked for or not?
PAGES = {
    ("account", "external_accounts"): (
        "bank_account card", "/v1/accounts/{}/external_accounts", True),
    ("application_fee", "refunds"): ("fee_refund", "/v1/application_fees/{}/refunds", True),
    ("charge", "refunds"): ("refund", "/v1/charges/{}/refunds", False),
    ("checkout.session", "line_items"): ("item", "/v1/checkout/sessions/{}/line_items", False),
    ("credit_note", "lines"): ("credit_note_line_item", "/v1/credit_notes/{}/lines", True),
    ("customer", "sources"): (
        "account bank_account card source", "/v1/customers/{}/sources", False),
    ("customer", "subscriptions"): ("subscription", "/v1/customers/{}/subscriptions", False),
    ("customer", "tax_ids"): ("tax_id", "/v1/customers/{}/tax_ids", False),
    ("file", "links"): ("file_link", "/v1/file_links?file={}", True),
    ("invoice", "lines"): ("line_item", "/v1/invoices/{}/lines", True),
    ("invoice", "payments"): ("invoice_payment", "/v1/invoice_payments?invoice={}", False),
    ("payment_link", "line_items"): ("item", "/v1/payment_links/{}/line_items", False),
    ("quote", "line_items"): ("item", "/v1/quotes/{}/line_items", False),
    ("radar.value_list", "list_items"): (
        "radar.value_list_item", "/v1/radar/value_list_items?value_list={}", True),
    ("subscription", "items"): (
        "subscription_item", "/v1/subscription_items?subscription={}", True),
    ("transfer", "reversals"): ("transfer_reversal", "/v1/transfers/{}/reversals", True),
    ("treasury.transaction", "entries"): (
        "treasury.transaction_entry", "/v1/treasury/transaction_entries?transaction={}", False),
}

# What Stripe has though the catalog doesn't say so.
MORE_NESTED = {"/v1/charges/*/refunds": ["refund"],
               "/v1/customers/*/subscriptions": ["subscription"]}

# The field that names the object which a nested one belongs to, if it has one.
OWNERS = {
    "bank_account": ("customer", "account"), "card": ("customer", "account"),
    "source": ("customer",), "capability": ("account",), "person": ("account",),
    "customer_balance_transaction": ("customer",), "file_link": ("file",),
    "customer_cash_balance_transaction": ("customer",), "fee_refund": ("fee",),
    "line_item": ("invoice",), "transfer_reversal": ("transfer",), "refund": ("charge",),
    "billing.meter_event_summary": ("meter",), "subscription_item": ("subscription",),
    "payment_method": ("customer",), "tax_id": ("customer",), "subscription": ("customer",),
    "radar.value_list_item": ("value_list",), "treasury.transaction_entry": ("transaction",),
    "invoice_payment": ("invoice",), "entitlements.active_entitlement": ("customer",),
    "financial_connections.transaction": ("account",), "cash_balance": ("customer",),
}


class Page:
    """A page within an object."""

    def __init__(self, field, children, url, embedded):
        self.field = field
        self.children = children.split()
        self.url = url
        self.embedded = embedded


class Type:
    def __init__(self, spec):
        self.name = spec["object"]
        self.list_path = spec["list_path"]
        self.nested_paths = [path.replace("{id}", "*") for path in spec["nested_list_paths"]]
        self.required = spec["list_required_params"]
        self.filters = frozenset(spec["list_filters"])
        self.retrieve_path = (spec["retrieve_path"] or "").replace("{id}", "*")
        self.prefix = spec["id_prefix"]
        self.key = spec["key"]
        self.deletable = spec["deletable"]
        self.events = spec["event_types"]
        self.fields = {field["name"]: field for field in spec["fields"]}
        self.pages = [Page(field, *what) for (name, field), what in PAGES.items()
                      if name == self.name]
        self.owners = OWNERS.get(self.name, ())

    def event(self, verb, status=None):
        """The event type for created, updated, deleted or a status; None for none."""
        endings = [f".{verb}"] + [f".{status}"] * bool(status and verb == "updated")
        for ending in endings:
            for name in self.events:
                if name.endswith(ending) and (self.name != "account" or name.startswith("account")):
                    return name
        return None


class Route:
    """What a path is: kind list, nested, retrieve, child or singleton; types, all
    that it may hold; id, in the place of the "*"; child, the id of a nested one."""

    def __init__(self, kind, types, object_id=None, parent=None, child=None):
        self.kind = kind
        self.types = types
        self.id = object_id
        self.parent = parent
        self.child = child


def read_catalog():
    with open(CATALOG, encoding="utf-8") as file:
        catalog = json.load(file)
    types = [Type(spec) for spec in catalog["object_types"] if spec["api"] == "v1"]
    return catalog["api_version"], {each.name: each for each in types}


API_VERSION, TYPES = read_catalog()
EVENT_TYPES = frozenset(name for each in TYPES.values() for name in each.events)
LISTS = {each.list_path: each for each in TYPES.values() if each.list_path}
RETRIEVES = {each.retrieve_path: each for each in TYPES.values() if each.retrieve_path}


def nested_lists():
    paths = {path: list(names) for path, names in MORE_NESTED.items()}
    for each in TYPES.values():
        for path in each.nested_paths:
            if "*" in path:     # /v1/credit_notes/preview/lines is a preview of nothing kept
                paths.setdefault(path, []).append(each.name)
    return paths


NESTED = nested_lists()


def route(path):
    if path in SINGLETONS:
        return Route("singleton", [TYPES[SINGLETONS[path]]])
    if path in LISTS:
        return Route("list", [LISTS[path]])
    words = path.split("/")
    for place in range(len(words) - 1, 2, -1):
        found = route_of("/".join(words[:place] + ["*"] + words[place + 1:]), words[place])
        if found:
            return found
    return child_route(words)


def route_of(pattern, object_id):
    if pattern in RETRIEVES:
        return Route("retrieve", [RETRIEVES[pattern]], object_id)
    if pattern in SINGLETONS:
        return Route("singleton", [TYPES[SINGLETONS[pattern]]], object_id)
    if pattern in NESTED:
        return Route("nested", [TYPES[name] for name in NESTED[pattern]], object_id,
                     parent_of(pattern))
    return None


def parent_of(pattern):
    """The type of the "*" in a nested list's path."""
    return RETRIEVES.get(pattern[:pattern.index("*") + 1])


def child_route(words):
    """One object of a nested list: /v1/customers/cus_1/sources/card_1."""
    found = route("/".join(words[:-1])) if len(words) > 5 else None
    if found and found.kind == "nested" and not words[-2].endswith(("lines", "line_items")):
        return Route("child", found.types, found.id, found.parent, words[-1])
    return None
