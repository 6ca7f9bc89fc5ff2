"""stripe_store.py: the objects of Stripe's accounts, ready to be served.

A Store has Accounts ("" is the platform's own), an account a Collection per
type, a collection Entries: objects as JSON, in the order of their creation.
An entry keeps neither its pages (its children are entries of their own, which
name it as their owner) nor its padding; render() puts them together.
"""

import json
import time
from bisect import bisect_left, insort
from collections import deque

from stripe_types import API_VERSION, TYPES

EMBEDDED = 10                   # so many children are on the page within an object
VARIANTS = 16                   # of the padding of one length
EVENT_LIFE = 30 * 86400         # /v1/events forgets


def dumps(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class Entry:
    __slots__ = ("id", "type", "created", "seq", "body", "owner", "size", "pad", "delivered")

    def __init__(self, object_id, type_, created, seq, owner=None):
        self.id = object_id
        self.type = type_
        self.created = created
        self.seq = seq
        self.owner = owner
        self.body = b""
        self.size = 0           # as it is to be; 0: no padding
        self.pad = 0            # its variant
        self.delivered = False  # of an event

    def row(self):
        return (self.created, self.seq, self)


class Collection:
    """The objects of one type in one account."""

    def __init__(self, type_):
        self.type = type_
        self.rows = []          # (created, seq, entry), oldest first
        self.by_id = {}
        self.deleted = {}       # {id: does retrieve say that it is deleted?}
        self.owned = {}         # {owner: rows}
        self.indexes = {}       # {field: {value: rows}}, those asked for

    def add(self, entry, value):
        self.add_many([(entry, value)])

    def add_many(self, entries):
        for entry, value in entries:
            self.by_id[entry.id] = entry
            self.deleted.pop(entry.id, None)
            for rows in self.places(entry, value):
                insort(rows, entry.row())
        if len(entries) == 1:
            insort(self.rows, entries[0][0].row())
        else:
            self.rows = sorted(self.rows + [entry.row() for entry, _ in entries])

    def remove(self, entry):
        del self.by_id[entry.id]
        for rows in (self.rows, *self.places(entry, json.loads(entry.body))):
            del rows[bisect_left(rows, entry.row()[:2])]

    def places(self, entry, value):
        """Rows other than all of them that an entry belongs to."""
        if entry.owner:
            yield self.owned.setdefault(entry.owner, [])
        for field, index in self.indexes.items():
            for each in values_of(value, field):
                yield index.setdefault(each, [])

    def index(self, field):
        if field not in self.indexes:
            index = self.indexes[field] = {}
            for row in self.rows:
                for each in values_of(json.loads(row[2].body), field):
                    index.setdefault(each, []).append(row)
        return self.indexes[field]


class Account:
    def __init__(self, name):
        self.name = name
        self.collections = {}

    def of(self, type_):
        if type_.name not in self.collections:
            self.collections[type_.name] = Collection(type_)
        return self.collections[type_.name]

    def find(self, object_id, type_name=None):
        """An entry, in whatever collection it is."""
        for each in self.collections.values():
            if object_id in each.by_id and type_name in (None, each.type.name):
                return each.by_id[object_id]
        return None


class Store:
    def __init__(self):
        self.reset()

    def reset(self):
        self.accounts = {"": Account("")}
        self.shift = 0
        self.seq = 0
        self.singletons = {}    # {(account, type, owner): object}
        self.pending = deque()  # (account, event's entry) not taken yet
        self.api_version = API_VERSION
        self.padding = {}

    def now(self):
        """Stripe's time."""
        return time.time() + self.shift

    def account(self, name):
        if name not in self.accounts:
            self.accounts[name] = Account(name)
        return self.accounts[name]

    # ---- what comes in ----

    def add(self, account, value, created=None):
        """An object as Stripe would show it; the children on its pages are added too."""
        value = dict(value)
        type_ = TYPES[value["object"]]
        owner = value.pop("_owner", None)
        entry = self.entry(type_, value, created, owner)
        collection = account.of(type_)
        if entry.id in collection.by_id:
            collection.remove(collection.by_id[entry.id])
        self.take_pages(account, entry, value)
        entry.body = dumps(value)
        collection.add(entry, value)
        return entry

    def entry(self, type_, value, created=None, owner=None):
        self.seq += 1
        at = value.get("created")
        if created is None:
            created = at if isinstance(at, int) else int(self.now())
        return Entry(value["id"], type_, created, self.seq, owner or owner_of(type_, value))

    def add_made(self, account, type_, made):
        """Many objects at once, without pages: (value, size, owner) each."""
        entries = []
        for value, created, size, owner in made:
            entry = self.entry(type_, value, created, owner)
            if size:
                entry.size, entry.pad = size, entry.seq % VARIANTS
                value = {name: each for name, each in value.items() if name != padded(type_)}
            entry.body = dumps(value)
            entries.append((entry, value))
        account.of(type_).add_many(entries)

    def take_pages(self, account, entry, value):
        for page in entry.type.pages:
            if not isinstance(value.get(page.field), dict):
                continue
            for child in reversed(value.pop(page.field).get("data", [])):   # newest is first
                self.add(account, {**child, "_owner": entry.id},
                         child.get("created", entry.created))

    def change(self, account, entry, fields, unset=()):
        """Set fields (metadata is merged, as Stripe does); the value before."""
        collection = account.of(entry.type)
        before = json.loads(self.render(account, entry))
        value = {**before, **fields}
        if isinstance(fields.get("metadata"), dict):
            value["metadata"] = {**(before.get("metadata") or {}), **fields["metadata"]}
        for name in unset:
            value.pop(name, None)
        collection.remove(entry)
        entry.size = 0
        for page in entry.type.pages:
            if page.field in fields:
                self.drop_children(account, entry, page)
            else:
                value.pop(page.field, None)
        self.take_pages(account, entry, value)
        entry.body = dumps(value)
        collection.add(entry, value)
        return before

    def drop_children(self, account, entry, page):
        for row in list(self.children(account, page.children, entry.id)):
            self.delete(account, row[2], False)

    def delete(self, account, entry, gone):
        collection = account.of(entry.type)
        value = json.loads(self.render(account, entry))
        collection.remove(entry)
        collection.deleted[entry.id] = entry.type.deletable and not gone
        return value

    # ---- what goes out ----

    def render(self, account, entry):
        """An object's JSON, whole."""
        parts = [entry.body[:-1]]
        parts += [b',"%s":%s' % (page.field.encode(), self.page_within(account, entry, page))
                  for page in entry.type.pages if page.embedded]
        if entry.size:
            length = sum(map(len, parts)) + 1
            parts.append(self.pad(padded(entry.type), entry.size - length, entry.pad))
        parts.append(b"}")
        return b"".join(parts)

    def page_within(self, account, entry, page):
        rows = self.children(account, page.children, entry.id)
        data = [self.render(account, row[2]) for row in rows[:-EMBEDDED - 1:-1]]
        return list_json(data, len(rows) > EMBEDDED, page.url.format(entry.id))

    def children(self, account, names, owner):
        found = [account.collections[name].owned.get(owner, ())
                 for name in names if name in account.collections]
        found = [rows for rows in found if rows]
        return sorted(sum(found, [])) if len(found) > 1 else found[0] if found else []

    def pad(self, field, length, variant):
        key = (field, length, variant)
        if key not in self.padding:
            self.padding[key] = make_padding(field, length, variant)
        return self.padding[key]


def list_json(data, has_more, url):
    return b'{"object":"list","data":[%s],"has_more":%s,"url":"%s"}' % (
        b",".join(data), b"true" if has_more else b"false", url.encode())


def padded(type_):
    """The field that makes an object as large as it is to be."""
    for name in ("metadata", "description"):
        if name in type_.fields:
            return name
    return "stub_padding"


def make_padding(field, length, variant):
    """About as compressible as what people keep there; metadata's values have
    500 characters at most."""
    words = [format(variant * 7919 + number * 104729 & 0xffffffff, "x")
             for number in range(length // 6 + 1)]
    text = " ".join(words)
    if field != "metadata":
        text = text[:max(0, length - len(field) - 6)]
        return b',"%s":"%s"' % (field.encode(), text.encode())
    frame, each = len(',"metadata":{}'), len(',"note_00":""')
    values, left = {}, length - frame + 1
    while left > each and len(values) < 50:
        piece = text[:min(500, left - each)]
        text = text[len(piece):]
        values[f"note_{len(values):02}"] = piece
        left -= len(piece) + each
    return b',"metadata":' + dumps(values)


def owner_of(type_, value):
    for field in type_.owners:
        if value.get(field):
            return id_of(value[field])
    return None


def id_of(value):
    return value.get("id") if isinstance(value, dict) else value


def values_of(value, field):
    """What a list's filter compares with, as it stands in a query."""
    if field == "subscription" and "subscription" not in value:
        details = (value.get("parent") or {}).get("subscription_details") or {}
        found = details.get("subscription")
    else:
        found = value.get(FIELDS.get(field, field))
    return [text_of(each) for each in (found if isinstance(found, list) else [found])
            if each is not None]


# Filters whose field has another name.
FIELDS = {"ids": "id", "types": "type", "lookup_keys": "lookup_key"}


def text_of(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(id_of(value))
