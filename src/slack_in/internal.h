/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_SLACK_IN_INTERNAL_H
#define STRIPE_SYNC_SLACK_IN_INTERNAL_H

#include "base/base.h"
#include "base/refusal.h"
#include "inbox/secret.h"
#include "slack_in/slack_in.h"

/* ---- app.c ---- */

/* Columns of stripe_sync.slack_app_secret, as src/slack_in/slack_in.sql makes it */
enum SlackAppSecretColumn
{
	APP_SECRET_APP = 1,
	APP_SECRET_SIGNING,
	APP_SECRET_TOKEN
};

extern bool slack_app_exists(const char *name);
extern bool slack_app_refuse(const char *name, Refusal *refusal); /* SY005 */

/*
 * The signing secret, into a buffer that the caller wipes in any case.  Returns
 * its length, or 0 with the refusal (SY005, SY007).
 */
extern int slack_app_signing_secret(const char *app, SecretBuffer *buffer,
									Refusal *refusal);

/* ---- verify_slack.c ---- */

extern bool slack_verify(const char *app, const char *body, int length,
						 const text *timestamp, const text *signature,
						 TimestampTz *signed_at, Refusal *refusal);

/* ---- slack_json.c ---- */

extern bool slack_unreadable(Refusal *refusal, const char *detail);
extern bool slack_is_utf8(const char *bytes, int length);

/* What lets its holder act as the app is removed. */
extern Jsonb *slack_without_credentials(Jsonb *document);

/* Both return false with the refusal (SY004). */
extern bool slack_json_interaction(const char *payload, SlackRequest *request,
								   Refusal *refusal);
extern bool slack_json_read(const char *body, int length, SlackRequest *request,
							Refusal *refusal);

/* ---- slack_payload.c: what a verified request says ---- */

/* False with the refusal (SY004) */
extern bool slack_payload_read(const char *body, int length,
							   SlackRequest *request, Refusal *refusal);

/* Is it Slack's check of the URL, which is not signed? */
extern bool slack_payload_is_ssl_check(const char *body, int length);

#endif /* STRIPE_SYNC_SLACK_IN_INTERNAL_H */
