"""stripe_service.py: Stripe's API as the server knows it: who may ask what, and
what is answered.

    GET  every list, nested list, object and singleton of the catalog
    GET  /v1/events, /v1/events/{id}        30 days of them
    POST /v1/webhook_endpoints, /v1/webhook_endpoints/{id}; DELETE that (stripe_webhooks.py)
    POST /v1/invoiceitems                   (stripe_invoiceitems.py)

Every other path or method is a 404 as Stripe's, every unknown parameter a 400.

Keys: every one that looks like one (sk_test_, rk_test_, sk_live_, rk_live_) is
good, but those that hold "wrong" or "revoked" or "expired", and what the
control interface said of it.  A restricted one (rk_) reads everything and
writes nothing until told otherwise.  One that is told to be an "account"'s is read
with as that account where no header names another.  Both modes see the same objects.

Stripe-Account, or the last of Stripe-Context, is one of the accounts there are, else 403.  Stripe-Version must
look like one; which it is changes nothing.  Not established: the status of an
unknown version (400 here) and the code of a revoked key (as an expired one).
"""

import base64
import binascii
import hashlib
import re
from email.utils import formatdate

import stripe_invoiceitems
import stripe_webhooks
from faults import ONLY_SLOW, delivers
from http11 import Answer, json_answer
from stripe_errors import Refused, error_answer, hidden, no_such, of_status
from stripe_faults import FAULTS
from stripe_lists import Query, answer_list, expand, expansions
from stripe_objects import Maker, singleton
from stripe_store import EVENT_LIFE, Store, dumps
from stripe_types import TYPES, route

WRITES = {**stripe_webhooks.WRITES, **stripe_invoiceitems.WRITES}
KEY = re.compile(r"[sr]k_(test|live)_[A-Za-z0-9_]+")
VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(\.[a-z]+)?(; ?[a-z_]+=v\d+)*")
PLATFORM = "acct_1StubPlatform0000"
WRONG = {"wrong": "invalid", "revoked": "revoked", "expired": "expired"}


def asked_account(request):
    context = request.headers.get("stripe-context", "")
    return context.split("/")[-1] or request.headers.get("stripe-account", "")


class Stripe(Store):
    name = "stripe-stub"
    journal_headers = ("host", "user-agent", "content-type", "content-length", "authorization",
                       "stripe-version", "stripe-account", "stripe-context", "idempotency-key",
                       "connection", "accept", "accept-encoding")
    max_journaled = 300
    broken_json = b'{"object":"list","data":[{"id":"cus_'
    json_kind = "application/json"
    fault_extras = frozenset()

    def __init__(self):
        self.fault_answers = {kind: self.fault_with(answer) for kind, answer in FAULTS.items()}
        super().__init__()

    def reset(self):
        super().reset()
        self.maker = Maker(self)
        self.keys = {}          # {key or "*": what is wrong with it, or what it may}
        self.replays = {}       # {(key, account, idempotency key): (request, answer)}
        self.secrets = {}       # {id of a webhook endpoint: its secret}
        self.pages = {}         # {account: {target: {"asked", "answered"}}}
        self.date = (None, "")

    # ---- what the server asks ----

    def headers(self, request, _answer, request_id):
        headers = [("server", self.name), ("date", self.http_date()),
                   ("request-id", f"req_{request_id[-14:]}"),
                   ("stripe-version", request.headers.get("stripe-version", self.api_version))]
        if request.method == "POST" and "idempotency-key" in request.headers:
            headers.append(("idempotency-key", request.headers["idempotency-key"]))
        return headers

    def http_date(self):
        second = int(self.now())
        if self.date[0] != second:
            self.date = (second, formatdate(second, usegmt=True))
        return self.date[1]

    def counts(self):
        return {"objects": sum(len(each.rows) for account in self.accounts.values()
                               for each in account.collections.values())}

    def received(self, request, _reply):
        if request.method == "GET":
            self.page_of(request)["asked"] += 1

    def settled(self, request, reply, whole):
        good = whole and reply.status == 200 and set(reply.fault or ()) <= ONLY_SLOW
        if request.method == "GET" and good:
            self.page_of(request)["answered"] += 1

    def page_of(self, request):
        pages = self.pages.setdefault(asked_account(request), {})
        target = f"{request.path}?{request.query}" if request.query else request.path
        return pages.setdefault(target, {"asked": 0, "answered": 0})

    def place(self, request, spec):
        account = asked_account(request)
        return (account, request.path) if spec.get("per") == "list" else account

    def limited(self, _request, headers, spec):
        reason = spec.get("reason") or (
            "endpoint-rate" if spec.get("per") == "list" else "global-rate")
        said = {name.lower() for name, _ in headers}
        if "stripe-rate-limited-reason" not in said:
            headers = (*headers, ("stripe-rate-limited-reason", reason))
        return error_answer(of_status(429), headers)

    # ---- what faults ask ----

    def wants_answer(self, fault, request):
        return request.method == "GET" or delivers(fault)

    def words(self, request):
        return request.body.decode("utf-8", "replace")

    def good_answer(self, _request):
        return json_answer({})

    def json_answer(self, value, status=200, headers=()):
        return Answer(status, dumps(value), self.json_kind, headers)

    def status_answer(self, status, headers, _request):
        return error_answer(of_status(status), headers)

    def fault_with(self, answer_fault):
        return lambda fault, request, answer: answer_fault(fault, request, answer, self)

    # ---- what the journal asks ----

    def describe(self, request, _reply):
        return {"request_id": f"req_{request.id[-14:]}"}

    def show_header(self, name, value):
        """A key is known by its beginning and a hash."""
        if name != "authorization":
            return value
        scheme, _, key = value.partition(" ")
        return f"{scheme} {key[:8]}#{hashlib.sha256(key.encode()).hexdigest()[:8]}"

    # ---- who may ----

    def answer(self, request):
        try:
            key = self.check_key(request)
            self.check_version(request)
            account = self.account_of(request, key)
            found = route(request.path)
            if not found:
                raise unknown_url(request)
            self.check_rights(request, key, account)
            if request.method == "GET":
                return self.read(request, account, found)
            return self.write(request, key, account, found)
        except Refused as refused:
            return error_answer(refused)

    def check_key(self, request):
        key = key_of(request)
        if not key:
            raise unauthorized("You did not provide an API key. You need to provide your API key "
                               "in the Authorization header, using Bearer auth (e.g. "
                               "'Authorization: Bearer YOUR_SECRET_KEY').")
        said = self.keys.get(key, self.keys.get("*"))
        if said is None or not KEY.fullmatch(key):
            said = next((wrong for word, wrong in WRONG.items() if word in key), None)
            said = said if KEY.fullmatch(key) else "invalid"
        if said in ("revoked", "expired"):
            raise unauthorized(f"Expired API Key provided: {hidden(key)}", "api_key_expired")
        if said == "invalid":
            raise unauthorized(f"Invalid API Key provided: {hidden(key)}")
        return key

    def check_version(self, request):
        version = request.headers.get("stripe-version")
        if version is not None and not VERSION.fullmatch(version):
            raise Refused(400, f"Invalid Stripe API version: {version}")

    def account_of(self, request, key):
        rights = self.keys.get(key)
        own = rights.get("account", "") if isinstance(rights, dict) else ""
        name = asked_account(request) or own
        if name in ("", PLATFORM):
            return self.accounts[""]
        if name not in self.accounts and name not in self.accounts[""].of(TYPES["account"]).by_id:
            raise Refused(403, f"The provided key '{hidden(key)}' does not have access to account "
                          f"'{name}' (or that account does not exist). Application access may "
                          "have been revoked.", "account_invalid")
        return self.account(name)

    def check_rights(self, request, key, account):
        rights = self.keys.get(key)
        rights = rights if isinstance(rights, dict) else {}
        allow, deny = rights.get("allow"), rights.get("deny", ())
        write = rights.get("write", key.startswith("sk_"))
        allowed = allow is None or any(re.search(each, request.path) for each in allow)
        if (not allowed or any(re.search(each, request.path) for each in deny)
                or request.method != "GET" and not write):
            what = request.path.split("/")[2].rstrip("s")
            verb = "read" if request.method == "GET" else "write"
            raise Refused(403, f"The provided key '{hidden(key)}' does not have the required "
                          f"permissions for this endpoint on account '{account.name or PLATFORM}'. "
                          f"Having the 'rak_{what}_{verb}' permission would allow this request "
                          "to continue.")

    # ---- what is read ----

    def read(self, request, account, found):
        if found.kind in ("list", "nested"):
            return answer_list(self, account, found, request)
        query = Query(request.query)
        query.allow({"expand"})
        body = self.object(account, found)
        for path in expansions(query):
            body = expand(self, account, body, path)
        return Answer(200, body, self.json_kind)

    def object(self, account, found):
        if found.kind == "singleton":
            return self.singleton(account, found)
        if found.kind == "child":
            return self.child(account, found)
        type_ = found.types[0]
        if type_.name == "account" and found.id == (account.name or PLATFORM):
            return self.singleton(account, route("/v1/account"))
        collection = account.of(type_)
        entry = collection.by_id.get(found.id)
        if entry and not (type_.name == "event" and entry.created < self.now() - EVENT_LIFE):
            return self.render(account, entry)
        if collection.deleted.get(found.id):
            return dumps({"id": found.id, "object": type_.name, "deleted": True})
        raise no_such(type_, found.id)

    def child(self, account, found):
        for each in found.types:
            entry = account.of(each).by_id.get(found.child)
            if entry and entry.owner == found.id:
                return self.render(account, entry)
        raise no_such(found.types[0], found.child)

    def singleton(self, account, found):
        type_ = found.types[0]
        if type_.name == "account":
            entry = self.accounts[""].of(type_).by_id.get(account.name)
            if entry:
                return self.render(self.accounts[""], entry)
        if found.id and found.id not in account.of(TYPES["customer"]).by_id:
            raise no_such(TYPES["customer"], found.id)
        return singleton(self, account, type_, found.id)

    # ---- what is written ----

    def write(self, request, key, account, found):
        """Once for each idempotency key; an error of Stripe's own isn't kept."""
        call = WRITES.get((request.method, found.types[0].name, found.kind))
        if not call:
            raise unknown_url(request)
        wish = request.headers.get("idempotency-key") if request.method == "POST" else None
        if not wish:
            return call(self, account, found, request)
        what = (request.path, request.query, request.body)
        known, answer = self.replays.get((key, account.name, wish), (what, None))
        if known != what:
            raise Refused(400, "Keys for idempotent requests can only be used with the same "
                          "parameters they were first used with. Try using a key other than "
                          f"'{wish}' if you meant to execute a different request.", None, None,
                          "idempotency_error")
        if answer:
            return Answer(answer.status, answer.body, answer.kind,
                          (*answer.headers, ("idempotent-replayed", "true")), answer.code)
        answer = call(self, account, found, request)
        original = ("original-request", f"req_{request.id[-14:]}")
        answer.headers = (*answer.headers, original)
        self.replays[key, account.name, wish] = (what, answer)
        return answer


def key_of(request):
    """The key, as a bearer's or as Basic's user."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            pass
    return ""


def unauthorized(message, code=None):
    return Refused(401, message, code, headers=(("www-authenticate", 'Bearer realm="Stripe"'),))


def unknown_url(request):
    return Refused(404, f"Unrecognized request URL ({request.method}: {request.path}). Please see "
                   "https://stripe.com/docs or we can help at https://support.stripe.com/.")
