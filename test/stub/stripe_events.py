"""stripe_events.py: Stripe's events, made by what changes.

    happened(store, account, type_, verb, value, previous=None, **how)  -> event or None
    complete(store, given)              an event out of what was given of it
    add_event(store, account, event)    into the account's list and what is pending
    previous_of(before, after)          previous_attributes

An event's data is as the object was then, and never changes.  The event of a
connected account has "account" where it is delivered, not where it is listed
(not established: the harder case for who reads it).
"""

import json
import os

from stripe_types import TYPES

EVENT = TYPES["event"]


def happened(store, account, type_, verb, value, previous=None, **how):
    """verb is created, updated or deleted; how: event (the type), at, request."""
    name = how.get("event") or type_.event(verb, value.get("status"))
    if not name:
        return None
    data = {"object": value}
    if previous is not None:
        data["previous_attributes"] = previous
    event = complete(store, {"type": name, "data": data, "created": how.get("at"),
                             "livemode": value.get("livemode", False),
                             "request": how.get("request")})
    add_event(store, account, event)
    return event


def complete(store, given):
    event = {
        "id": f"evt_1{os.urandom(12).hex()[:23]}", "object": "event",
        "api_version": store.api_version, "created": int(store.now()),
        "data": {"object": {}}, "livemode": False, "pending_webhooks": 1,
        "request": {"id": f"req_{os.urandom(7).hex()}", "idempotency_key": None},
        "type": "",
    }
    event.update({name: value for name, value in given.items() if value is not None})
    return event


def add_event(store, account, event):
    listed = {name: value for name, value in event.items() if name != "account"}
    entry = store.add(account, listed, listed["created"])
    store.pending.append((account.name, entry))
    return entry


def take_pending(store, account=None, limit=None):
    """The oldest that nobody has taken yet, as a webhook would bring them."""
    taken, left = [], []
    while store.pending and (limit is None or len(taken) < limit):
        name, entry = store.pending.popleft()
        if account is not None and account != name:
            left.append((name, entry))
            continue
        event = json.loads(entry.body)
        taken.append({**event, "account": name} if name else event)
    store.pending.extendleft(reversed(left))
    return taken


def previous_of(before, after):
    """The old values of what has changed; partial in nested hashes."""
    changed = {}
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        both = isinstance(old, dict) and isinstance(new, dict)
        changed[name] = previous_of(old, new) if both and old.get("object") != "list" else old
    return dict(sorted(changed.items()))
