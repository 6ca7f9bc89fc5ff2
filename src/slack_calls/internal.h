/*
 * internal.h
 *		What the files of this folder share.
 */
#ifndef STRIPE_SYNC_SLACK_CALLS_INTERNAL_H
#define STRIPE_SYNC_SLACK_CALLS_INTERNAL_H

#include "lib/ilist.h"
#include "lib/stringinfo.h"

#include "base/base.h"
#include "http/http.h"
#include "outbox/slack.h"
#include "slack_calls/slack_calls.h"

#define CALL_MOST_USES 5 /* of a response_url */

/* A row of stripe_sync.slack_call that this process has claimed */
typedef struct SlackCall
{
	dlist_node node;	  /* in one of slack_call_send.c's lists */
	MemoryContext memory; /* holds all of it, outside of any transaction */

	/* what was claimed */
	int64 id;
	int64 interaction;
	int attempt;
	bool is_view;
	bool used_up; /* its response_url was used CALL_MOST_USES times before */
	TimestampTz expires_at;
	char *app;
	char *payload; /* JSON, an object */
	char *secret;  /* response_url or token: wiped by call_free(); NULL: none */
	char *trigger; /* trigger_id, wiped too */
	char *trouble; /* why there is no token */

	/* result */
	bool unsent; /* no request was made: the attempt is not counted */
	SlackJudgement judgement;
	int status;		  /* HTTP's, 0: none */
	long retry_after; /* seconds, -1: none */
} SlackCall;

/* ---- slack_call_claim.c ---- */

extern void call_free(SlackCall *call);
extern void call_judge_unsent(SlackCall *call, SlackVerdict verdict,
							  const char *code);
extern List *calls_claim(int room, TimestampTz *next);
extern List *calls_of_dead_senders(bool (*is_mine)(int64 id));

/* ---- slack_call_request.c ---- */

extern char *call_request(const SlackCall *call, HttpRequest *request,
						  StringInfo body, StringInfo header);
extern void call_judge(SlackCall *call, const HttpAnswer *answer);

/* ---- slack_call_settle.c ---- */

extern void call_settle(SlackCall *call);
extern void call_secrets_expire(void);

/* ---- slack_group_members.c ---- */

/* A user group of an app, whose members are read */
typedef struct SlackGroup
{
	MemoryContext memory; /* holds all of it */
	char *group;
	char *app;
	char *token;   /* wiped by group_free(); NULL: none */
	char *trouble; /* why there is none */

	/* result */
	SlackJudgement judgement;
	char *body; /* allocated by malloc(), or NULL */
	size_t length;
	long retry_after;
} SlackGroup;

extern void group_free(SlackGroup *group);
extern void groups_refresh(void);
extern SlackGroup *group_take_due(void);
extern TimestampTz groups_next(void);
extern void group_settle(SlackGroup *group);

#endif /* STRIPE_SYNC_SLACK_CALLS_INTERNAL_H */
