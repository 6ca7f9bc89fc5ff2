/*
 * inbox.h
 *		Stored events: who may send them, what they are, their rows.
 */
#ifndef STRIPE_SYNC_INBOX_H
#define STRIPE_SYNC_INBOX_H

#include "base/base.h"
#include "lib/stringinfo.h"
#include "base/refusal.h"
#include "inbox/event.h"

/* ---- verify.c ---- */

typedef struct Endpoint
{
	char *name;
	bool has_livemode;
	bool livemode;
	int64 tolerance; /* seconds, or SIGNATURE_NO_TOLERANCE */
	char *account;	 /* whose events they are; "" for one's own */
	bool mode_learned;
} Endpoint;

extern bool endpoint_verify(const Endpoint *endpoint, const char *payload,
							int length, text *signature, Refusal *refusal);
extern char *endpoint_sign(const Endpoint *endpoint, const char *payload,
						   int length, int64 at);

/* ---- request_header.c ---- */

extern text *request_header(Jsonb *headers, const char *name);

/* ---- endpoint.c ---- */

extern bool endpoint_find(const char *name, Endpoint *endpoint,
						  Refusal *refusal);
extern int64 endpoint_seconds(const Interval *interval);
extern void endpoint_check_interval(const Interval *interval, const char *what);

/* ---- endpoint_mode.c ---- */

typedef enum ModeVerdict
{
	MODE_FITS,
	MODE_REFUSED,
	MODE_HELD /* stored as "ignored" until the endpoint's mode is set */
} ModeVerdict;

extern ModeVerdict endpoint_mode_judge(Endpoint *endpoint, const Event *event);
extern char *endpoint_mode_reason(const Endpoint *endpoint, const Event *event);
extern bool endpoint_mode_is_anothers(const Endpoint *endpoint,
									  const Event *event, Refusal *refusal);
extern bool endpoint_mode_refuse(const Endpoint *endpoint, const Event *event,
								 Refusal *refusal);
extern void endpoint_mode_check(const char *name, const char *account);

/* ---- account.c ---- */

extern bool account_is_stripes(const char *path);
extern void account_check_endpoints(const char *account); /* raises 22023 */
extern void account_check(const char *account);			  /* likewise */
extern const char *account_below(const char *path, const char *own);
extern char *account_join(const char *own, const char *named);
extern char *account_above(const char *path);
extern const char *account_stripe_id(const char *path);
extern const char *account_words(const char *account);
extern char *account_owner(const char *account);
extern bool account_mode(const char *account, bool *live);

/* ---- event_error.c ---- */

extern void record_failure(const Event *event, const char *step,
						   const ErrorData *error);
extern void record_recovery(const Event *event, const char *step);
extern void record_handler_dropped(text *handler);
extern bool record_is_failing(const char *step, const char *sqlstate,
							  const char *event_type, const char *account);

/* ---- handler_run.c ---- */

extern void record_run(struct StringInfoData *runs, const char *handler,
					   TimestampTz started, double milliseconds,
					   const ErrorData *error);
extern void record_runs(const Event *event, struct StringInfoData *runs,
						bool is_new);

#endif /* STRIPE_SYNC_INBOX_H */
