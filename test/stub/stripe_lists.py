"""stripe_lists.py: Stripe's lists: their parameters, their filters, their pages.

    answer_list(store, account, route, request)     -> Answer, or raises Refused

limit (1 to 100, 10 by default), starting_after, ending_before, expand[] and the
filters that the catalog gives the list.  A page is newest first, also with
ending_before, which gives the page just before its cursor.  Not established:
what Stripe says to a cursor that isn't in the list; here it is a 400.
"""

import fnmatch
import json
from bisect import bisect_left
from urllib.parse import parse_qsl

from http11 import Answer
from stripe_errors import Refused, no_such
from stripe_store import EVENT_LIFE, dumps, list_json, text_of, values_of
from stripe_types import TYPES

PAGING = {"limit", "starting_after", "ending_before", "expand"}
BOUNDS = {"gt", "gte", "lt", "lte"}
ENDED = ("canceled", "incomplete_expired")
SORTING = {"order_by"}          # taken, and without effect


class Query:
    """A query string: plain {name: value}, lists {name: [value]}, and what is
    in brackets, {name: {key: value}}."""

    def __init__(self, text):
        self.values = {}
        for name, value in parse_qsl(text, keep_blank_values=True):
            base, _, rest = name.partition("[")
            key = rest.rstrip("]")
            if not rest:
                self.values[base] = value
            elif not key or key.isdigit():
                self.place(base, []).append(value)
            else:
                self.place(base, {})[key] = value

    def place(self, base, empty):
        if not isinstance(self.values.get(base), type(empty)):
            self.values[base] = empty
        return self.values[base]

    def allow(self, names):
        for name in self.values:
            if name not in names:
                raise Refused(400, f"Received unknown parameter: {name}", "parameter_unknown",
                              name)


def answer_list(store, account, route, request):
    query = Query(request.query)
    types = route.types
    one = types[0] if route.kind == "list" else None
    query.allow(PAGING | (one.filters if one else frozenset()))
    for name in one.required if one else ():
        if name not in query.values:
            raise Refused(400, f"Missing required param: {name}.", "parameter_missing", name)
    if one:
        rows = select(store, account, one, query.values)
    else:
        rows = nested_rows(store, account, route)
    page, more = cut(rows, limit_of(query), *cursors(account, types, query))
    data = [store.render(account, row[2]) for row in page]
    for path in expansions(query):
        data = [expand(store, account, each, path) for each in data]
    return Answer(200, list_json(data, more, request.path), "application/json")


def limit_of(query):
    text = query.values.get("limit", "10")
    if not isinstance(text, str) or not text.isdigit():
        raise Refused(400, f"Invalid integer: {text}", "parameter_invalid_integer", "limit")
    if not 1 <= int(text) <= 100:
        bound = "greater than or equal to 1" if int(text) < 1 else "less than or equal to 100"
        raise Refused(400, f"This value must be {bound}.", "parameter_invalid_integer", "limit")
    return int(text)


def cursors(account, types, query):
    """The rows of starting_after and of ending_before."""
    after, before = query.values.get("starting_after"), query.values.get("ending_before")
    if after is not None and before is not None:
        raise Refused(400, "You can't use both starting_after and ending_before.", None,
                      "ending_before")      # Stripe's words: not established
    return (cursor_row(account, types, after, "starting_after"),
            cursor_row(account, types, before, "ending_before"))


def cursor_row(account, types, object_id, name):
    if object_id is None:
        return None
    for each in types:
        entry = account.of(each).by_id.get(object_id)
        if entry:
            return entry.row()
    raise no_such(types[0], object_id, name, 400)


def cut(rows, limit, after, before):
    """A page, newest first, and whether there is more in its direction."""
    if before:
        start = bisect_left(rows, before[:2])
        start += start < len(rows) and rows[start][1] == before[1]
        return rows[start:start + limit][::-1], start + limit < len(rows)
    end = bisect_left(rows, after[:2]) if after else len(rows)
    start = max(0, end - limit)
    return rows[start:end][::-1], start > 0


def nested_rows(store, account, route):
    if route.parent and route.id not in account.of(route.parent).by_id:
        raise no_such(route.parent, route.id)
    return store.children(account, [each.name for each in route.types], route.id)


# ---- filters ----

def select(store, account, type_, wanted):
    """The rows, oldest first, that a list's filters leave."""
    collection = account.of(type_)
    rows = None
    for name in wanted.keys() - PAGING - SORTING - {"created"}:
        found = FILTERS.get((type_.name, name), plain_filter)(collection, name, wanted[name])
        rows = found if rows is None else both(rows, found)
    if type_.name == "subscription" and "status" not in wanted:
        found = by_status(collection, lambda each: each != "canceled")
        rows = found if rows is None else both(rows, found)
    if rows is None:
        rows = collection.rows
    low, high = created_range(wanted.get("created"))
    if type_.name == "event":
        low = max(low or 0, int(store.now()) - EVENT_LIFE)
    return within(rows, low, high)


def plain_filter(collection, name, value):
    if isinstance(value, dict):
        return scanned(collection, name, value)
    if name not in collection.type.fields and not known_index(collection, name):
        return collection.owned.get(value, [])
    index = collection.index(name)
    return merged(index.get(each, ()) for each in (value if isinstance(value, list) else [value]))


def known_index(collection, name):
    """Is there any object that has what the filter asks for?"""
    return name in ("ids", "types", "lookup_keys", "subscription") and collection.index(name)


def merged(found):
    found = [rows for rows in found if rows]
    return found[0] if len(found) == 1 else sorted({row for rows in found for row in rows})


def both(rows, others):
    numbers = {row[1] for row in others}
    return [row for row in rows if row[1] in numbers]


def scanned(collection, name, wanted):
    """Times other than created, and filters in brackets: one look at each object."""
    if set(wanted) <= BOUNDS:
        low, high = created_range(wanted, name)
        return [row for row in collection.rows
                if in_range(json.loads(row[2].body).get(name), low, high)]
    return [row for row in collection.rows if has_all(json.loads(row[2].body).get(name), wanted)]


def in_range(value, low, high):
    return (isinstance(value, int) and (low is None or value >= low)
            and (high is None or value < high))


def has_all(value, wanted):
    return isinstance(value, dict) and all(text_of(value.get(key)) == each
                                           for key, each in wanted.items())


def created_range(wanted, name="created"):
    """From low to just before high; a plain value is that very second."""
    if wanted is None:
        return None, None
    if not isinstance(wanted, dict):
        second = seconds(wanted, name)
        return second, second + 1
    low = high = None
    for bound, text in wanted.items():
        if bound not in BOUNDS:
            raise Refused(400, f"Received unknown parameter: {name}[{bound}]",
                          "parameter_unknown", f"{name}[{bound}]")
        second = seconds(text, f"{name}[{bound}]")
        if bound in ("gt", "gte"):
            low = max(low or 0, second + (bound == "gt"))
        else:
            end = second + (bound == "lte")
            high = end if high is None else min(high, end)
    return low, high


def seconds(text, name):
    if not isinstance(text, str) or not text.lstrip("-").isdigit():
        raise Refused(400, f"Invalid integer: {text}", "parameter_invalid_integer", name)
    return int(text)


def within(rows, low, high):
    start = bisect_left(rows, (low,)) if low is not None else 0
    end = bisect_left(rows, (high,)) if high is not None else len(rows)
    return rows if (start, end) == (0, len(rows)) else rows[start:end]


def by_status(collection, wanted):
    return merged(rows for status, rows in collection.index("status").items() if wanted(status))


def subscription_status(collection, _name, value):
    if value == "all":
        return collection.rows
    return by_status(collection, ENDED.__contains__ if value == "ended" else value.__eq__)


def event_type(collection, _name, value):
    """One, some (types[]), or a group with an asterisk."""
    patterns = value if isinstance(value, list) else [value]
    if len(patterns) > 20:
        raise Refused(400, "You may only specify up to 20 types.", None, "types")
    return merged(rows for name, rows in collection.index("type").items()
                  if any(fnmatch.fnmatchcase(name, each) for each in patterns))


def delivery_success(collection, _name, value):
    if value not in ("true", "false"):
        raise Refused(400, f"Invalid boolean: {value}", "parameter_invalid_boolean",
                      "delivery_success")
    return [row for row in collection.rows if row[2].delivered == (value == "true")]


FILTERS = {("subscription", "status"): subscription_status, ("event", "type"): event_type,
           ("event", "types"): event_type, ("event", "delivery_success"): delivery_success}


# ---- expansion ----

def expansions(query):
    """Without "data."; one level of it is what there is here."""
    found = query.values.get("expand", [])
    if not isinstance(found, list):
        raise Refused(400, "Invalid array", None, "expand")
    return [path.removeprefix("data.") for path in found]


def expand(store, account, body, path):
    value = json.loads(body)
    type_ = TYPES[value["object"]]
    field = type_.fields.get(path)
    page = next((each for each in type_.pages if each.field == path), None)
    if page:
        entry = account.of(type_).by_id[value["id"]]
        value[path] = json.loads(store.page_within(account, entry, page))
    elif field and field["kind"] == "reference":
        for name in field["ref"]:
            entry = account.of(TYPES[name]).by_id.get(value.get(path)) if name in TYPES else None
            if entry:
                value[path] = json.loads(store.render(account, entry))
    else:
        raise Refused(400, f"This property cannot be expanded ({path}).", None, "expand")
    return dumps(value)
