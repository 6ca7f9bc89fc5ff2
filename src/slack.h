/*
 * slack.h
 *		Slack's answers, judged.  Pure C, like signature.h: to be fuzzed
 *		without a server.
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

typedef enum SlackMethod
{
	SLACK_WEBHOOK,		/* plain text answers */
	SLACK_POST_MESSAGE, /* JSON, ok: false with 200 */
	SLACK_UPDATE,
	SLACK_AUTH_TEST
} SlackMethod;

#define SLACK_CODE_SIZE 128

typedef struct SlackJudgement
{
	SlackVerdict verdict;
	char code[SLACK_CODE_SIZE]; /* Slack's own, or http_<status>, ... */
	char ts[64];				/* of chat.postMessage, "" otherwise */
	char channel[64];
} SlackJudgement;

/*
 * Judge an answer that came whole: HTTP status and body.  Faults of the
 * connection are the caller's: always SLACK_RETRY.
 */
extern void slack_judge(SlackMethod method, int status, const char *body,
						size_t length, SlackJudgement *judgement);
extern const char *slack_verdict_name(SlackVerdict verdict);

#endif /* STRIPE_SYNC_SLACK_H */
