#!/usr/bin/env python3
"""Stories of objects, and what as_of() must answer of them at random times.

usage: model.py SEED STORIES MOMENTS DIRECTORY

Writes arrivals (what is delivered, in another order than it happened) and answers
(moment, type, id, object or ? for unknown) as tab-separated files.  An object that
did not exist at a moment has no answer.

A story is the true life of one object: creations, changes, deletions, lives begun
again.  Most changes are told by an event; some events are never delivered, some
changes have none, and fetches show the state at their time.  Between two things
that are delivered the state is known exactly where nothing happened that was not.
"""

import copy
import json
import random
import sys

T0 = 1735689600
rng = random.Random()
numbers = iter(range(1, 10**9))


class Happening:
    """One step of a life: what is true after it, and what is told of it."""

    def __init__(self, at, before, after, told, creates=False):
        self.at = at
        self.before = before
        self.after = after
        self.told = told  # True: an event or a fetch that is delivered
        self.creates = creates


class Story:
    def __init__(self, n):
        self.kind = rng.choice(["customer", "coupon", "subscription", "subscription"])
        self.id = {"customer": "cus_", "coupon": "co_", "subscription": "sub_"}[self.kind] + str(n)
        self.steps = []
        self.arrivals = []
        self.state = None
        self.now = rng.randint(10, 300)
        self.unseen = False  # something has happened that nobody was told
        self.live()

    # ---- states ----

    def new_state(self):
        state = {"id": self.id, "object": self.kind, "created": T0 + self.now, "name": "n%d" % next(numbers),
                 "metadata": {"plain": str(next(numbers)), "with.dot": str(next(numbers))}}
        if self.kind == "subscription":
            state["status"] = "active"
            state["items"] = {"object": "list", "has_more": False,
                              "data": [self.new_item() for _ in range(rng.randint(1, 3))]}
        return state

    def new_item(self):
        return {"id": "si_%d" % next(numbers), "object": "subscription_item", "created": T0 + self.now,
                "quantity": next(numbers), "subscription": self.id}

    def changed(self):
        state = copy.deepcopy(self.state)
        state["name"] = "n%d" % next(numbers)
        what = rng.random()
        if what < 0.2:
            state["metadata"][rng.choice(["plain", "with.dot", 'odd "key"', "later"])] = str(next(numbers))
        elif what < 0.3:
            state["metadata"].pop("later", None)
        elif what < 0.4:
            state["discount"] = None if rng.random() < 0.5 else {"percent": next(numbers), "deep": {"er": next(numbers)}}
        if self.kind == "subscription" and rng.random() < 0.6:
            self.change_items(state["items"]["data"])
        return state

    def change_items(self, items):
        what = rng.random()
        if what < 0.3 and len(items) < 4:
            items.append(self.new_item())
        elif what < 0.5 and len(items) > 1:
            items.pop(rng.randrange(len(items)))
        elif items:
            rng.choice(items)["quantity"] = next(numbers)

    # ---- what is told ----

    def event(self, name, previous=None):
        data = {"object": self.state_or_stub}
        if previous is not None:
            data["previous_attributes"] = previous
        self.arrivals.append(("event", {
            "id": "evt_%08x" % rng.getrandbits(32), "object": "event", "api_version": "2026-10-28.endive",
            "created": T0 + self.now, "type": name, "livemode": False, "data": data,
            "request": {"id": None, "idempotency_key": None}}, 0))

    def take(self, after, told, creates=False, at=None):
        self.steps.append(Happening(self.now if at is None else at, self.state, after, told, creates))
        self.state_or_stub = after if after is not None else self.state
        self.state = after
        self.unseen = not told

    def type_name(self, what):
        return ("customer.subscription." if self.kind == "subscription" else self.kind + ".") + what

    def create(self, told):
        self.take(self.new_state(), told, creates=True)
        if told:
            self.event(self.type_name("created"))

    def change(self, told):
        before = self.state
        self.take(self.changed(), told)
        if told:
            self.event(self.type_name("updated"), previous_attributes(before, self.state))

    def echo(self):
        """The same state once more, in an event that does not say what it changed."""
        self.take(self.state, True)
        self.event(self.type_name("updated"))

    def fetch(self):
        self.now += 1
        at = self.now - 0.5
        self.take(self.state, True, at=at)
        found = self.state or {"id": self.id, "object": self.kind, "deleted": True}
        self.arrivals.append(("fetch", found, at))

    def delete(self, told):
        self.take(None, told)
        if told:
            self.event(self.type_name("deleted"))

    def cancel(self):
        state = copy.deepcopy(self.state)
        state["status"] = "canceled"
        self.take(state, True)
        self.event(self.type_name("deleted"))

    # ---- a life ----

    def live(self):
        self.create(rng.random() < 0.7)
        for _ in range(rng.randint(1, 12)):
            if not self.go_on():
                break
        if self.unseen:
            self.now += rng.randint(1, 60)
            self.fetch()

    def go_on(self):
        self.now += rng.randint(1, 90)
        if self.state is None:
            return self.begin_again()
        what = rng.random()
        if what < 0.15 and self.seen_alive():
            self.fetch()
        elif what < 0.25 and self.kind != "subscription" and self.seen_alive():
            self.delete(not self.unseen and rng.random() < 0.7)
            if self.unseen and self.kind == "customer":
                self.now += rng.randint(1, 60)
                self.fetch()
        elif what < 0.3 and self.kind == "subscription" and not self.unseen:
            self.cancel()
            return False
        elif what < 0.5 and not self.unseen:
            self.burst()
        else:
            self.change(rng.random() < 0.75)
        return True

    def seen_alive(self):
        """Was anything told of it?  Of what was never seen nothing is known."""
        return any(step.told for step in self.steps) or self.kind == "subscription"

    def begin_again(self):
        if self.kind != "coupon":
            return False
        if self.unseen or rng.random() < 0.3:
            self.create(False)
            self.now += rng.randint(1, 30)
            self.fetch()
        else:
            self.create(True)
        return True

    def burst(self):
        """Several changes within one second, all of them told, or none.

        Of those that follow what nobody was told the order is not known.
        """
        told = rng.random() < 0.85
        for _ in range(rng.randint(2, 4)):
            self.change(told)
        if told and rng.random() < 0.3:
            self.echo()


def previous_attributes(before, after):
    """Stripe's: old values; of hashes what changed, of arrays all, null for absent."""
    result = {}
    for key in set(before) | set(after):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            result[key] = previous_attributes(old, new)
        else:
            result[key] = old
    return result


# ---- what is known ----

def of_item(steps, item):
    """The same life, as that of one item of the subscription."""
    def find(state):
        found = [i for i in state["items"]["data"] if i["id"] == item] if state else []
        return found[0] if found else None

    return [Happening(s.at, find(s.before), find(s.after), s.told, s.creates) for s in steps]


def known_items(steps):
    return sorted({i["id"] for s in steps if s.told and s.after for i in s.after["items"]["data"]})


def answer(steps, at):
    """The object, None where it did not exist, or "?"."""
    told = [i for i, s in enumerate(steps) if s.told]
    past = [i for i in told if steps[i].at <= at]
    coming = [i for i in told if steps[i].at > at]
    last = past[-1] if past else -1
    upcoming = coming[0] if coming else None
    unseen = [s for s in steps[last + 1:upcoming] if not s.told and s.before != s.after]

    if last < 0:
        step = steps[upcoming]
        if step.creates or (step.before is None and step.after is None):
            return None
        state = step.after or step.before
        return None if state["created"] - T0 > at else "?"
    if upcoming is None or not unseen:
        return steps[last].after
    if steps[last].after is None and steps[upcoming].after is not None \
            and steps[upcoming].after["created"] - T0 > at:
        return None
    return "?"


# ---- files ----

def main():
    seed, stories, moments, directory = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    rng.seed(seed)
    told = [s for s in (Story(n) for n in range(stories)) if s.arrivals]
    lives = []
    for story in told:
        lives.append((story.kind, story.id, story.steps))
        if story.kind == "subscription":
            lives += [("subscription_item", i, of_item(story.steps, i)) for i in known_items(story.steps)]

    arrivals = [a for s in told for a in s.arrivals]
    rng.shuffle(arrivals)
    with open(directory + "/arrivals", "w") as out:
        for n, (what, payload, at) in enumerate(arrivals):
            out.write("%d\t%s\t%s\t%s\n" % (n, what, copy_text(json.dumps(payload)), T0 + at))

    end = max(s.now for s in told) + 20
    with open(directory + "/answers", "w") as out:
        for moment in range(moments):
            at = rng.randint(0, end) + rng.choice([0, 0.25, 0.75])
            out.write("%d\t%s\t\\N\t\\N\t\\N\n" % (moment, T0 + at))
            for kind, name, steps in lives:
                state = answer(steps, at)
                if state is not None:
                    out.write("%d\t%s\t%s\t%s\t%s\n" % (
                        moment, T0 + at, kind, name, "\\N" if state == "?" else copy_text(json.dumps(state))))


def copy_text(text):
    return text.replace("\\", "\\\\")


main()
