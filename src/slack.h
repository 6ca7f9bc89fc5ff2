/*
 * slack.h
 *		Slack's answers, judged.  slack.c is pure C, like signature.c: to be
 *		fuzzed without a server.
 */
#ifndef STRIPE_SYNC_SLACK_H
#define STRIPE_SYNC_SLACK_H

#include <stdbool.h>
#include <stddef.h>

typedef enum SlackVerdict
{
	SLACK_SENT,
	SLACK_RETRY,
	SLACK_MESSAGE_BAD,		/* this message never; others may */
	SLACK_DESTINATION_DEAD, /* the channel or webhook takes nothing more */
	SLACK_CREDENTIAL_DEAD	/* the token or webhook is void */
} SlackVerdict;

#define SLACK_CODE_SIZE 128

typedef struct SlackJudgement
{
	SlackVerdict verdict;
	char code[SLACK_CODE_SIZE]; /* Slack's own, or http_<status>, ... */
	char ts[64];				/* of chat.postMessage, "" otherwise */
	char channel[64];
} SlackJudgement;

#define SLACK_VALUE_SIZE 256 /* of a string that matters; the rest is cut off */

/* What the top level of the Web API's answer says; "" for a missing string. */
typedef struct SlackAnswer
{
	bool readable; /* the body is a JSON object */
	bool has_ok;   /* with a boolean "ok" */
	bool ok;
	char error[SLACK_VALUE_SIZE];
	char ts[SLACK_VALUE_SIZE];
	char channel[SLACK_VALUE_SIZE];
} SlackAnswer;

/*
 * Judge an answer that came whole: HTTP status and body.  Faults of the
 * connection are judged by the caller.
 */
extern void slack_judge_webhook(int status, const char *body, size_t length,
								SlackJudgement *judgement);
extern void slack_judge_api(int status, const SlackAnswer *answer,
							SlackJudgement *judgement);
extern const char *slack_verdict_name(SlackVerdict verdict);

/* ---- in slack_answer.c, which is not pure C ---- */
extern void slack_answer_read(SlackAnswer *answer, const char *body,
							  size_t length);

#endif /* STRIPE_SYNC_SLACK_H */
