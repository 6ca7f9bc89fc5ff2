/*
 * base.h
 *		PostgreSQL's facilities made convenient; knows neither Stripe nor Slack.
 */
#ifndef STRIPE_SYNC_BASE_H
#define STRIPE_SYNC_BASE_H

#include "access/genam.h"
#include "access/tupdesc.h"
#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/elog.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"

/* ---- settings.c ---- */

extern int guc_max_payload; /* bytes */
extern int guc_max_attempts;
extern int guc_handler_timeout; /* milliseconds, 0 is off */
extern int guc_message_attempts;
extern int guc_max_connections;
extern int guc_http_timeout;  /* milliseconds */
extern double guc_slack_rate; /* messages a second and destination, 0 is off */
extern int guc_slack_burst;
extern int guc_max_alerts_per_hour;
extern int guc_doctor_interval;		   /* seconds, 0 is off */
extern int guc_doctor_transaction_age; /* milliseconds */
extern int guc_escalate_after;		   /* seconds, 0 is off */
extern int guc_retention;			   /* minutes, 0 is off */
extern int guc_coalesce_burst;
extern double guc_stripe_rate;	   /* requests a second */
extern int guc_stripe_timeout;	   /* milliseconds, 0 is http_timeout */
extern int guc_reconcile_interval; /* seconds, 0 is off */
extern char *guc_api_version;	   /* "" is the catalog's */
extern char *guc_stripe_api_base;
extern char *guc_slack_api_base;
extern char *guc_slack_hosts;
extern char *guc_ca_file; /* "" is the system's */
extern bool guc_outbound;
extern bool guc_allow_plain_http;
extern char *guc_history_types;
extern char *guc_instance_name; /* "": none */
extern bool guc_slack_personal;
extern bool (*guc_history_types_fit)(const char *types); /* in history */
extern void guc_define(void);

/* ---- argument.c ---- */

extern void argument_required(FunctionCallInfo fcinfo, int number,
							  const char *what); /* raises 22004 */

/* ---- json.c ---- */

extern Jsonb *json_parse(const char *bytes, int length);
extern const char *json_skip(const char *p, const char *end);
extern bool json_too_deep(const char *bytes, int length, int limit);
extern bool json_get(JsonbContainer *object, const char *key, JsonbValue *value);
extern char *json_get_string(JsonbContainer *object, const char *key);
extern JsonbContainer *json_get_object(JsonbContainer *object, const char *key);
extern bool json_to_int64(const JsonbValue *value, int64 *result);
extern bool json_is_object(const JsonbValue *value);
extern Jsonb *json_standalone(JsonbContainer *container);

/* ---- json_compare.c ---- */

extern bool json_same(JsonbContainer *a, JsonbContainer *b);
extern bool json_value_same(const JsonbValue *a, const JsonbValue *b);
extern bool json_overlay_same(JsonbContainer *after, JsonbContainer *previous,
							  JsonbContainer *before);
extern bool json_describes(JsonbContainer *previous, JsonbContainer *before);

#endif /* STRIPE_SYNC_BASE_H */
