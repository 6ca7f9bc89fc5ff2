"""stripe_control.py: Stripe's part of what control.py does.  "account" is
always that of a connected account, or left out for the platform's own.

    POST fill       {"type": "customer", "count": 1000, "size": bytes, "seed": n, "account",
                    "since", "until": seconds, "children": 1, "events": false}: plausible
                    objects (stripe_objects.py), created between since and until (the last 300
                    days), padded to size; with their *.created events if told to
                    -> {"made": n, "ids": those of the first thousand}
    POST objects    [{"object": "customer", ...}, ...] or {"objects": [...], "account", "events"}:
                    adds or replaces them; an id and created are made where there are none;
                    "_owner" names the parent of what has no field for it -> {"ids": [...]}
    POST change     {"id", "set": {...}, "unset": [names], "event": type, "at": seconds,
                    "quiet": false, "type", "account"}, or several: changes an object and makes
                    its event -> the event, or null for none (quiet, or no type that fits)
    POST delete     {"id", "gone": false, "event", "at", "quiet", "type", "account"}, or several:
                    it is in no list any more, retrieve says {"deleted": true} (or 404: gone, or
                    a type that can't be deleted); a subscription is cancelled -> the event
    POST singleton  {"type": "balance", "set": {...}, "event", "at", "quiet", "customer",
                    "account"}: changes what has no list (also account, balance_settings,
                    tax.settings, cash_balance of a customer) -> the event
    POST events     [{"type", "data", ...}] or {"events": [...], "account"}: events as they are
                    given, completed -> them
    GET  state      {type: {id: object}} of ?account= and ?type=; without events
    GET  ids        {type: [id, ...]}, newest first, as above
    GET  object     ?id=, ?type=, ?account=
    GET  events     ?account=: all of them, oldest first
    GET  pending    ?limit=, ?account=: the events that were not taken yet, as a webhook brings
                    them, oldest first; they are taken
    POST delivered  {"ids": [...], "success": true, "account"}: for delivery_success
    GET  pages      {account: {"/v1/customers?limit=100": {"asked": 2, "answered": 1}}}; answered
                    is whole, 200 and without a fault
    GET  secrets    {id: secret} of the webhook endpoints that were made here
    POST keys       {"sk_test_1": "revoked" | "expired" | "invalid", "rk_test_2": {"allow": [path
                    regexes], "deny": [...], "write": false}, "*": for all others}; null forgets it
    POST accounts   ["acct_1", ...]: connected accounts there are
    POST clock      {"shift": seconds}: Stripe's time from now on, in Date and created
    POST api_version    {"version": "2026-10-28.endive"}, of events from now on

A "rate" is per account; {"per": "list"} is per list; "reason" is what
Stripe-Rate-Limited-Reason says.
"""

import json
import os

from control import Control
from http11 import Answer
from stripe_events import add_event, complete, happened, previous_of, take_pending
from stripe_objects import singleton
from stripe_store import dumps
from stripe_types import TYPES

MANY = 1000


class StripeControl(Control):
    def __init__(self, server):
        super().__init__(server)
        self.stripe = server.service
        self.calls.update({
            ("POST", "fill"): self.fill, ("POST", "objects"): self.add_objects,
            ("POST", "change"): self.each_of(self.change),
            ("POST", "delete"): self.each_of(self.delete),
            ("POST", "singleton"): self.each_of(self.change_singleton),
            ("POST", "events"): self.add_events, ("GET", "events"): self.show_events,
            ("GET", "state"): self.state, ("GET", "ids"): self.ids,
            ("GET", "object"): self.show_object,
            ("GET", "pending"): self.pending, ("POST", "delivered"): self.delivered,
            ("GET", "pages"): lambda _: self.stripe.pages,
            ("GET", "secrets"): lambda _: self.stripe.secrets,
            ("POST", "keys"): self.keys, ("POST", "accounts"): self.accounts,
            ("POST", "clock"): self.clock, ("POST", "api_version"): self.version,
        })

    def account(self, body):
        """The account that a call names; a connected one is also an object of the platform's."""
        name = body.get("account") or ""
        known = name in self.stripe.accounts
        account = self.stripe.account(name)
        if not known:
            value = json.loads(singleton(self.stripe, account, TYPES["account"]))
            self.stripe.add(self.stripe.accounts[""], value)
        return account

    def entry(self, body):
        account = self.account(body)
        entry = account.find(body["id"], body.get("type"))
        if not entry:
            raise KeyError(f"no object {body['id']}")
        return account, entry

    @staticmethod
    def each_of(call):
        return lambda body: nullable([call(each) for each in body] if isinstance(body, list)
                                     else call(body))

    # ---- data ----

    def fill(self, body):
        account, type_ = self.account(body), TYPES[body["type"]]
        how = {name: body[name] for name in ("size", "seed", "since", "until", "children")
               if name in body}
        entries = self.stripe.maker.fill(account, type_, body["count"], **how)
        if body.get("events"):
            for each in entries:
                self.created(account, each)
        return {"made": len(entries), "ids": [each.id for each in entries[:MANY]]}

    def created(self, account, entry):
        value = json.loads(self.stripe.render(account, entry))
        return happened(self.stripe, account, entry.type, "created", value, at=entry.created)

    def add_objects(self, body):
        body = body if isinstance(body, dict) else {"objects": body}
        account, entries = self.account(body), []
        for value in body["objects"]:
            type_ = TYPES[value["object"]]
            value = {"id": (type_.prefix or "") + os.urandom(12).hex(), **value}
            if "created" in type_.fields:
                value.setdefault("created", int(self.stripe.now()))
            entries.append(self.stripe.add(account, value))
            if body.get("events"):
                self.created(account, entries[-1])
        return {"ids": [each.id for each in entries]}

    def change(self, body):
        account, entry = self.entry(body)
        before = self.stripe.change(account, entry, body.get("set", {}), body.get("unset", ()))
        return self.tell(account, entry, before, body)

    def tell(self, account, entry, before, body, verb="updated"):
        if body.get("quiet"):
            return None
        after = json.loads(self.stripe.render(account, entry))
        previous = previous_of(before, after) if verb == "updated" else None
        return happened(self.stripe, account, entry.type, verb, after, previous,
                        event=body.get("event"), at=body.get("at"))

    def delete(self, body):
        account, entry = self.entry(body)
        if entry.type.name == "subscription":
            now = int(body.get("at") or self.stripe.now())
            before = self.stripe.change(account, entry, {"status": "canceled", "canceled_at": now,
                                                         "ended_at": now})
            return self.tell(account, entry, before, body, "deleted")
        value = self.stripe.delete(account, entry, body.get("gone", False))
        if body.get("quiet"):
            return None
        return happened(self.stripe, account, entry.type, "deleted", value,
                        event=body.get("event"), at=body.get("at"))

    def change_singleton(self, body):
        account, type_ = self.account(body), TYPES[body["type"]]
        before = json.loads(singleton(self.stripe, account, type_, body.get("customer")))
        after = {**before, **body.get("set", {})}
        key = (account.name, type_.name, body.get("customer"))
        self.stripe.singletons[key] = dumps(after)
        if body.get("quiet"):
            return None
        return happened(self.stripe, account, type_, "updated", after, previous_of(before, after),
                        event=body.get("event"), at=body.get("at"))

    def add_events(self, body):
        body = body if isinstance(body, dict) else {"events": body}
        account = self.account(body)
        events = [complete(self.stripe, each) for each in body["events"]]
        for each in events:
            add_event(self.stripe, account, each)
        return events

    # ---- what there is ----

    def collections(self, fields):
        account = self.account(fields)
        wanted = fields.get("type")
        return account, [each for name, each in sorted(account.collections.items())
                         if each.rows and (name == wanted if wanted else name != "event")]

    def state(self, fields):
        """Joined by hand: it may be large."""
        account, found = self.collections(fields)
        parts = []
        for each in found:
            objects = b",".join(b"%s:%s" % (json.dumps(entry.id).encode(),
                                            self.stripe.render(account, entry))
                                for entry in each.by_id.values())
            parts.append(b'"%s":{%s}' % (each.type.name.encode(), objects))
        return Answer(200, b"{" + b",".join(parts) + b"}", "application/json")

    def ids(self, fields):
        _, found = self.collections(fields)
        return {each.type.name: [row[2].id for row in reversed(each.rows)] for each in found}

    def show_object(self, fields):
        account, entry = self.entry(fields)
        return Answer(200, self.stripe.render(account, entry), "application/json")

    def show_events(self, fields):
        account = self.account(fields)
        return [json.loads(row[2].body) for row in account.of(TYPES["event"]).rows]

    def pending(self, fields):
        limit = int(fields["limit"]) if "limit" in fields else None
        return take_pending(self.stripe, fields.get("account"), limit)

    def delivered(self, body):
        events = self.account(body).of(TYPES["event"]).by_id
        for each in body["ids"]:
            events[each].delivered = body.get("success", True)

    # ---- how it is ----

    def keys(self, body):
        for key, said in body.items():
            self.stripe.keys.pop(key, None)
            if said is not None:
                self.stripe.keys[key] = said

    def accounts(self, body):
        for name in body:
            self.account({"account": name})

    def clock(self, body):
        self.stripe.shift = body["shift"]

    def version(self, body):
        self.stripe.api_version = body["version"]


def nullable(value):
    """JSON of what may be null, which Control would take for "done"."""
    return Answer(200, json.dumps(value).encode(), "application/json")
