/*
 * slack.h
 *		Slack's answers: read, and judged.
 *
 * Includes none of the server's headers: slack_judge.c is fuzzed without a server.
 */
#ifndef STRIPE_SYNC_SLACK_H
#define STRIPE_SYNC_SLACK_H

#include <stdbool.h>
#include <stddef.h>

typedef enum SlackVerdict
{
	SLACK_SENT,
	SLACK_RETRY,
	SLACK_MESSAGE_BAD,		/* Slack rejects this message; others may pass */
	SLACK_DESTINATION_DEAD, /* the channel or webhook accepts no messages */
	SLACK_CREDENTIAL_DEAD	/* the token or webhook URL is invalid */
} SlackVerdict;

#define SLACK_CODE_SIZE 128

#define SLACK_INVALID_BLOCKS                                                   \
	"invalid_blocks" /* also for unknown kinds of them */

typedef struct SlackJudgement
{
	SlackVerdict verdict;
	char code[SLACK_CODE_SIZE]; /* Slack's, or ours: http_<status>, timeout, ... */
	char ts[64]; /* identifies a message that was posted by a bot, else "" */
	char channel[64];
} SlackJudgement;

#define SLACK_VALUE_SIZE 256 /* longer strings are cut off */

/* Members of the object that the Web API answers with; "" for a missing string */
typedef struct SlackAnswer
{
	bool readable; /* the body is a JSON object */
	bool has_ok;   /* it has a boolean "ok" */
	bool ok;
	char error[SLACK_VALUE_SIZE];
	char ts[SLACK_VALUE_SIZE];
	char channel[SLACK_VALUE_SIZE];
} SlackAnswer;

/* ---- in slack_judge.c: what an answer means; pure C ---- */

/*
 * Judge a complete answer from its HTTP status and body.  Faults of the connection
 * are judged by the caller.
 */
extern void slack_judge_webhook(int status, const char *body, size_t length,
								SlackJudgement *judgement);
extern void slack_judge_api(int status, const SlackAnswer *answer,
							SlackJudgement *judgement);
extern const char *slack_verdict_name(SlackVerdict verdict);

/* ---- in slack_answer.c: the answer's JSON; uses the server's jsonb ---- */

/* Never raises an error: a body that isn't a JSON object is not readable. */
extern void slack_answer_read(SlackAnswer *answer, const char *body,
							  size_t length);

#endif /* STRIPE_SYNC_SLACK_H */
