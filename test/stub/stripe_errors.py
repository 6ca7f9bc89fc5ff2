"""stripe_errors.py: how Stripe says that something is wrong.

    raise Refused(status, message, code, param, type)
    error_answer(refused, headers)      -> Answer, {"error": {...}}
    BY_STATUS, BY_CODE                  the errors that faults ask for
"""

from http11 import Answer
from stripe_store import dumps

DOCS = "https://stripe.com/docs/error-codes/"
INVALID = "invalid_request_error"


class Refused(Exception):
    def __init__(self, status, message, code=None, param=None, kind=INVALID, headers=()):
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.kind = kind
        self.headers = headers


def error_answer(refused, headers=()):
    error = {"message": refused.message, "type": refused.kind}
    if refused.code:
        error["code"] = refused.code
        error["doc_url"] = DOCS + refused.code.replace("_", "-")
    if refused.param:
        error["param"] = refused.param
    return Answer(refused.status, dumps({"error": dict(sorted(error.items()))}),
                  "application/json", (*refused.headers, *headers),
                  refused.code or refused.kind)


def no_such(type_, object_id, param="id", status=404):
    words = type_.name.split(".")[-1]
    return Refused(status, f"No such {words}: '{object_id}'", "resource_missing", param)


def hidden(key):
    """A key as Stripe shows it."""
    return f"{key[:8]}{'*' * max(0, len(key) - 12)}{key[-4:]}"


TOO_MANY = ("Request rate limit exceeded. Learn more about rate limits here "
            "https://stripe.com/docs/rate-limits.")
LOCKED = ("This object cannot be accessed right now because another API request or Stripe "
          "process is currently accessing it. If you see this error intermittently, retry the "
          "request. If you see this error frequently and are making multiple concurrent requests "
          "to a single object, make your requests serially or at a lower rate.")
IN_USE = ("There is currently another in-progress request using this Idempotent Key (that "
          "probably means you submitted twice, and the other request is still going through). "
          "Please try again later.")
FAILED = "An unexpected error occurred. Please try again later."

# The documentation has lock_timeout with 429; 409 is what was met with in the field.
BY_CODE = {
    "rate_limit": (429, TOO_MANY, INVALID),
    "lock_timeout": (429, LOCKED, INVALID),
    "idempotency_key_in_use": (409, IN_USE, "idempotency_error"),
    "api_key_expired": (401, "Expired API Key provided: sk_test_*********", INVALID),
    "resource_missing": (404, "No such object", INVALID),
    "account_invalid": (403, "The provided key does not have access to this account (or that "
                        "account does not exist). Application access may have been revoked.",
                        INVALID),
    "card_declined": (402, "Your card was declined.", "card_error"),
}
BY_STATUS = {
    400: ("The request was unacceptable.", None, INVALID),
    401: ("Invalid API Key provided: sk_test_*********", None, INVALID),
    402: ("The parameters were valid but the request failed.", None, "card_error"),
    403: ("The provided key does not have the required permissions for this endpoint.", None,
          INVALID),
    404: ("Unrecognized request URL.", None, INVALID),
    409: (LOCKED, "lock_timeout", INVALID),
    429: (TOO_MANY, "rate_limit", INVALID),
}


def of_status(status):
    message, code, kind = BY_STATUS.get(status, (FAILED, None, "api_error"))
    return Refused(status, message, code, None, kind)


def of_code(code):
    status, message, kind = BY_CODE[code]
    return Refused(status, message, code, None, kind)
